"""What trained networks were found to be worth by other statistics, as rows beside their runs.

In a study that asks for it (`report.evaluations` of its file), `evaluation` is a key like any other:
`running` is the run as it was trained and tested, every other value a line of its evaluations.jsonl.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from normbench.record.evaluations import Evaluation, read_evaluations, unpacked
from normbench.report.experiment import METRICS
from normbench.report.values import column

KEY, RUNNING = "evaluation", "running"
COLUMNS = [
    *("run", KEY, "weight", "dataset", "test_images"),
    *("top1_percent", "top5_percent", "loss", "answers"),
]
WORDS = (KEY, "answers")  # columns that never hold numbers


def of_folders(folders: Iterable[Path]) -> pd.DataFrame:
    """A row for each evaluation of the runs in these folders; `run` is the folder."""
    found = [line_of(folder, one) for folder in folders for one in read_evaluations(folder)]
    return pd.DataFrame({key: column([line.get(key) for line in found]) for key in COLUMNS})


def line_of(folder: Path, one: Evaluation) -> dict[str, object]:
    """An evaluation as a row."""
    return {**vars(one), "run": str(folder), KEY: one.name}


def with_evaluations(
    runs: pd.DataFrame, evaluations: pd.DataFrame, names: Iterable[str]
) -> pd.DataFrame:
    """The runs with a column `evaluation`, and a row more for each of the evaluations that are named,
    on the run's own dataset: called `run@name`, its accuracies those of the evaluation."""
    trained = runs.assign(**{KEY: RUNNING})
    asked = evaluations[evaluations[KEY].isin(set(names) - {RUNNING})]
    found = trained.drop(columns=KEY).merge(asked, on=["run", "dataset"], how="inner")
    found = found[found["status"] == "ok"].drop_duplicates(["run", KEY], keep="last")
    for metric in METRICS:
        found[metric] = found["top1_percent"]
    found["run"] += "@" + found[KEY].astype(str)
    return pd.concat([trained, found[list(trained)]], ignore_index=True) if len(found) else trained


def answers_of(runs: pd.DataFrame, evaluations: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """For each run, and each `run@name`, whether each test image was answered rightly, [images]; those
    of whom it was not kept are left out."""
    own = evaluations.merge(runs[["run", "dataset"]], on=["run", "dataset"])
    kept = own.dropna(subset=["answers", "test_images"])
    found = {}
    for run, name, images, answers in zip(
        kept["run"], kept[KEY], kept["test_images"], kept["answers"], strict=True
    ):
        called = run if name == RUNNING else f"{run}@{name}"
        found[called] = np.array(unpacked(answers, int(images)))
    return found
