"""Other statistics at evaluation: lines beside a record become cells of a study."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from statistics import fmean, variance

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normbench
from normbench.record.evaluations import Evaluation, append_evaluation, packed, unpacked
from normbench.report import main
from normbench.report.claims.verdicts import findings, section_of
from normbench.report.evaluations import answers_of
from normbench.report.experiment import load
from normbench.report.frames import read
from normbench.report.interval import quantile
from normbench.report.store import compact
from normbench.settings.cell import cell_of

from .conftest import write_study


@given(st.lists(st.booleans(), max_size=40))
def test_answers_are_kept_as_bits(right: list[bool]) -> None:
    assert unpacked(packed(right), len(right)) == right


@pytest.mark.parametrize("count", [8, 17, 0])
def test_answers_for_other_images_are_an_error(count: int) -> None:
    with pytest.raises(ValueError, match="16 images, not for"):
        unpacked(packed([True] * 9), count)


def evaluated(results: Path, seeds: int = 2) -> None:
    """A study bn_inference whose runs were evaluated otherwise: the example weighed by 0.2 is 3 points
    above running, pooled 1 below; the runs at 32 images were not evaluated."""
    for settings in write_study(results, load("bn_inference"), seeds, protocol="fixed"):
        folder = results.parent / cell_of(settings).folder
        record = normbench.load_runs(folder).iloc[0]
        top1 = float(record["final_top1_percent"])
        if settings.batch == 32:
            continue
        for way, gain in {
            Evaluation("running"): 0.0,
            Evaluation("pooled", batches=50): -1.0,
            Evaluation("example", weight=0.2, weight_from="given"): 3.0,
            Evaluation("example", weight=1 / settings.batch, weight_from="1/batch"): 2.0,
        }.items():
            line = dataclasses.replace(
                way, dataset="cifar10_5k", test_images=4, top1_percent=top1 + gain,
                answers=packed([True] * 4),
            )  # fmt: skip
            append_evaluation(folder, line)
        append_evaluation(folder, Evaluation("pooled", dataset="cifar10", top1_percent=1.0))


def test_they_are_rows_of_the_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In its tables, differences, figure and files, from which the same is made again."""
    results = tmp_path / "results"
    evaluated(results)
    assert main(["experiment=bn_inference", f"results={results}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "and then normbench evaluate complete them" in said
    out = results / "bn_inference"
    table = pd.read_csv(out / "table.csv")
    less = table[table["table"].str.startswith("Difference")]
    for name, gain in (("pooled", -1), ("example@0.2", 3), ("example@1/batch", 2)):
        own = less[less["evaluation"] == name]
        assert own["batch"].tolist() == [16, 8, 4, 2], name
        assert own["mean"].tolist() == pytest.approx([gain] * 4), name
    assert (out / "figure_evaluation.svg").stat().st_size > 10_000
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main([str(out)]) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    frame = normbench.load_evaluations(out)
    assert len(frame) == 8 * 5 and set(frame["dataset"]) == {"cifar10_5k", "cifar10"}
    assert set(frame["evaluation"]) == {"running", "pooled", "example@0.2", "example@1/batch"}


def test_answers_belong_to_the_runs_own_dataset(tmp_path: Path) -> None:
    results = tmp_path / "results"
    evaluated(results, seeds=1)
    frames = compact(read([results / "runs"]))
    answers = answers_of(frames.runs, frames.evaluations)
    assert len(answers) == 4 * 4
    assert all(one.tolist() == [True] * 4 for one in answers.values())


def test_evaluations_of_one_training_are_no_further_runs(tmp_path: Path) -> None:
    """A contrast of evaluations is the mean of the differences within each training, and its noise is
    theirs, pooled over the cells of training: four cells of three trainings have eight degrees."""
    results = tmp_path / "results"
    evaluated(results, seeds=3)
    frames = compact(read([results / "runs"]))
    gains = {run: 3.0 + i % 5 for i, run in enumerate(frames.runs["run"])}  # not all alike
    weighed = frames.evaluations["evaluation"] == "example@0.2"
    top1 = frames.runs.set_index("run")["final_top1_percent"]
    own = frames.evaluations.loc[weighed, "run"]
    frames.evaluations.loc[weighed, "top1_percent"] = own.map(top1) + own.map(gains)
    section = section_of("bn_inference", frames.runs, frames.evaluations)
    (found,) = findings("bn_inference", section)
    trained = frames.runs[frames.runs["batch"] < 32]
    of_cells = [list(some.map(gains)) for _, some in trained.groupby("batch")["run"]]
    two = [gains[run] for run in trained.loc[trained["batch"] == 2, "run"]]
    assert found.measured is not None
    assert found.measured.value == pytest.approx(fmean(two))
    assert found.measured.freedom == 8
    deviation = math.sqrt(fmean(variance(some) for some in of_cells))
    assert found.measured.deviation == pytest.approx(deviation)
    assert found.measured.half == pytest.approx(quantile(0.975, 8) * deviation / math.sqrt(3))
