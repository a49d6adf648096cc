"""Markdown, CSV and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from normbench.report import names
from normbench.report.document import Document, Figure
from normbench.report.tables import Table
from normbench.report.values import csv_text


def as_markdown(document: Document) -> str:
    """table.md: what GitHub shows."""
    lines = [f"# {document.experiment.title}"]
    for part in document.parts:
        lines += ["", f"## {part.heading}"] if part.heading else []
        notes = [] if part.heading else document.experiment.notes
        for line in [*part.facts, *(f"> {note}" for note in notes)]:
            lines += ["", line]
        for table in part.shown:
            lines += ["", f"### {table.title}", "", *markdown_table(table)]
            lines += ["", table.note] if table.note else []
        for figure in [] if part.heading else document.figures:
            kind = next((kind for kind in ("svg", "png") if kind in figure.files), "")
            lines += (
                ["", f"![{figure.caption.partition('.')[0]}](figure_{figure.name}.{kind})"]
                if kind
                else []
            )
            lines += ["", f"*{figure.caption}*"] if kind else []
    return as_text("\n".join(lines)) + "\n"


def as_text(markdown: str) -> str:
    """The same, with no tag of HTML in it: a name with < is shown, not obeyed."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", markdown)


def markdown_table(table: Table) -> list[str]:
    """The lines of a table; the best value of a column is bold."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = ["---" if i < table.heads else "---:" for i in range(len(table.header))]
    rows = [
        [f"**{cell}**" if (i, j) in table.best else cell for j, cell in enumerate(row)]
        for i, row in enumerate(table.rows)
    ]
    return [line(table.header), line(rule), *map(line, rows)]


def as_csv(document: Document, learned: bool = False) -> str:
    """table.csv: one line a number, with the settings of its cell and, if published, its source.
    `learned`: table_learned.csv, the same of what the norms learned. Empty where there is nothing."""
    rows = [
        {"section": part.heading, "table": table.title, **row}
        for part in document.parts
        for table in (part.learned if learned else part.tables)
        for row in table.tidy
    ]
    return csv_of(rows, csv_text)


def csv_of(rows: Sequence[Mapping[str, Any]], word: Callable[[Any], str]) -> str:
    """A line for each row, its values as `word` writes them; empty where there is none."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    words = pd.DataFrame({key: [word(row.get(key)) for row in rows] for key in keys})
    return words.to_csv(index=False, lineterminator="\n") if rows else ""


ESCAPES = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {"±": r"$\pm$", "×": r"$\times$", "−": r"$-$", "–": "--", "…": r"\dots{}", "√": r"$\surd$"}
    | {"σ": r"$\sigma$", "μ": r"$\mu$", "ρ": r"$\rho$", "τ": r"$\tau$", "ε": r"$\varepsilon$"}
    | {"⁻": "$^{-}$", "·": r"$\cdot$"}
    | {digit: f"$^{{{number}}}$" for number, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
    | {"<": r"$<$", ">": r"$>$", "≥": r"$\geq$", "≤": r"$\leq$"}
)
LATEX = r"""\documentclass{article}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
%s
\end{document}
"""


def latex_text(value: str) -> str:
    """Text as LaTeX; a character without a name there becomes a question mark."""
    known = "".join(c if shown(c) or ord(c) in ESCAPES else "?" for c in value)
    return re.sub(r"(?<=[/_])(?=\w)", r"\\allowbreak ", known.translate(ESCAPES))


def shown(character: str) -> bool:
    """Whether LaTeX has a character as it is: one of Latin-1 that is seen."""
    return ord(character) < 256 and character.isprintable()


def as_latex(document: Document) -> str:
    """table.tex: compiles as it is; each tabular can be copied into a paper that uses booktabs."""
    body = [rf"\section*{{{latex_text(document.experiment.title)}}}"]
    for part in document.parts:
        body += [rf"\subsection*{{{latex_text(part.heading)}}}"] if part.heading else []
        body += [latex_text(fact) + "\n" for fact in part.facts]
        body += [latex_table(table) for table in part.shown]
    body += [latex_figure(figure) for figure in document.figures if "pdf" in figure.files]
    return LATEX % "\n".join(body)


def latex_table(table: Table) -> str:
    """A centred tabular with its title and its note; one with sources breaks their lines. The best
    value of a column is bold."""
    wide = table.header[-1] == "source"
    columns = "l" * table.heads + "r" * (len(table.header) - table.heads)
    header, cells = names.printed(table.header, table.rows, table.heads)
    rows = [
        [
            rf"\textbf{{{latex_text(cell)}}}" if (i, j) in table.best else latex_text(cell)
            for j, cell in enumerate(row)
        ]
        for i, row in enumerate(cells)
    ]
    tabular = pd.DataFrame(rows).to_latex(
        index=False,
        header=[latex_text(head) for head in header],
        column_format="lllp{4cm}p{7cm}" if wide else columns,
    )
    size = r"\scriptsize" if wide else r"\small"
    title = rf"\textbf{{{latex_text(table.title)}}}\par\medskip"
    note = f"\\par\\footnotesize {latex_text(table.note)}\n" if table.note else ""
    return f"\\begin{{center}}{size}\n{title}\n{tabular}{note}\\end{{center}}"


def latex_figure(figure: Figure) -> str:
    """A figure that was written as PDF, with its caption."""
    width = r"\linewidth"
    return (
        "\\begin{figure}[htbp]\n\\centering\n"
        rf"\includegraphics[width={width},height=0.8\textheight,keepaspectratio]{{figure_{figure.name}.pdf}}"
        f"\n\\caption{{{latex_text(figure.caption)}}}\n\\end{{figure}}"
    )
