"""What a record says of the rows of a run, and that files are whole or not there."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from normbench.errors import FailedError, NewerError, UnreadableError
from normbench.record.record import (
    METRICS,
    Metrics,
    Row,
    find_records,
    read_record,
    record_of,
    tell_passed,
    write_atomically,
    write_record,
    write_settings,
)
from normbench.report.frames import of_records
from normbench.settings.cell import cell_of
from normbench.settings.schema import Settings

from ..cases import each

Cell = Callable[..., Settings]


def row(epoch: int, top1: float | None = 50.0) -> Row:
    return {
        "epoch": epoch,
        "train_loss": None if top1 is None else 1.0,
        "test_top1_percent": top1,
        "train_seconds": 2.0 * epoch,
        "images_per_second": 10.0 * epoch,
    }


@settings(deadline=None)
@given(top1=st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_final_best_and_median(cell: Cell, top1: list[float]) -> None:
    rows = [row(epoch, value) for epoch, value in enumerate(top1, start=1)]
    record = record_of(cell_of(cell()), "ok", rows)
    assert record.final_top1_percent == top1[-1]
    assert record.best_top1_percent == max(top1)
    assert record.median_last5_top1_percent == statistics.median(top1[-5:])
    assert record.curves["test_top1_percent"] == top1
    assert record.train_seconds == sum(range(2, 2 * len(rows) + 1, 2))
    assert record.images_per_second == statistics.median(range(10, 10 * len(rows) + 1, 10))


@pytest.mark.parametrize("status", ["diverged", "failed", "out_of_memory"])
def test_no_accuracy_without_success(cell: Cell, status: Any) -> None:
    record = record_of(cell_of(cell()), status, [row(1), row(2, None)])
    assert record.final_top1_percent is None
    assert record.best_top1_percent is None
    assert record.median_last5_top1_percent is None
    assert record.done == (status == "diverged")
    assert record.curves["epoch"] == [1, 2]


def test_no_rows(cell: Cell) -> None:
    record = record_of(cell_of(cell()), "failed", [], error="RuntimeError: early")
    assert (record.curves, record.train_seconds, record.images_per_second) == ({}, 0, None)
    assert record.error == "RuntimeError: early"


def test_there_and_back(cell: Cell, tmp_path: Path) -> None:
    record = record_of(
        cell_of(cell(norm="sn")), "ok", [row(1)], learned={"stem": {"mean_weight": [0.5]}}
    )
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record


def test_settings_that_came_after_a_record(cell: Cell, tmp_path: Path) -> None:
    """It is read as a run with the value that it stands for, and keeps its identity."""
    record = record_of(cell_of(cell()), "ok", [])
    del record.settings["weight_standardization"]
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record_of(cell_of(cell()), "ok", [])


def test_absent_unreadable_and_newer_are_three_answers(cell: Cell, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    assert read_record(tmp_path) is None
    write_record(tmp_path, record_of(cell_of(cell()), "ok", [row(1)]))
    expected, data = read_record(tmp_path), json.loads(file.read_text())
    file.write_text(json.dumps(data | {"more": [1, {"of": "it"}]}))
    assert read_record(tmp_path) == expected  # a field of another version stays in the file
    for later in ({"format": 2}, {"status": "paused", "versions": {"normbench": "1000.1"}}):
        file.write_text(json.dumps(data | later))
        with pytest.raises(NewerError, match="newer normbench"):
            read_record(tmp_path)
    file.write_text(json.dumps(data | {"status": "paused"}))
    with pytest.raises(UnreadableError, match="status: "):
        read_record(tmp_path)
    assert list(find_records(tmp_path)) == []


CONTENTS = (b"", b"{", b"[]", b"3", b'{"a": 1}', b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 9999)


@each("content", CONTENTS)
def test_what_is_not_a_record(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(UnreadableError):
        read_record(tmp_path)
    passed: list[FailedError] = []
    assert list(find_records(tmp_path, passed)) == [] and len(passed) == 1
    assert read_record(tmp_path / "record.json") is None


def test_what_is_no_file(tmp_path: Path) -> None:
    for name in ("folder", "loop", "dangling", "queue"):
        (tmp_path / name).mkdir()
    (tmp_path / "folder" / "record.json").mkdir()
    (tmp_path / "loop" / "record.json").symlink_to("record.json")
    (tmp_path / "dangling" / "record.json").symlink_to("nothing")
    os.mkfifo(tmp_path / "queue" / "record.json")
    for folder in tmp_path.iterdir():
        with pytest.raises(UnreadableError, match="it is "):
            read_record(folder)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_record_is_read_or_refused(cell: Cell, tmp_path: Path, data: st.DataObject) -> None:
    """Whatever stands in place of any part of it: a record that all of its readers can read, or one
    line."""
    made = cell_of(cell(norm="sn"))
    rows, learned = [row(1), row(2)], {"stem": {"mean_weight": [0.25, 0.25, 0.5]}}
    write_record(tmp_path, record_of(made, "ok", rows, learned=learned))
    whole = json.loads((tmp_path / "record.json").read_text())
    holder: Any = whole
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(holder[key], dict | list) or not holder[key] or data.draw(st.booleans()):
            break
        holder = holder[key]
    holder[key] = data.draw(ANYTHING)
    (tmp_path / "record.json").write_text(json.dumps(whole))
    passed: list[FailedError] = []
    found = list(find_records(tmp_path, passed))
    assert len(found) + len(passed) == 1
    assert all("\n" not in str(error) for error in passed)
    of_records(found, ("runs", "curves", "learned"))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(), inside, max_size=4),
)


def test_what_is_set_aside_is_counted_and_named(
    cell: Cell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By each report again, until the run has a record."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "record.json").write_text("no record")
    for words in ("set aside as record.json.bad", "record.json.bad was set aside"):
        passed: list[FailedError] = []
        assert list(find_records(tmp_path, passed)) == []
        tell_passed(passed)
        said = capsys.readouterr().err
        assert said.startswith("normbench: 1 record is left out: ") and words in said
    assert (folder / "record.json.bad").read_text() == "no record"
    write_record(folder, record_of(cell_of(cell()), "ok", [row(1)]))
    passed = []
    assert len(list(find_records(tmp_path, passed))) == 1
    assert not passed


def test_records_are_found_in_the_order_of_their_paths(cell: Cell, tmp_path: Path) -> None:
    for name in ("b/2", "a/9", "b/1"):
        (tmp_path / name).mkdir(parents=True)
        write_record(tmp_path / name, record_of(cell_of(cell(seed=int(name[-1]))), "ok", [row(1)]))
    (tmp_path / "a" / "record.json").write_text("no record")
    found = [
        (str(path.relative_to(tmp_path)), r.settings["seed"]) for path, r in find_records(tmp_path)
    ]
    assert found == [("a/9", 9), ("b/1", 1), ("b/2", 2)]


def test_a_line_an_epoch_at_once(tmp_path: Path) -> None:
    rows = [row(1)]
    (tmp_path / METRICS).write_text("from before\n")
    metrics = Metrics(tmp_path, rows)

    def epochs() -> list[int]:
        return [json.loads(line)["epoch"] for line in (tmp_path / METRICS).read_text().splitlines()]

    assert epochs() == [1]
    for epoch in (2, 3):
        metrics.add(row(epoch))
        assert epochs() == list(range(1, epoch + 1))  # without a close
    assert rows == [row(1), row(2), row(3)]


def test_the_whole_text_or_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    write_atomically(file, "old")

    def fail(*_: Any) -> None:
        raise OSError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="cut"):
            write_atomically(file, "new")
    assert file.read_text() == "old"
    write_atomically(file, "new ×")
    assert file.read_text(encoding="utf-8") == "new ×"


def test_labels_of_any_alphabet(cell: Cell, tmp_path: Path) -> None:
    made = cell_of(cell(norm={"name": "bn", "label": "ε-norm"}, results=str(tmp_path)))
    made.folder.mkdir(parents=True)
    write_settings(made)
    assert "ε-norm" in (made.folder / "settings.yaml").read_text(encoding="utf-8")


def test_reading_needs_no_torch() -> None:
    words = (
        "import sys, normbench.record.record; print('torch' in sys.modules, 'hydra' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
