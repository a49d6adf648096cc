"""The arguments of `normbench report`: key=value pairs and folders, checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from normbench.errors import UserError, did_you_mean
from normbench.report.experiment import Experiment, known_metric, names
from normbench.report.frames import is_report
from normbench.report.values import Values, plain

DRAWN = ("svg", "png")
FORMATS = ("md", "csv", *DRAWN, "tex", "html")
USUAL = ("md", "csv", "svg")
KEPT = "arguments.txt"  # of a report: what it was asked for beyond the runs
KEYS = ("experiment", "results", "out", "metric", "seeds", "formats", "where.KEY", "axes.KEY")
HELP = """\
normbench report experiment=NAME [key=value ...]   tables and figures of a study, from its records
normbench report FOLDER...                         the same of any runs
normbench report results/STUDY                     again, from the CSV files that an earlier one left
normbench report claims                            what the papers claim, and what the runs say of it

  results=results       where the runs are: below results/runs/<study>
  out=DIR               where the report goes; results/<study>
  metric=NAME           final, best or median (of the last five of 10 epochs or more); the paper's own
  seeds=N               seeds 0 to N-1 are expected; those that were run
  where.KEY=VALUE       only these runs, such as where.model=resnet20 or where.protocol=fixed
  axes.KEY=[A,B]        the study was run with these values
  formats=md,csv,svg    what to write, of md, csv, svg, png, tex and html

"""


@dataclass
class Request:
    """What is asked for."""

    experiment: str | None = None
    folders: list[Path] = field(default_factory=list)
    results: Path = Path("results")
    out: Path | None = None
    metric: str | None = None
    seeds: int | None = None
    formats: tuple[str, ...] = USUAL
    where: Values = field(default_factory=dict)
    axes: dict[str, list[Any]] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)  # words that change what is shown, by key


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
    request = Request()
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key in ("metric", "seeds") or key.startswith(("where.", "axes.")):
            request.kept[key] = argument
        if not equals:
            request.folders.append(folder(argument))
        elif key.startswith("where."):
            request.where[key.removeprefix("where.")] = plain(yaml.safe_load(value))
        elif key.startswith("axes."):
            values = yaml.safe_load(value)
            several = values if isinstance(values, list) else [values]
            request.axes[key.removeprefix("axes.")] = several
        elif key in SETTERS:
            setattr(request, key, SETTERS[key](value))
        else:
            hint = did_you_mean(key, KEYS) or f"; there are {', '.join(KEYS)}"
            raise UserError(f"normbench report has no {key}={hint}")
    return request


def remember(request: Request, out: Path, shown: Experiment, guessed: Experiment) -> None:
    """Keeps in the report's folder what it was asked for, where its runs alone would not tell."""
    words = [] if shown.name == guessed.name else [f"experiment={shown.name}"]
    words += sorted(request.kept.values())
    if words:
        (out / KEPT).write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    else:
        (out / KEPT).unlink(missing_ok=True)


def folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise UserError(
            f"{text}: not a folder; normbench report takes experiment=NAME or folders of runs"
        )
    return Path(text)


def formats(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(",")) if text else ()
    for word in chosen:
        if word not in FORMATS:
            hint = did_you_mean(word, FORMATS) or ""
            raise UserError(f"formats={text}: {word!r} is not among {', '.join(FORMATS)}{hint}")
    return chosen


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"seeds={text}: must be a whole number, 1 or more")
    return int(text)


SETTERS: dict[str, Callable[[str], Any]] = {
    "experiment": str,
    "results": Path,
    "out": Path,
    "metric": known_metric,
    "seeds": count,
    "formats": formats,
}
