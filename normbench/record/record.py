"""The files of a run: settings, one line of metrics an epoch, and the record, written last.

A record with status ok or diverged means done. Reading needs neither torch nor Hydra.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from normbench.errors import UserError
from normbench.settings.cell import Cell
from normbench.settings.identity import digest_of
from normbench.settings.parse import restored
from normbench.settings.schema import LATER, Settings

SETTINGS, METRICS, RECORD = "settings.yaml", "metrics.jsonl", "record.json"
SOURCE = "norm.py"  # a copy of the file of a user\'s own norm
DONE = ("ok", "diverged")

Status = Literal["ok", "diverged", "out_of_memory", "failed"]
Row = dict[str, Any]  # one epoch: epoch, lr, train_loss, train_top1_percent, test_..., seconds


@dataclass
class Record:
    """What a run found. Accuracies are top-1 in percent on the test images, None if it diverged."""

    status: Status
    error: str | None  # one line, for failed and out_of_memory
    identity: str
    settings: dict[str, Any]
    final_top1_percent: float | None = None
    best_top1_percent: float | None = None
    median_last5_top1_percent: float | None = None
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    train_seconds: float = 0.0
    images_per_second: float | None = None
    peak_memory_mib: float | None = None
    parameters: int | None = None
    per_image: bool | None = None  # the norm treats each image by itself; None: not known then
    device: str | None = None
    computed: dict[str, str] = field(default_factory=dict)  # kernels of the norms; a graph or not
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    source: str | None = None  # of a user's own norm: the SHA-256 of the file of its class
    learned: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # by layer, by name
    origin: dict[str, str | None] = field(default_factory=dict)  # the command, the host, the commit
    packages: dict[str, str] = field(default_factory=dict)  # every installed one, its version

    @property
    def done(self) -> bool:
        return self.status in DONE


def record_of(cell: Cell, status: Status, rows: list[Row], **rest: Any) -> Record:
    """The record of a run from its rows."""
    plain, error = dataclasses.asdict(cell.settings), rest.pop("error", None)
    record = Record(status, error, cell.identity, plain, per_image=cell.per_image, **rest)
    record.source = None if cell.source is None else digest_of(cell.source)
    record.curves = {key: [row[key] for row in rows] for key in (rows[0] if rows else {})}
    record.train_seconds = sum(row["train_seconds"] for row in rows)
    if rows:
        record.images_per_second = statistics.median(row["images_per_second"] for row in rows)
    accuracies = [row["test_top1_percent"] for row in rows]
    if accuracies and status == "ok":
        record.final_top1_percent = accuracies[-1]
        record.best_top1_percent = max(accuracies)
        record.median_last5_top1_percent = statistics.median(accuracies[-5:])
    return record


def write_settings(cell: Cell) -> None:
    """Writes the settings, and the source of a user's own norm, into the cell's folder: the run has
    begun."""
    plain = dataclasses.asdict(cell.settings)
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    write_atomically(cell.folder / SETTINGS, text)
    if cell.source is not None:
        readable = cell.source.encode(errors="surrogateescape").decode(errors="replace")
        write_atomically(cell.folder / SOURCE, readable)


def read_settings(folder: Path) -> Settings | None:
    """The settings of a run's folder; None where there are none. UserError for a damaged file."""
    try:
        data = yaml.safe_load((folder / SETTINGS).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{folder / SETTINGS} is damaged: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{folder / SETTINGS} is damaged: it does not hold settings")
    return restored(data)


def write_record(folder: Path, record: Record) -> None:
    write_atomically(folder / RECORD, json.dumps(dataclasses.asdict(record), indent=1) + "\n")


def read_record(folder: Path) -> Record | None:
    """The record of a run's folder; None where there is none, or where it is not a record.

    Settings that came after it have the value that it stands for.
    """
    try:
        data = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        data["settings"] = {**LATER, **data["settings"]}
        return Record(**data)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None


def find_records(root: Path) -> Iterator[tuple[Path, Record]]:
    """Every (folder, record) below `root`, in the order of their paths."""
    for path in sorted(root.rglob(RECORD)):
        record = read_record(path.parent)
        if record is not None:
            yield path.parent, record


class Metrics:
    """metrics.jsonl: one line an epoch, flushed; begins with the rows that a checkpoint kept."""

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        self.path, self.rows = folder / METRICS, rows
        write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in rows))

    def add(self, row: Row) -> None:
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """The whole text or nothing: written aside, then moved into place."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
