"""`load_runs`, `load_curves`, `load_learned`, `load_evaluations`: what runs left as pandas frames.

Each takes a folder: one with runs anywhere below it (results/runs, results/runs/quick, one run), or
one with the CSV files of a report (results/quick). Column `run` names a run in all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from normbench.errors import FailedError, UserError
from normbench.record.record import Record, find_records, tell_passed
from normbench.report import evaluations as others
from normbench.report.experiment import METRICS, norm_defaults
from normbench.report.summaries import COLUMNS, summaries
from normbench.report.values import Values, column, plain, value_of
from normbench.report.versions import named_by_version
from normbench.settings.schema import LATER

RUNS, CURVES, LEARNED = "runs.csv", "curves.csv", "learned.csv"
EVALUATIONS = "evaluations.csv"
WORDS = (  # columns that never hold numbers
    *("run", "study", "model", "dataset", "norm", "identity", "status", "error"),
    *("layer", "parameter", "histogram", *others.WORDS),
)
ABOUT = ["run", "study", "model", "dataset", "norm", "batch", "workers", "seed"]
OF_RECORD = (
    *("status", "error", *METRICS),
    *("parameters", "per_image", "train_seconds", "images_per_second", "peak_memory_mib"),
    *("device", "git_commit", "identity"),
)


def load_runs(folder: str | Path) -> pd.DataFrame:
    """One row a run: its settings, named like the keys of the command line (norm, norm.groups,
    model, dataset, batch, workers, seed, ...), and what it found.

    Accuracies (final_top1_percent, best_top1_percent, median_last5_top1_percent) are in percent on
    the test images, missing where the run failed or diverged; `status` is ok, diverged, failed or
    out_of_memory. From records there are also `folder`, train_seconds, images_per_second,
    peak_memory_mib, device and git_commit. A setting that a run's norm does not have is missing.
    UserError where the folder holds no run.
    """
    return existing([folder], parts=("runs",)).runs


def load_curves(folder: str | Path) -> pd.DataFrame:
    """One row a run and epoch: `epoch` from 1, the run's `run`, study, model, dataset, norm, batch,
    workers, seed, and what was measured, such as train_top1_percent and test_top1_percent."""
    found = existing([folder], parts=("runs", "curves"))
    return found.runs[ABOUT].merge(found.curves, on="run")


def load_learned(folder: str | Path) -> pd.DataFrame:
    """One row a run, layer and parameter that the norm learned there, layers in the order of the
    network, beside the run's `run`, study, model, dataset, norm, batch, workers and seed.

    Over the channels: `count`, mean, rms (root mean square), min, median, max, and, where all lie
    between 0 and 1, `histogram`: the channels in each of 20 equal bins. SN's weights are rows of
    their own: mean_weight.bn is BN's share of the mean, var_weight.bn that of the variance.
    """
    found = existing([folder], parts=("runs", "learned"))
    return found.runs[ABOUT].merge(found.learned, on="run")


def load_evaluations(folder: str | Path) -> pd.DataFrame:
    """One row a run and evaluation by `normbench evaluate`: `evaluation` (running, pooled,
    example@0.2, ...), the `weight` of the test image's own moments, test_images of `dataset`,
    top1_percent, top5_percent, loss, and `answers` (bits: whether each image was right), beside the
    run's `run`, study, model, norm, batch, workers and seed."""
    found = existing([folder], parts=("runs", "evaluations"))
    about = [key for key in ABOUT if key != "dataset"]
    return found.runs[about].merge(found.evaluations, on="run")


@dataclass
class Frames:
    """Runs, their curves, what they learned, and how else they were evaluated, joined by `run`."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    learned: pd.DataFrame
    evaluations: pd.DataFrame


def existing(folders: Sequence[str | Path], parts: Sequence[str] = ()) -> Frames:
    """The frames of folders that hold runs; UserError where none does."""
    found = read([Path(folder) for folder in folders], parts)
    if found.runs.empty:
        raise UserError(
            f"{folders[0]}: neither a {RUNS} in it nor a record.json below it; say where the runs are"
        )
    return found


def read(folders: Sequence[Path], parts: Sequence[str] = ()) -> Frames:
    """The frames of all folders; `parts`: which of runs, curves, learned, evaluations are needed; ():
    all."""
    if len(folders) == 1 and is_report(folders[0]):
        return read_files(folders[0])
    passed: list[FailedError] = []
    found = (pair for folder in sorted(folders) for pair in find_records(folder, passed))
    made = of_records(found, parts or ("runs", "curves", "learned", "evaluations"))
    tell_passed(passed)
    return made


def is_report(folder: Path) -> bool:
    """Whether a folder holds the CSV files of a report."""
    return (folder / RUNS).is_file()


def runs_of(results: Path, study: str) -> Path:
    """Where the runs of a study are: its records, or what a report of them has kept."""
    records, kept = results / "runs" / study, results / study
    there = next(find_records(records), None) is not None
    return kept if is_report(kept) and not there else records


# From CSV files


def read_files(folder: Path) -> Frames:
    """The frames of a report's folder. A file that is not there is an empty frame."""
    runs, curves, learned = (read_csv(folder / name) for name in (RUNS, CURVES, LEARNED))
    evaluated = read_csv(folder / EVALUATIONS)
    runs = runs.assign(**{key: value for key, value in LATER.items() if key not in runs})
    return Frames(
        runs.reindex(columns=list(dict.fromkeys([*ABOUT, *runs, "error", *METRICS, "per_image"]))),
        curves if len(curves) else of_curves({}),
        learned.reindex(columns=["run", "layer", "parameter", *COLUMNS]),
        evaluated.reindex(columns=others.COLUMNS),
    )


