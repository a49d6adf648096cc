"""At every moment one whole checkpoint is there, under a name that load() knows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from normbench.training import checkpoint
from normbench.training.checkpoint import NAME, PREVIOUS

CPU = torch.device("cpu")


def number(folder: Path) -> int | None:
    """Which of the checkpoints below is the one that load() finds."""
    state = checkpoint.load(folder, CPU)
    return None if state is None else int(state["tensor"][0])


def save(folder: Path, n: int) -> None:
    checkpoint.save(folder, {"tensor": torch.full((50,), n), "rows": [{"epoch": n, "loss": None}]})


def test_there_and_back(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path, CPU) is None
    save(tmp_path, 1)
    state = checkpoint.load(tmp_path, CPU)
    assert state is not None
    assert torch.equal(state["tensor"], torch.full((50,), 1))
    assert state["rows"] == [{"epoch": 1, "loss": None}]


def test_the_previous_one_is_kept(tmp_path: Path) -> None:
    for n in (1, 2, 3):
        save(tmp_path, n)
    assert number(tmp_path) == 3
    (tmp_path / NAME).unlink()
    assert number(tmp_path) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == [PREVIOUS]


def test_a_failure_while_writing_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    before = (tmp_path / NAME).read_bytes()

    def half(state: Any, file: Any) -> None:
        file.write(b"half of it")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(OSError, match="No space"):
            save(tmp_path, 2)
    assert (tmp_path / NAME).read_bytes() == before
    assert not (tmp_path / PREVIOUS).exists()
    assert number(tmp_path) == 1
    save(tmp_path, 3)  # what the failure left is no obstacle
    assert number(tmp_path) == 3


@pytest.mark.parametrize("fatal", [1, 2])
def test_a_failure_between_the_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fatal: int
) -> None:
    save(tmp_path, 1)
    moves = 0
    replace = os.replace

    def cut(source: Any, target: Any) -> None:
        nonlocal moves
        moves += 1
        if moves == fatal:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 2)
    assert moves == fatal
    assert number(tmp_path) == 1


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.floats(0, 0.98), tail=st.binary(max_size=40))
def test_any_damaged_end_is_noticed(tmp_path: Path, cut: float, tail: bytes) -> None:
    """A file that was cut anywhere, with anything behind, is no checkpoint: never an exception."""
    for n in (1, 2):
        save(tmp_path, n)
    data = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(data[: int(cut * len(data))] + tail)
    assert number(tmp_path) == 1


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=200))
def test_any_other_file_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    (tmp_path / PREVIOUS).unlink(missing_ok=True)
    assert checkpoint.load(tmp_path, CPU) is None


def test_nothing_is_executed(tmp_path: Path) -> None:
    """A checkpoint is data: a pickle that would run code is not loaded."""

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "made"),)

    torch.save({"tensor": Evil()}, tmp_path / NAME)
    assert checkpoint.load(tmp_path, CPU) is None
    assert not (tmp_path / "made").exists()
