"""`normbench report claims`: what the runs here say of what the papers claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from normbench.errors import UserError
from normbench.record.record import write_atomically
from normbench.report import facts, html
from normbench.report.claims import studies
from normbench.report.claims.show import NOTE, draw, table
from normbench.report.claims.verdicts import Finding, findings, section_of
from normbench.report.document import Figure
from normbench.report.evaluations import answers_of
from normbench.report.formats import csv_of, markdown_table
from normbench.report.frames import read, runs_of
from normbench.report.store import compact
from normbench.report.tables import Table
from normbench.report.terminal import plain_console, rich_table
from normbench.report.values import text
from normbench.words import Words, one_of, several

TITLE = "What the papers claim, and what the runs here say"


def run(arguments: Sequence[str]) -> int:
    """The command; the exit code. UserError for an unknown key or study."""
    keys = {"study": several(one_of(studies())), "results": Path, "out": Path}
    given = Words("report claims", keys).read(arguments).values
    results, names = given.get("results", Path("results")), given.get("study", studies())
    found, tables = [], []
    for name in names:
        frames = compact(read([runs_of(results, name)]))
        section = section_of(name, frames.runs, frames.evaluations)
        some = findings(name, section, answers_of(frames.runs, frames.evaluations))
        found += some
        if any(one.measured for one in some):
            about = facts.recipe(section) + " " + facts.protocol(section.context)
            tables.append(table(name, some, about))
    write(found, tables, given.get("out", results))
    show(found, tables)
    return 0


def tally(found: Sequence[Finding]) -> str:
    """How many claims have which verdict: `43 claims: 12 hold, 5 opposite, ...`."""
    count = Counter(one.verdict for one in found)
    each = [f"{count[word]} {word}" for word in ("holds", "opposite", "unclear", "not run")]
    return f"{len(found)} tests of claims: {', '.join(each)}"


def write(found: Sequence[Finding], tables: Sequence[Table], out: Path) -> None:
    """claims.md, claims.csv, and where anything was measured the figure and claims.html."""
    lines = [f"# {TITLE}", "", tally(found) + ".", "", NOTE]
    for made in tables:
        lines += ["", f"## {made.title}", "", *markdown_table(made), "", made.note]
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "claims.md", "\n".join(lines) + "\n")
        rows = [row for made in tables for row in made.tidy]
        write_atomically(out / "claims.csv", csv_of(rows, shown))
        if tables:
            drawn = figure_of(found)
            (out / "figure_claims.svg").write_bytes(drawn.files["svg"])
            parts = [html.figure(drawn), *map(html.table, tables)]
            notes = [tally(found) + ".", NOTE]
            write_atomically(out / "claims.html", html.page(TITLE, notes, parts))
    except OSError as error:
        raise UserError(f"out={out}: {error.strerror}; choose another with out=DIR") from None


def figure_of(found: Sequence[Finding]) -> Figure:
    """The drawn figure, as SVG."""
    from matplotlib.style import context

    from normbench.report.figures.style import RULES, saved

    with context(RULES, after_reset=True):
        return saved("claims", *draw(found), kinds=["svg"])


def shown(value: object) -> str:
    """A value as it is typed; of a number the six digits that no machine computes otherwise."""
    return f"{value:.6g}" if isinstance(value, float) else text(value)


def show(found: Sequence[Finding], tables: Sequence[Table]) -> None:
    """The same in the terminal, without the columns that make it wide."""
    console = plain_console()
    for made in tables:
        keep = [i for i, head in enumerate(made.header) if head not in ("source", "contrast")]
        rows = [[row[i] for i in keep] for row in made.rows]
        console.print(made.title, style="bold")
        console.print(rich_table(Table("", [made.header[i] for i in keep], rows, 1)))
        console.print(made.note, style="dim", soft_wrap=True)
        console.print()
    console.print(tally(found))
