"""Markdown, CSV and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

from normbench.report.document import Document
from normbench.report.tables import Table
from normbench.report.values import text


def as_markdown(document: Document) -> str:
    """table.md: what GitHub shows."""
    lines = [f"# {document.experiment.title}"]
    for part in document.parts:
        lines += ["", f"## {part.heading}"] if part.heading else []
        for fact in part.facts:
            lines += ["", fact]
        for note in [] if part.heading else document.experiment.notes:
            lines += ["", f"> {note}"]
        for table in part.shown:
            lines += ["", f"### {table.title}", "", *markdown_table(table)]
            lines += ["", table.note] if table.note else []
    return "\n".join(lines) + "\n"


def markdown_table(table: Table) -> list[str]:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = ["---" if i < table.heads else "---:" for i in range(len(table.header))]
    return [line(table.header), line(rule), *(line(row) for row in table.rows)]


def as_csv(document: Document) -> str:
    """table.csv: one line a number, with the settings of its cell and, if published, its source."""
    return tidy((part.heading, table) for part in document.parts for table in part.tables)


def learned_csv(document: Document) -> str:
    """table_learned.csv: the same of what the norms learned; empty where there is nothing."""
    return tidy((part.heading, table) for part in document.parts for table in part.learned)


def tidy(tables: Iterable[tuple[str, Table]]) -> str:
    """The numbers of tables with the headings of their sections, as CSV."""
    rows = [
        {"section": heading, "table": table.title, **row}
        for heading, table in tables
        for row in table.tidy
    ]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    words = pd.DataFrame({key: [text(row.get(key)) for row in rows] for key in keys})
    return words.to_csv(index=False, lineterminator="\n") if rows else ""


ESCAPES = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": r"$-$",
    "–": "--",
    "…": r"\dots{}",
    "σ": r"$\sigma$",
    "μ": r"$\mu$",
    "ρ": r"$\rho$",
    "τ": r"$\tau$",
    "ε": r"$\varepsilon$",
    "<": r"$<$",
    ">": r"$>$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "√": r"$\surd$",
}


def latex_text(value: str) -> str:
    """Text as LaTeX; a character without a name there becomes a question mark."""
    escaped = "".join(ESCAPES.get(c, c if ord(c) < 256 else "?") for c in value)
    return re.sub(r"(?<=[/_])(?=\w)", r"\\allowbreak ", escaped)


def as_latex(document: Document) -> str:
    """table.tex: compiles as it is; each tabular can be copied into a paper that uses booktabs."""
    head = r"""\documentclass{article}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs}
\begin{document}
"""
    body = [rf"\section*{{{latex_text(document.experiment.title)}}}"]
    for part in document.parts:
        body += [rf"\subsection*{{{latex_text(part.heading)}}}"] if part.heading else []
        body += [latex_text(fact) + "\n" for fact in part.facts]
        body += [latex_table(table) for table in part.shown]
    return head + "\n".join(body) + "\n\\end{document}\n"


def latex_table(table: Table) -> str:
    wide = table.header[-1] == "source"
    columns = "l" * table.heads + "r" * (len(table.header) - table.heads)
    if wide:
        columns = "lllp{4cm}p{7cm}"
    lines = [
        r" & ".join(latex_text(cell) for cell in row) + r" \\"
        for row in (table.header, *table.rows)
    ]
    note = f"\n\\par\\footnotesize {latex_text(table.note)}" if table.note else ""
    size = r"\scriptsize" if wide else r"\small"
    return "\n".join(
        [
            rf"\begin{{center}}{size}",
            rf"\textbf{{{latex_text(table.title)}}}\par\medskip",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            rf"\end{{tabular}}{note}",
            r"\end{center}",
        ]
    )
