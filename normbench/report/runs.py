"""The runs of a report, from their records, and runs.csv, one line a run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normbench.record.record import Record, find_records
from normbench.report.experiment import Values, norm_defaults

NO_RESULT = (
    *("device", "study", "results", "histograms", "dataset.root", "dataset.source"),
    "per_image",  # follows from the norm
)
FILE = "runs.csv"


@dataclass(frozen=True)
class Run:
    """A record, with its settings by override key: norm, norm.groups, model, batch, ..."""

    folder: Path
    record: Record
    values: Values

    @property
    def seed(self) -> int:
        return int(self.values["seed"])

    @property
    def study(self) -> str:
        return str(self.record.settings["study"])


def read_runs(roots: Iterable[Path]) -> list[Run]:
    """Every record below the folders, once each, in the order of their paths."""
    found = {folder: record for root in roots for folder, record in find_records(root)}
    return [
        Run(folder, record, flat(record.settings) | {"per_image": record.per_image})
        for folder, record in sorted(found.items())
    ]


def flat(settings: dict[str, Any]) -> Values:
    """Settings by override key. A norm, model or dataset is its label; its options have its prefix.

    A norm's options that the record lacks have the defaults of today.
    """
    values: Values = {}
    for key, value in settings.items():
        if key in ("norm", "model", "dataset"):
            own = norm_defaults(value["name"]) if key == "norm" else {}
            values[key] = value["label"]
            values |= {f"{key}.{k}": plain(v) for k, v in {**own, **value["options"]}.items()}
        elif isinstance(value, dict):
            values |= {f"{key}.{k}": plain(v) for k, v in value.items()}
        else:
            values[key] = plain(value)
    return values


def plain(value: Any) -> Any:
    """A value that can be compared and hashed: lists as tuples, mappings as text."""
    if isinstance(value, list):
        return tuple(plain(item) for item in value)
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def runs_csv(runs: Iterable[Run]) -> str:
    """One line a run, sorted, with nothing of the machine or the time: the same study gives the
    same bytes, however often it was interrupted. Accuracies in percent."""
    lines = sorted(
        (line(run) for run in runs), key=lambda item: [str(value) for value in item.values()]
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(line_keys()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def line_keys() -> tuple[str, ...]:
    return (
        *("study", "model", "dataset", "norm", "options", "protocol", "batch", "workers", "seed"),
        *("activation", "norm_stages", "epochs", "lr", "evaluate", "status", "final_top1_percent"),
        *("best_top1_percent", "median_last5_top1_percent", "parameters", "identity"),
    )


def line(run: Run) -> dict[str, str]:
    """The columns of a run, each as text; a float has as many digits as tell it from the next."""
    record, values = run.record, run.values
    of_run = {
        "options": " ".join(f"{k[5:]}={text(v)}" for k, v in values.items() if k[:5] == "norm."),
        "evaluate": values.get("evaluate.statistics"),
        "study": run.study,
        "identity": record.identity,
        "status": record.status,
        "parameters": record.parameters,
    }
    return {
        key: text(of_run.get(key, values.get(key, getattr(record, key, None))))
        for key in line_keys()
    }


def text(value: Any) -> str:
    """A value as it is typed on the command line; empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{','.join(text(item) for item in value)}]"
    return repr(value) if isinstance(value, float) else str(value)
