"""An experiment file as the report needs it: which cells there should be, and how to lay them out.

Read as plain YAML: Hydra's composition matters to a run, not to its report.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import yaml

from normbench.errors import UserError, did_you_mean

METRICS = {
    "final_top1_percent": "top-1 accuracy on the test images after the last epoch",
    "best_top1_percent": "best top-1 accuracy on the test images over the epochs",
    "median_last5_top1_percent": "median top-1 accuracy on the test images of the last five epochs",
}
KEYS = {"title", "rows", "columns", "metric", "baseline", "published", "independent", "figures"}
Values = dict[str, Any]  # override key -> value, such as norm -> gn, norm.groups -> 8


@dataclass(frozen=True)
class Experiment:
    """What a study consists of. `settings` are the file's other keys, fixed for all its cells."""

    name: str
    study: str
    notes: list[str]  # the comment lines on top of the file: source, what was found, what differs
    axes: dict[str, list[Any]]
    points: list[Values]
    settings: Values
    title: str
    rows: list[str]
    columns: str | None
    metric: str
    baseline: Values
    published: list[Values] = field(default_factory=list)
    independent: list[Values] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        """The override keys in which its cells differ, in the order of the file."""
        return list(dict.fromkeys([*self.axes, *(key for point in self.points for key in point)]))

    def cells(self) -> list[Values]:
        """Every combination of the axes with every point, each with a value for each key."""
        grid = [
            dict(zip(self.axes, row, strict=True)) for row in itertools.product(*self.axes.values())
        ]
        return [self.complete({**cell, **point}) for point in self.points or [{}] for cell in grid]

    def complete(self, cell: Mapping[str, Any]) -> Values:
        """`cell` with the defaults of its norm for the options that it leaves out; else None."""
        own = norm_defaults(str(cell.get("norm", "")))
        return {key: frozen(cell.get(key, own.get(key.removeprefix("norm.")))) for key in self.keys}


def frozen(value: Any) -> Any:
    """`value` in a form that can be a dictionary's key: lists as tuples."""
    return tuple(value) if isinstance(value, list) else value


@functools.cache
def norm_defaults(name: str) -> Values:
    """The options of a norm as its file has them; empty for a norm without a file."""
    found = usual_options(name).items()
    return {key: values[0] for key, values in found if key not in ("name", "label")}


@functools.cache
def usual_options(name: str) -> dict[str, list[Any]]:
    """The values of each option of a norm that nobody had to ask for: its file's, or a scale's."""
    file = files("normbench.conf") / "norm" / f"{name}.yaml"
    if not name or not file.is_file():
        return {}
    data: Values = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {key: usual(value) for key, value in data.items()}


def usual(value: Any) -> list[Any]:
    """The values that `value` stands for: of `${gn_groups}` that of train.yaml, then of the scales."""
    if not (isinstance(value, str) and value.startswith("${")):
        return [value]
    conf, key = files("normbench.conf"), value[2:-1]
    scales = sorted((conf / "scale").iterdir(), key=lambda entry: entry.name)
    every = [conf / "train.yaml", *(entry for entry in scales if entry.name.endswith(".yaml"))]
    found = [yaml.safe_load(entry.read_text(encoding="utf-8")) for entry in every]
    return [data[key] for data in found if key in data]


def names() -> list[str]:
    """The experiments there are."""
    folder = files("normbench.conf") / "experiment"
    found = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def load(name: str) -> Experiment:
    """The experiment `name`. UserError where there is none."""
    if name not in names():
        hint = did_you_mean(name, names()) or f"; there are {', '.join(names())}"
        raise UserError(f"there is no experiment={name}{hint}")
    file = files("normbench.conf") / "experiment" / f"{name}.yaml"
    return parse(name, file.read_text(encoding="utf-8"))


def parse(name: str, text: str) -> Experiment:
    """An experiment from the text of its file. UserError for an unknown key of `report`."""
    data: Values = yaml.safe_load(text)
    report: Values = data.pop("report", {})
    data.pop("defaults", None)
    if unknown := set(report) - KEYS:
        word = min(unknown)
        hint = did_you_mean(word, KEYS) or f"; there are {', '.join(sorted(KEYS))}"
        raise UserError(f"experiment={name}: report has no key {word!r}{hint}")
    metric = report.get("metric", "median_last5_top1_percent")
    return Experiment(
        name=name,
        study=data.pop("study", name),
        notes=paragraphs(text),
        axes={key: list(values) for key, values in (data.pop("axes", None) or {}).items()},
        points=data.pop("points", None) or [],
        settings=data,
        title=report.get("title", name),
        rows=list(report.get("rows", ["norm"])),
        columns=report.get("columns"),
        metric=known_metric(metric),
        baseline=report.get("baseline", {"norm": "bn"}),
        published=report.get("published", []),
        independent=report.get("independent", []),
        figures=list(report.get("figures", [])),
    )


def paragraphs(text: str) -> list[str]:
    """The comment on top of a file: source; what the paper found; what differs here."""
    head = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    lines = [line.lstrip("# ") for line in head if "@package" not in line]
    found: list[str] = lines[:1]
    for line in lines[1:]:
        if len(found) == 1 or line.startswith(("Found", "Here")):
            found.append(line)
        else:
            found[-1] += f" {line}"
    return found


def known_metric(name: str) -> str:
    """The full name of a metric; final, best and median will do. UserError for another."""
    for full in METRICS:
        if name in (full, full.split("_")[0]):
            return full
    raise UserError(
        f"metric={name} is not one of {', '.join(METRICS)}{did_you_mean(name, METRICS)}"
    )
