"""One run, from its cell to its record: checked, trained by the loop, and written down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from normbench.data import Dataset, FolderDataset, load_dataset
from normbench.errors import FailedError, UserError
from normbench.ops import use
from normbench.record import record
from normbench.record.display import Follower
from normbench.record.evaluations import EVALUATIONS
from normbench.record.provenance import origin, packages
from normbench.record.record import Metrics, Record, Row
from normbench.settings.cell import Cell
from normbench.settings.schema import Settings
from normbench.training import memory
from normbench.training.computing import arithmetic, check_computing, kernels
from normbench.training.loop import Run, epochs
from normbench.training.network import check, device_of
from normbench.training.provenance import (
    device_name,
    git_commit,
    peak_memory_mib,
    reset_peak_memory,
    versions,
)
from normbench.training.tensorboard import Board


def run(cell: Cell, display: Follower) -> Record:
    """Trains a cell, or goes on with it, or, where it is done, returns the record it has.

    UserError before anything is written for what cannot work; any other exception is written into
    the record (failed, out_of_memory) and raised. A diverged run is a result like any other.
    """
    settings, folder = cell.settings, cell.folder
    device = device_of(settings)
    if (old := record.read_record(folder)) is not None and old.done:
        display.already_done(cell, old)
        return old
    check(settings)
    check_computing(settings, device)
    data = data_of(settings)
    with alone_in(folder):
        if (old := record.read_record(folder)) is not None and old.done:
            display.already_done(cell, old)  # by another process, a moment ago
            return old
        for stale in (record.RECORD, EVALUATIONS, "error.txt"):
            (folder / stale).unlink(missing_ok=True)
        record.write_settings(cell)
        rows: list[Row] = []
        try:
            with use(settings.ops), arithmetic(settings, device):
                result = train(cell, data, device, display, rows)
        except Exception as error:
            status: record.Status = "failed"
            full = isinstance(error, torch.OutOfMemoryError | MemoryError)
            if full or "can't allocate memory" in str(error):
                status = "out_of_memory"
            what = " ".join(f"{type(error).__name__}: {error}".split())
            bad = record.record_of(cell, status, rows, error=what, **provenance())
            record.write_record(folder, bad)
            raise
        record.write_record(folder, result)
    display.finished(cell, result)
    return result


def data_of(settings: Settings) -> Dataset | FolderDataset:
    """The images of a run."""
    data = load_dataset(settings.dataset.name, **settings.dataset.options)
    if data.images < settings.sgd_batch:
        raise UserError(
            f"batch={settings.batch} × workers={settings.workers} = {settings.sgd_batch} images a"
            f" step, but {data.images} can be decoded; lower batch or workers"
        )
    return data


def train(
    cell: Cell,
    data: Dataset | FolderDataset,
    device: torch.device,
    display: Follower,
    rows: list[Row],
) -> Record:
    """Trains from the folder's checkpoint, or from the start, to the end; fills `rows`."""
    settings = cell.settings
    reset_peak_memory(device)
    run_ = Run.start(settings, data, device, display.note)
    if warning := memory.warning(settings, device):
        display.note(warning)
    rows += run_.resume(cell.folder)
    metrics = Metrics(cell.folder, rows)
    status: record.Status = "ok"
    with Board(cell, run_.model, len(rows)) as board:
        display.started(settings, run_.parameters, device, done=len(rows))
        for row in epochs(run_, len(rows), display.step):
            metrics.add(row)
            board.epoch(row)
            display.epoch(row)
            if row["train_loss"] is None or row["test_loss"] is None:
                status = "diverged"
                break
            run_.save(cell.folder, rows)
        result = record.record_of(
            cell,
            status,
            rows,
            parameters=run_.parameters,
            peak_memory_mib=peak_memory_mib(device),
            device=device_name(device),
            computed={"kernels": kernels(device), "cuda_graph": run_.graph or "no: not reached"},
            **provenance(),
            learned=run_.learned(),
        )
        board.end(result)
    return result


def provenance() -> dict[str, Any]:
    """What a record says of where the run comes from."""
    about = {"versions": versions(), "git_commit": git_commit()}
    return {**about, "origin": origin(), "packages": packages()}


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Makes the folder and holds it against other processes that want to train the same cell."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}; say another results=…") from None
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FailedError(f"{folder} is being trained by another process; wait for it") from None
    try:
        yield
    finally:
        lock.release()
