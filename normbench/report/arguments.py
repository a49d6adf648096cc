"""The arguments of `normbench report`: key=value pairs and folders, checked."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from normbench.errors import UserError
from normbench.report.document import PANELS, WIDTHS, View
from normbench.report.experiment import Experiment, known_metric, names
from normbench.report.frames import is_report
from normbench.report.values import Values, plain
from normbench.settings.bounds import MOST_CELLS
from normbench.words import Words, one_of, several, whole

DRAWN = ("svg", "png", "pdf")
MEASURES = ("error", "accuracy")
FORMATS = ("md", "csv", *DRAWN, "tex", "html")
USUAL = ("md", "csv", "svg")
SHOWN = ("metric", "seeds", "norms", "panels", "width")  # keys that change what is shown
KEPT = "arguments.txt"  # of a report: what it was asked for beyond the runs


@dataclass
class Request:
    """What is asked for."""

    experiment: str | None = None
    folders: list[Path] = field(default_factory=list)
    results: Path = Path("results")
    out: Path | None = None
    metric: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    panels: str = "both"
    width: str = "page"
    seeds: int | None = None
    formats: tuple[str, ...] = USUAL
    where: Values = field(default_factory=dict)
    axes: dict[str, list[Any]] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)  # words that change what is shown, by key

    @property
    def wanted(self) -> str | None:
        """Which accuracy of a run is asked for; None: the experiment's."""
        return next((one for one in self.metric if one not in MEASURES), None)

    @property
    def view(self) -> View:
        """How it is to be shown."""
        measure = next((one for one in self.metric if one in MEASURES), "")
        return View(measure, self.panels, self.width)


def parse(arguments: list[str]) -> Request:
    """The request of the arguments; for the folder of a report, what that report was asked for goes
    before them. UserError for an unknown key, a bad value, or none at all."""
    request = understood(arguments)
    if request.experiment is None and not request.folders:
        raise UserError(
            f"normbench report: say experiment=NAME (there are {', '.join(names())}) or folders"
        )
    if len(request.folders) == 1 and is_report(request.folders[0]):
        file = request.folders[0] / KEPT
        words = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        request = understood([*words, *arguments])
    return request


def understood(arguments: list[str]) -> Request:
    """The arguments one by one; of two with the same key the later counts."""
    given = WORDS.read(arguments)
    words = {word.partition("=")[0]: word for word in arguments}
    return Request(
        **{key: value for key, value in given.values.items() if "." not in key},
        folders=given.alone,
        where=given.below("where"),
        axes=given.below("axes"),
        kept={k: words[k] for k in given.values if k in SHOWN or "." in k},
    )


def remember(request: Request, out: Path, shown: Experiment, guessed: Experiment) -> None:
    """Keeps in the report's folder what it was asked for, where its runs alone would not tell."""
    words = [] if shown.name == guessed.name else [f"experiment={shown.name}"]
    words += sorted(request.kept.values())
    if words:
        (out / KEPT).write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    else:
        (out / KEPT).unlink(missing_ok=True)


def metric(text: str) -> tuple[str, ...]:
    """Which accuracy of a run, or error or accuracy, or one of each: best,error."""
    words = tuple(known_metric(word, MEASURES) for word in text.split(","))
    if len({word in MEASURES for word in words}) < len(words):
        raise ValueError("one of final, best and median, and one of error and accuracy")
    return words


def folder(text: str) -> Path:
    if not os.path.isdir(text):  # False too for what cannot be the name of a file
        raise UserError(
            f"{text}: not a folder; normbench report takes experiment=NAME or folders of runs"
        )
    return Path(text)


def typed(text: str) -> Any:
    """A value as it stands in YAML: 2, resnet20, [a, b]."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError("must be a value as in YAML, such as 2, resnet20 or [2,8]") from None


def values(text: str) -> list[Any]:
    """[2,8] is a list of values, 2 a list of one."""
    found = typed(text)
    return found if isinstance(found, list) else [found]


WORDS = Words(
    "report",
    keys={
        "experiment": str,
        "results": Path,
        "out": Path,
        "metric": metric,
        "norms": several(str),
        "panels": one_of(PANELS),
        "width": one_of(WIDTHS),
        "seeds": whole(1, MOST_CELLS),
        "formats": several(one_of(FORMATS), or_none=True),
        "where.KEY": lambda text: plain(typed(text)),
        "axes.KEY": values,
    },
    alone=folder,
)
