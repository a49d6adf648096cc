"""A disk that is full, or cannot be written: one line, nothing half-written, and later it goes on."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from normbench.errors import DiskError
from normbench.record.record import Record, read_record
from normbench.settings.cell import cell_of
from normbench.settings.schema import Settings

from .test_interrupted import check_same

Cell = Callable[..., Settings]
Fit = Callable[[Settings], Record]


def check_clean(settings: Settings, error: DiskError) -> None:
    folder = cell_of(settings).folder
    assert "\n" not in str(error) and str(folder) in str(error)
    assert "the same command goes on" in str(error)
    assert list(folder.rglob("*.tmp")) == []
    assert read_record(folder) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_each_write_in_turn(
    cell: Cell, fit: Fit, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The first write of a file fails, in the next attempt the second, and so on to the last."""
    whole, cut = (cell(epochs=1, study=study) for study in ("whole", "cut"))
    expected, real, writes = fit(whole), Path.open, 0

    def full(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        nonlocal writes
        if mode in ("wb", "ab") and "cut" in str(path):
            writes += 1
            if writes == attempt:
                raise OSError(number, os.strerror(number), str(path))
        return real(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    for attempt in range(1, 100):  # noqa: B007, which `full` reads
        writes = 0
        try:
            fit(cut)
            break
        except DiskError as error:
            check_clean(cut, error)
    assert attempt >= 6
    check_same(cut, whole, expected)


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """A real limit of the system: what is written beyond it is cut off in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_is_cut_off(cell: Cell, fit: Fit) -> None:
    whole, cut = (cell(epochs=2, study=study) for study in ("whole", "cut"))
    expected = fit(whole)
    for size in (100, 3_000, 50_000, 400_000):
        with pytest.raises(DiskError) as error, no_file_beyond(size):
            fit(cut)
        check_clean(cut, error.value)
        for name in ("metrics.jsonl", "settings.yaml"):
            file = cell_of(cut).folder / name
            assert not file.exists() or file.read_bytes()[-1:] in (b"", b"\n")
    fit(cut)
    check_same(cut, whole, expected)


@pytest.mark.usefixtures("tiny")
def test_the_command_ends_with_code_1(
    normbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", "batch=4", "workers=4", "epochs=1", "device=cpu")
    with no_file_beyond(20_000):
        said = normbench(*words)
    assert said.code == 1
    assert said.err.startswith("normbench: results/runs/single/") and said.err.count("\n") == 1
    assert normbench(*words).code == 0
