"""The report of any folders: the experiment that their runs belong to, or one made up for them."""

from __future__ import annotations

import dataclasses

from normbench.report.experiment import Experiment, Values, load, names, parse
from normbench.report.runs import Run
from normbench.report.study import is_shared

METRIC = "final_top1_percent"


def experiment_of(runs: list[Run]) -> Experiment:
    """The experiment whose study all runs name, else norms (with the options in which they differ)
    by batch."""
    studies = {run.study for run in runs}
    if len(studies) == 1 and (study := studies.pop()) in names():
        return load(study)
    options = sorted({key for run in runs for key in run.values if key.startswith("norm.")})
    varied = [key for key in options if differs(key, runs)]
    points: list[Values] = []
    batches = {run.values["batch"] for run in runs}
    for run in runs:
        keys = ["norm", "batch", *varied]
        point = {key: run.values[key] for key in keys if key in run.values}
        everywhere = is_shared(run.values, run.values)  # run once, for every batch
        for batch in batches if everywhere else (run.values["batch"],):
            if (one := {**point, "batch": batch}) not in points:
                points.append(one)
    points.sort(key=lambda point: -point["batch"])
    made = parse("report", "report: {title: Runs}")
    return dataclasses.replace(
        made,
        points=points,
        rows=["norm", *varied],
        columns="batch",
        metric=METRIC,
        figures=["batch_size", "curves"],
    )


def differs(key: str, runs: list[Run]) -> bool:
    """Whether runs of one norm have more than one value of an option."""
    seen: dict[str, set[str]] = {}
    for run in runs:
        if key in run.values:
            seen.setdefault(run.values["norm"], set()).add(repr(run.values[key]))
    return any(len(values) > 1 for values in seen.values())
