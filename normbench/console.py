"""Where the commands print their tables. rich is imported when one is printed, not before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def wide_console(width: int, **options: Any) -> Console:
    """A console whose lines are `width` wide where there is no terminal, and COLUMNS does not say how
    wide they are: a line each, for grep."""
    from rich.console import Console

    console = Console(highlight=False, **options)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = width
    return console
