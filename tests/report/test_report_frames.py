"""`load_runs`, `load_curves`, `load_learned`: what they say is what the records and CSV files hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import normbench
from normbench.errors import UserError
from normbench.report import main
from normbench.report.experiment import load
from normbench.report.frames import mean_shift, read
from normbench.report.store import compact, write_frames
from normbench.report.values import text, value_of

from .conftest import LAYERS, write_study


def test_a_row_a_run_with_its_settings_and_what_it_found(quick: Path) -> None:
    runs = normbench.load_runs(quick / "runs")
    assert len(runs) == 72
    one = runs[(runs["norm"] == "bn") & (runs["batch"] == 2) & (runs["seed"] == 1)].iloc[0]
    record = json.loads((Path(one["folder"]) / "record.json").read_text())
    assert one["final_top1_percent"] == record["final_top1_percent"]
    assert (one["workers"], one["status"], one["identity"]) == (16, "ok", record["identity"])
    assert runs[runs["norm"] == "gn"]["norm.groups"].tolist() == [8, 8, 8]
    assert runs[runs["norm"] == "bn"]["norm.groups"].isna().all()
    assert one["milestones"] == (0.5, 0.75)


def test_a_row_a_run_and_epoch(quick: Path) -> None:
    curves = normbench.load_curves(quick)
    assert len(curves) == 72 * 5
    runs = normbench.load_runs(quick)
    last = curves[curves["epoch"] == 5].set_index("run")["test_top1_percent"]
    assert (runs.set_index("run")["final_top1_percent"] == last).all()
    assert {"norm", "batch", "seed", "images_per_second"} <= set(curves)


def test_the_shift_of_a_mean_is_in_its_deviations() -> None:
    own = {"input_mean": [-0.5, 0.0, 3.0], "input_deviation": [2.0, 1.0, 1.5]}
    assert mean_shift(own).tolist() == [0.25, 0.0, 2.0]


def test_a_row_a_layer_and_parameter_with_its_summaries(quick: Path) -> None:
    learned = normbench.load_learned(quick)
    sn = learned[(learned["norm"] == "sn") & (learned["parameter"].str.startswith("mean_weight"))]
    shares = sn.groupby(["run", "layer"])["mean"].sum()
    assert len(shares) == 12 * len(LAYERS)
    assert shares.tolist() == pytest.approx([1] * len(shares))
    gate = learned[learned["parameter"] == "gate"].iloc[0]
    own = normbench.load_runs(quick).set_index("run").loc[gate["run"], "folder"]
    values = pd.Series(
        json.loads((Path(own) / "record.json").read_text())["learned"]["stem_norm"]["gate"]
    )
    assert gate["mean"] == pytest.approx(values.mean())
    assert gate["rms"] == pytest.approx((values**2).mean() ** 0.5)
    assert (gate["min"], gate["median"], gate["max"]) == (
        values.min(),
        values.median(),
        values.max(),
    )
    assert sum(map(int, gate["histogram"].split())) == gate["count"] == 16


def test_a_report_folder_says_the_same_as_the_records(quick: Path) -> None:
    main(["experiment=quick", f"results={quick}", "formats="])
    for load_ in (normbench.load_runs, normbench.load_curves, normbench.load_learned):
        records, files = load_(quick / "runs"), load_(quick / "quick")
        assert len(files) > 0
        shown = [
            "norm",
            "batch",
            "seed",
            *(k for k in map(str, files) if k.startswith("test_top1")),
        ]
        both = [some.sort_values(shown)[shown].reset_index(drop=True) for some in (records, files)]
        if load_ is not normbench.load_learned:  # of which the files keep what a figure reads
            pd.testing.assert_frame_equal(both[0], both[1])


def test_the_files_are_read_and_written_again_byte_for_byte(quick: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    source = quick / "runs"
    for folder in folders:
        folder.mkdir()
        write_frames(compact(read([source])), folder)
        source = folder
    for path in folders[0].iterdir():
        assert path.read_bytes() == (folders[1] / path.name).read_bytes(), path.name


def test_the_files_hold_nothing_of_the_machine_or_the_time(quick: Path, tmp_path: Path) -> None:
    write_frames(compact(read([quick])), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")}
    for path in quick.rglob("record.json"):
        record = json.loads(path.read_text())
        record |= {"train_seconds": 1.0, "device": "another", "git_commit": "x"}
        record["peak_memory_mib"] = record["images_per_second"] = 3.0
        record["curves"]["images_per_second"] = [1.0] * 5
        path.write_text(json.dumps(record))
    write_frames(compact(read([quick])), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")} == before


def test_runs_of_several_studies_and_of_none_have_names_of_their_own(tmp_path: Path) -> None:
    for study in ("one", "two"):
        write_study(tmp_path / "results", load("gn_table1"), seeds=1, study=study)
    runs = normbench.load_runs(tmp_path)
    assert runs["run"].is_unique
    assert set(runs["run"].str.split("/").str[0]) == {"one", "two"}
    folder = Path(runs["folder"].iloc[0])
    assert normbench.load_runs(folder)["run"].tolist() == [folder.name]


def test_a_folder_without_runs_is_a_mistake_in_one_line(tmp_path: Path) -> None:
    for load_ in (normbench.load_runs, normbench.load_curves, normbench.load_learned):
        with pytest.raises(UserError, match="say where the runs are"):
            load_(tmp_path)
    (tmp_path / "runs.csv").write_text("norm,batch\nbn,2\n")
    with pytest.raises(UserError, match="has no column run"):
        normbench.load_runs(tmp_path)


@pytest.mark.parametrize("value", [1, 10.0, 1e-05, True, None, "bn", (), ("in", "ln"), (0.5, 0.75)])
def test_a_value_written_is_the_value_read(value: object) -> None:
    again = value_of(text(value))
    assert (again, type(again)) == (value, type(value))


def test_loading_needs_no_torch() -> None:
    code = "import normbench, sys; normbench.load_runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
