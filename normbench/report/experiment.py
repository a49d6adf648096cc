"""An experiment file as the report needs it: which cells there should be, and how to lay them out.

Read as plain YAML: Hydra's composition matters to a run, not to its report.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from normbench.choices import names as choices_of
from normbench.choices import path_of, remembered
from normbench.errors import UserError, did_you_mean, way_out
from normbench.report.values import Values, plain
from normbench.settings.parse import NO_STUDY, parse_sweep
from normbench.settings.schema import FIXED_SGD_BATCH, PAPER_WORKERS

METRICS = {
    "final_top1_percent": "top-1 accuracy on the test images after the last epoch",
    "best_top1_percent": "best top-1 accuracy on the test images over the epochs",
    "median_last5_top1_percent": "median top-1 accuracy on the test images of the last five epochs",
}
KEYS = {
    *("title", "rows", "columns", "metric", "baseline", "published", "independent", "figures"),
    "evaluations",
}
MEDIAN_EPOCHS = 10  # with fewer, the last five would be more than half of the training
SCALE = "embedded"  # of a sweep, where neither its words nor its experiment name one


@dataclass(frozen=True)
class Experiment:
    """What a study consists of. `settings`: the file's other keys, fixed for all its cells; `choices`:
    the model and the dataset that it overrides."""

    name: str
    study: str
    notes: list[str]  # the comment lines on top of the file: source, what was found, what differs
    axes: dict[str, list[Any]]
    points: list[Values]
    settings: Values
    choices: Values
    title: str
    rows: list[str]
    columns: str | None
    metric: str
    baseline: Values
    published: list[Values] = field(default_factory=list)
    independent: list[Values] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    evaluations: list[str] = field(default_factory=list)  # the values of the key `evaluation`
    scale: str = SCALE

    @property
    def keys(self) -> list[str]:
        """The override keys in which its cells differ, in the order of the file."""
        return list(dict.fromkeys([*self.axes, *(key for point in self.points for key in point)]))

    def cells(self) -> list[Values]:
        """Every combination of the axes with every point, each with a value for each key."""
        product = itertools.product(*self.axes.values())
        grid = [dict(zip(self.axes, row, strict=True)) for row in product]
        return [self.complete({**cell, **point}) for point in self.points or [{}] for cell in grid]

    def only(self, norms: Sequence[str]) -> Experiment:
        """The same with these norms alone, in this order. UserError for one that it does not have."""
        there = list(dict.fromkeys(str(cell.get("norm")) for cell in self.cells()))
        for norm in norms:
            if norm not in there:
                raise UserError(f"norms={norm}: {self.name} has none{way_out(norm, there)}")
        points = [point for point in self.points if point.get("norm", norms[0]) in norms]
        points.sort(key=lambda point: norms.index(point.get("norm", norms[0])))
        axes = {**self.axes, **({"norm": list(norms)} if "norm" in self.axes else {})}
        return dataclasses.replace(self, points=points, axes=axes)

    def complete(self, cell: Mapping[str, Any]) -> Values:
        """`cell` with the defaults of its norm for the options that it leaves out; else None."""
        own = norm_defaults(str(cell.get("norm", "")))
        return {key: plain(cell.get(key, own.get(key.removeprefix("norm.")))) for key in self.keys}

    def planned(self) -> Values:
        """The settings that a sweep without further words would run: of train.yaml, of its scale, then
        its own."""
        every: Values = {}
        for file in (read("", "train"), read("scale", self.scale)):
            every |= choices(file) | {k: v for k, v in file.items() if k != "defaults"}
        every |= self.choices | self.settings
        if every["protocol"] == "fixed":
            every |= {"sgd_batch": every["sgd_batch"] or FIXED_SGD_BATCH, "batch": None}
        return every | {"workers": every["workers"] or PAPER_WORKERS}


@remembered
def norm_defaults(name: str) -> Values:
    """The options of a norm as its file has them; empty for a norm without a file."""
    found = usual_options(name).items()
    return {key: values[0] for key, values in found if key not in ("name", "label")}


def norm_name(label: str) -> str:
    """The name of the norm behind what tables call it: gn for a file of the user's own, gn4.yaml,
    that says name: gn."""
    return str(read("norm", label).get("name")) if path_of("norm", label) else label


@remembered
def usual_options(name: str) -> dict[str, list[Any]]:
    """The values of each option of a norm that nobody had to ask for: its file's, or a scale's."""
    if not name or path_of("norm", name) is None:
        return {}
    return {key: usual(value) for key, value in read("norm", name).items()}


def usual(value: Any) -> list[Any]:
    """The values that `value` stands for: of `${gn_groups}` that of train.yaml, then of the scales."""
    if not (isinstance(value, str) and value.startswith("${")):
        return [value]
    every = [read("", "train"), *(read("scale", name) for name in choices_of("scale"))]
    return [data[value[2:-1]] for data in every if value[2:-1] in data]


@remembered
def read(group: str, name: str) -> Values:
    """The file of a choice that there is, or of conf/ itself."""
    file = path_of(group, name)
    assert file is not None, f"{group}={name}"
    found: Values = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def choices(file: Values) -> Values:
    """The model and the dataset that the defaults list of a file names."""
    return {key: value for key, value in named(file).items() if key in ("model", "dataset")}


def named(file: Values) -> Values:
    """The choices that the defaults list of a file names, by group."""
    entries = [entry for entry in file.get("defaults", []) if isinstance(entry, dict)]
    return {key.split("/")[-1]: value for entry in entries for key, value in entry.items()}


def names() -> list[str]:
    """The experiments there are."""
    return choices_of("experiment")


def load(name: str) -> Experiment:
    """The experiment `name`. UserError where there is none."""
    file = path_of("experiment", name)
    if file is None:
        hint = did_you_mean(name, names()) or f"; there are {', '.join(names())}"
        raise UserError(f"there is no experiment={name}{hint}")
    return parse(name, file.read_text(encoding="utf-8"))


def parse(name: str, text: str) -> Experiment:
    """An experiment from the text of its file. UserError for axes, points or a report of another kind,
    and for an unknown key of `report`."""
    data: Values = yaml.safe_load(text)
    try:
        parse_sweep({**NO_STUDY, **{key: data[key] for key in NO_STUDY if data.get(key)}})
    except UserError as error:
        raise UserError(f"experiment={name}: {error}") from None
    report: Values = data.pop("report", None) or {}
    chosen, scale = choices(data), named(data).get("scale", SCALE)
    data.pop("defaults", None)
    if unknown := set(report) - KEYS:
        word = min(unknown)
        hint = did_you_mean(word, KEYS) or f"; there are {', '.join(sorted(KEYS))}"
        raise UserError(f"experiment={name}: report has no key {word!r}{hint}")
    metric = report.get("metric", "median_last5_top1_percent")
    axes = data.pop("axes", None) or {}
    evaluations = [str(word) for word in report.get("evaluations", [])]
    axes |= {"evaluation": evaluations} if evaluations else {}
    return Experiment(
        name=name,
        study=data.pop("study", name),
        notes=paragraphs(text),
        axes={key: list(values) for key, values in axes.items()},
        points=data.pop("points", None) or [],
        settings=by_key(data),
        choices=chosen,
        title=report.get("title", name),
        rows=list(report.get("rows", ["norm"])),
        columns=report.get("columns"),
        metric=known_metric(metric),
        baseline={k: plain(v) for k, v in report.get("baseline", {"norm": "bn"}).items()},
        published=report.get("published", []),
        independent=report.get("independent", []),
        figures=list(report.get("figures", [])),
        evaluations=evaluations,
        scale=scale,
    )


def by_key(data: Values) -> Values:
    """Settings by override key: {dataset: {validation: 9}} is dataset.validation = 9."""
    found: Values = {}
    for key, value in data.items():
        some = value.items() if isinstance(value, dict) else ()
        found |= {f"{key}.{inner}": one for inner, one in some} or {key: value}
    return found


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


def known_metric(name: str, more: Sequence[str] = ()) -> str:
    """The full name of a metric; final, best and median will do; `more` words are allowed as they
    are. UserError for another."""
    for full in METRICS:
        if name in (full, full.split("_")[0]):
            return full
    if name in more:
        return name
    every = [*METRICS, *more]
    raise UserError(f"metric={name} is not one of {', '.join(every)}{did_you_mean(name, every)}")


def metric_for(wanted: str, epochs: int | None) -> str:
    """The metric of runs of so many epochs: the median of the last five only where these are at most
    half of the training, else the accuracy after the last epoch."""
    short = epochs is not None and epochs < MEDIAN_EPOCHS
    return "final_top1_percent" if short and wanted.startswith("median") else wanted
