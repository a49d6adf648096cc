"""What others wrote into records and tables is shown, never obeyed, and never ends the report."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normbench.errors import FailedError
from normbench.report.experiment import load
from normbench.report.formats import as_text, latex_text
from normbench.report.published import Published, everything, parsed
from normbench.report.values import csv_text

from ..cases import each
from .conftest import write_study

HOSTILE = "<script>alert(1)</script>"


def test_names_and_errors_of_others(
    tmp_path: Path, normbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label that is HTML, an error that is a formula, escape codes for a terminal."""
    monkeypatch.chdir(tmp_path)
    quick = dataclasses.replace(load("quick"), points=load("quick").points[:3])
    write_study(tmp_path / "results", quick, seeds=1)
    for number, path in enumerate(sorted(Path("results").rglob("record.json"))):
        data = json.loads(path.read_text())
        data["settings"]["study"] = "mine"
        data["settings"]["norm"]["label"] = f"bn{HOSTILE}"
        error = {"status": "failed", "error": "=HYPERLINK(1)\x1b[31m\x9b2J"}
        data |= {} if number else error
        path.write_text(json.dumps(data))
    said = normbench("report", "results/runs/quick", "out=out", "formats=md,csv,tex,html")
    assert said.code == 0
    every = {path.name: path.read_text(encoding="utf-8") for path in Path("out").iterdir()}
    assert "'=HYPERLINK(1)?[31m?2J" in every["runs.csv"]
    for text in (*every.values(), said.out, said.err):
        assert "\x1b" not in text and "\x9b" not in text
    for name in ("table.md", "report.html"):
        assert "script&gt;" in every[name] or "&lt;script" in every[name], name
        assert HOSTILE not in every[name], name
    again = normbench("report", "out", "formats=csv")
    assert again.code == 0
    assert Path("out/runs.csv").read_text() == every["runs.csv"]


def test_words_for_each_format() -> None:
    assert as_text("a < b <b>&<!-- 1<2") == "a < b &lt;b>&&lt;!-- 1<2"
    assert [csv_text(v) for v in ("=1", "@x", "-1.5", -1.5, "+a", "-", "a=1")] == [
        "'=1", "'@x", "-1.5", "-1.5", "'+a", "-", "a=1",
    ]  # fmt: skip
    assert latex_text("a\x1b[0m\x85b") == "a?[0m?b"


CONTENTS = (b"[]", b"[" * 9999, b'{"settings": []}', b"\xff", b"")


@each("content", CONTENTS)
def test_a_bad_record_never_ends_the_report(
    tmp_path: Path, normbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = dataclasses.replace(load("quick"), points=load("quick").points[:2])
    write_study(tmp_path / "results", quick, seeds=1)
    one, *others = sorted(Path("results").rglob("record.json"))
    one.write_bytes(content)
    said = normbench("report", "results/runs/quick", "out=out", "formats=csv")
    assert said.code == 0
    assert said.err.startswith(f"normbench: 1 record is left out: {one}")
    assert said.err.endswith("set aside as record.json.bad\n")
    assert len(Path("out/runs.csv").read_text().splitlines()) == 1 + len(others)
    one.with_name("record.json.bad").unlink()


def test_any_file_of_published_numbers_is_read_or_refused() -> None:
    row = dataclasses.asdict(everything()[0]) | {"cell": "norm=bn batch=2"}
    header = ",".join(row)

    @settings(max_examples=200, deadline=None)
    @given(cell=st.text(), other=st.text(), whole=st.text())
    def check(cell: str, other: str, whole: str) -> None:
        line = ",".join(str(v) for v in (row | {"cell": cell, "value": other}).values())
        for text in (whole, f"{header}\n{line}\n", f"{header}\n{whole}"):
            with contextlib.suppress(FailedError):
                assert all(isinstance(one, Published) for one in parsed(text))

    check()
