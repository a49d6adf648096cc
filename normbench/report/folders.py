"""The report of any folders: the experiment that their runs belong to, or one made up for them."""

from __future__ import annotations

import dataclasses

import pandas as pd

from normbench.report.experiment import Experiment, load, names, parse
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
