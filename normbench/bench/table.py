"""The rows of a measurement: a table in the terminal, and a CSV that says where it was measured."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from normbench.console import wide_console
from normbench.errors import FailedError
from normbench.record.record import write_atomically
from normbench.training.provenance import device_name, git_commit, versions


def show(title: str, rows: Sequence[Any]) -> None:
    """The rows, which are dataclasses of one kind, with their fields as columns."""
    from rich.table import Table

    table = Table(title=title, box=None, pad_edge=False, title_justify="left", header_style="bold")
    for field in dataclasses.fields(rows[0]):
        numeric = not isinstance(getattr(rows[0], field.name), str)
        table.add_column(field.name, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(text(value) for value in dataclasses.astuple(row)))
    wide_console(240).print(table, "")


def text(value: object) -> str:
    """Three digits of a number that has a fraction."""
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def written(
    path: Path, groups: Iterable[tuple[str, Sequence[Any]]], device: torch.device, rounds: int
) -> list[Any]:
    """All rows of the groups, each of which is shown under its title, and written, when it comes."""
    rows: list[Any] = []
    for title, some in groups:
        show(title, some)
        rows += some
        write(path, rows, device, rounds)
    print(f"written to {path}")
    return rows


def write(path: Path, rows: Sequence[Any], device: torch.device, rounds: int) -> None:
    """The CSV, each row with device, versions, commit and rounds."""
    where = {"device": device_name(device), **versions(), "commit": git_commit(), "rounds": rounds}
    out = io.StringIO()
    lines = [dataclasses.asdict(row) | where for row in rows]
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in line.items()} for line in lines
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, out.getvalue())
    except OSError as error:
        raise FailedError(f"{path}: {error.strerror}; choose another folder with out=DIR") from None
