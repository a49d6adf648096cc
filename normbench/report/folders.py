"""The report of any folders: the experiment that their runs belong to, or one made up for them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pandas as pd

from normbench.report.experiment import Experiment, load, names, parse
from normbench.report.frames import ABOUT, OF_RECORD, Frames
from normbench.report.study import stands_for_all
from normbench.report.values import Values, keys_of, objects, rows, token

METRIC = "final_top1_percent"


def experiment_of(runs: pd.DataFrame) -> Experiment:
    """The experiment whose study all runs name, else norms (with the options in which they differ)
    by batch."""
    studies = runs["study"].unique()
    if len(studies) == 1 and studies[0] in names():
        return load(studies[0])
    options = sorted(keys_of(runs, "norm."))
    words = objects(runs[["norm", *options]]).map(token)
    counts = words.where(words != "").groupby("norm")[options].nunique()
    varied = [key for key in options if (counts[key] > 1).any()]
    made = parse("report", "report: {title: Runs}")
    return dataclasses.replace(
        made,
        points=points(runs, varied),
        rows=["norm", *varied],
        columns="batch",
        metric=METRIC,
        figures=["batch_size", "curves"],
    )


def points(runs: pd.DataFrame, varied: list[str]) -> list[Values]:
    """The cells: norm, batch and the options that vary; a norm that is equal at every batch has one
    at each."""
    found: list[Values] = []
    for_all = stands_for_all(runs)
    seen = runs["batch"][~for_all] if not for_all.all() else runs["batch"]
    batches = [int(batch) for batch in seen.unique()]
    keys = ["norm", "batch", *varied]
    for values, everywhere in zip(rows(runs[keys]), for_all, strict=True):
        point = {key: value for key, value in values.items() if value is not None}
        for batch in batches if everywhere else (point["batch"],):
            if (one := {**point, "batch": batch}) not in found:
                found.append(one)
    return sorted(found, key=lambda point: -point["batch"])


def of_study(frames: Frames, study: str) -> Frames:
    """What belongs to the runs of one study."""
    runs = frames.runs[frames.runs["study"] == study]
    others = (frames.curves, frames.learned, frames.evaluations)
    own = [some[some["run"].isin(runs["run"])] for some in others]
    used = [key for key in runs if key in (*ABOUT, *OF_RECORD) or runs[key].notna().any()]
    return Frames(runs[used], *own)


def folders_of(runs: pd.DataFrame, out: Path) -> dict[str, str]:
    """Where the folder of each run is, seen from the folder of the report; of runs that are known by
    a CSV file alone, where a sweep puts it, seen from results/<study>."""
    found = {}
    for run in rows(runs):
        usual = f"../runs/{run['study']}/{run['model']}-{run['dataset']}/{Path(run['run']).name}"
        folder = run.get("folder")
        found[run["run"]] = Path(os.path.relpath(folder, out)).as_posix() if folder else usual
    return found
