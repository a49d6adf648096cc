"""The tables in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normbench.report.document import Document
from normbench.report.tables import Table

if TYPE_CHECKING:
    from rich.console import Console


def show(document: Document) -> None:
    """Prints the report: plain text where there is no terminal."""
    console = plain_console()
    console.print(document.experiment.title, style="bold")
    for part in document.parts:
        if part.heading:
            console.print(f"\n{part.heading}", style="bold")
        for fact in part.facts:
            console.print(fact, soft_wrap=not console.is_terminal)
        for table in part.tables:
            console.print()
            if table.header[-1] == "source":
                sources = len({row[-1] for row in table.rows})
                console.print(
                    f"{table.title}: {len(table.tidy)} numbers from {sources} sources, in table.md"
                )
                continue
            console.print(table.title, style="bold")
            console.print(rich_table(table))
            if table.note:
                console.print(table.note, style="dim", soft_wrap=not console.is_terminal)
        for table in part.learned:
            console.print(f"\n{table.title}: {len(table.tidy)} numbers, in table.md")


def plain_console() -> Console:
    """For texts as they are, without markup; 200 wide where there is no terminal."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 200
    return console


def rich_table(table: Table) -> object:
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(box=None, pad_edge=False, header_style="bold")
    for index, head in enumerate(table.header):
        left = index < table.heads
        made.add_column(head, justify="left" if left else "right", no_wrap=True)
    for i, row in enumerate(table.rows):
        cells = [Text(cell, "bold" if (i, j) in table.best else "") for j, cell in enumerate(row)]
        made.add_row(*cells)
    return made
