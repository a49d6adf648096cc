"""Versions of a user's own norm: three sources, three numbers, the present one by its name alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from normbench.record.record import record_of, write_record, write_settings
from normbench.report.frames import load_runs
from normbench.settings.cell import cell_of
from normbench.settings.parse import parse

SOURCE = """
from normbench.norms import PlaneNorm, standardize

class PairNorm(PlaneNorm):
    def mix(self, moments):
        return standardize(moments, eps={eps})
"""


def run_with(eps: float, accuracy: float, composed: dict[str, object]) -> Path:
    """A finished run of the source that stands in the working folder; its folder."""
    Path("versions_norm.py").write_text(SOURCE.format(eps=eps))
    cell = cell_of(parse(composed))
    cell.folder.mkdir(parents=True)
    write_settings(cell)
    row = {"test_top1_percent": accuracy, "train_seconds": 1.0, "images_per_second": 1.0}
    write_record(cell.folder, record_of(cell, "ok", [row]))
    return cell.folder


@pytest.fixture
def settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, composed: Callable[..., dict[str, object]]
) -> dict[str, object]:
    monkeypatch.chdir(tmp_path)
    Path("versions_norm.py").write_text(SOURCE.format(eps=0.5))  # the class that is imported
    words = ["norm=custom", "norm.target=versions_norm.PairNorm", "results=here", "epochs=1"]
    return composed(*words)


def test_the_present_source_is_shown_and_the_older_ones_are_told_apart(
    settings: dict[str, object],
) -> None:
    folders = [run_with(eps, 10 * eps, settings) for eps in (1.0, 2.0, 3.0)]
    assert len(set(folders)) == 3
    assert (folders[0] / "norm.py").read_text() == SOURCE.format(eps=1.0)
    runs = load_runs("here/runs").set_index("final_top1_percent")["norm"]
    assert runs[30.0] == "PairNorm"
    assert runs[10.0].startswith("PairNorm@")
    assert runs[20.0].startswith("PairNorm@")
    assert runs.nunique() == 3

    Path("versions_norm.py").write_text(SOURCE.format(eps=1.0))  # the first again
    runs = load_runs("here/runs").set_index("final_top1_percent")["norm"]
    assert runs[10.0] == "PairNorm"

    Path("versions_norm.py").unlink()  # nothing says which is the present one
    assert all("@" in name for name in load_runs("here/runs")["norm"])


def test_one_source_is_called_by_its_name(settings: dict[str, object]) -> None:
    run_with(1.0, 10.0, settings)
    Path("versions_norm.py").unlink()
    found = load_runs("here/runs")
    assert list(found["norm"]) == ["PairNorm"]
    assert "source" not in found
    assert isinstance(found, pd.DataFrame)