def read_csv(path: Path) -> pd.DataFrame:
    """A CSV file with typed columns: empty cells are missing, words stay words."""
    if not path.is_file():
        return pd.DataFrame()
    try:
        found = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not a CSV file of a report ({error})") from None
    if "run" not in found:
        raise UserError(f"{path}: has no column run; write it again with normbench report")
    values = {word: value_of(word) for word in pd.unique(found.to_numpy().ravel())}
    return pd.DataFrame(
        {
            key: column(
                [(plain(w) or None) if key in WORDS else plain(values[w]) for w in found[key]]
            )
            for key in found
        }
    )


# From records


def of_records(records: Iterable[tuple[Path, Record]], parts: Sequence[str]) -> Frames:
    """The frames of records with their folders, each folder once. A run is called by its path below
    the folder that they have in common."""
    runs: dict[Path, Values] = {}
    curves: dict[str, dict[str, list[Any]]] = {}
    learned: list[tuple[str, str, str, NDArray[np.float64]]] = []
    for path, record in records:
        if path not in runs:
            run, found = str(path), {key: plain(getattr(record, key)) for key in OF_RECORD}
            runs[path] = {**settings_of(record), **found, "run": run, "folder": run}
            curves[run] = record.curves if "curves" in parts else {}
            learned += [(run, *one) for one in (learned_of(record) if "learned" in parts else ())]
    top = os.path.commonpath([path.parent for path in runs]) if runs else ""
    names = {str(path): plain(path.relative_to(top).as_posix()) for path in runs}
    every = named_by_version(of_runs(list(runs.values())))
    evaluated = others.of_folders(runs if "evaluations" in parts else ())
    made = Frames(every, of_curves(curves), summaries(learned), evaluated)
    for some in (made.runs, made.curves, made.learned, made.evaluations):
        some["run"] = some["run"].map(names)
    return made


def of_runs(runs: Sequence[Values]) -> pd.DataFrame:
    """A row a run with typed columns: settings in the order of the first run that has them, results."""
    settings = dict.fromkeys([*ABOUT, *(key for run in runs for key in run)])
    results = [*OF_RECORD, "folder"]
    order = [*(key for key in settings if key not in results), *results]
    return pd.DataFrame({key: column([run.get(key) for run in runs]) for key in order})


def of_curves(curves: Mapping[str, dict[str, list[Any]]]) -> pd.DataFrame:
    """A row a run and epoch; what a run did not measure is missing."""
    count = {run: max(map(len, own.values()), default=0) for run, own in curves.items()}
    found: dict[str, list[Any]] = {
        "run": [run for run in curves for _ in range(count[run])],
        "epoch": [epoch for run in curves for epoch in range(1, count[run] + 1)],
    }
    for key in dict.fromkeys(key for own in curves.values() for key in own):
        found[key] = [
            value for run, own in curves.items() for value in own.get(key, [None] * count[run])
        ]
    return pd.DataFrame({key: column(values) for key, values in found.items()})


def settings_of(record: Record) -> Values:
    """The settings of a run by override key. A norm, model or dataset is its label, its options have
    its prefix; options of the norm that the record lacks have today's defaults."""
    values: Values = {}
    for key, value in record.settings.items():
        if key in ("norm", "model", "dataset"):
            own = norm_defaults(value["name"]) if key == "norm" else {}
            values[key] = plain(value["label"])
            values |= {f"{key}.{k}": plain(v) for k, v in {**own, **value["options"]}.items()}
        elif isinstance(value, dict):
            values |= {f"{key}.{k}": plain(v) for k, v in value.items()}
        else:
            values[key] = plain(value)
    if record.source is not None:
        values["source"] = record.source
    return values


def mean_shift(own: Mapping[str, Sequence[float]]) -> NDArray[np.float64]:
    """How far the mean of each channel before a norm is from 0, in its deviations."""
    mean: NDArray[np.float64] = np.abs(np.asarray(own["input_mean"], dtype=float))
    deviation = np.maximum(np.asarray(own["input_deviation"], dtype=float), 1e-12)
    shift: NDArray[np.float64] = mean / deviation
    return shift


def learned_of(record: Record) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """(layer, parameter, values over channels); of SN's weights one for each statistic it mixes."""
    using = record.settings["norm"]["options"].get("using")
    using = using if isinstance(using, list) else []
    for layer, own in ((plain(name), own) for name, own in record.learned.items()):
        if own.get("input_mean") and len(own["input_mean"]) == len(own.get("input_deviation", ())):
            yield layer, "mean_shift", mean_shift(own)
        for parameter, values in own.items():
            if parameter in ("mean_weight", "var_weight") and len(values) == len(using):
                for statistic, value in zip(using, values, strict=True):
                    yield layer, f"{parameter}.{statistic}", np.array([value])
            elif values:
                yield layer, parameter, np.array(values)
