"""`normbench evaluate RUN ...`: finished runs, by other statistics than they were trained with."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from normbench.errors import UserError, did_you_mean
from normbench.record.evaluations import EVALUATIONS, STATISTICS, Evaluation
from normbench.record.record import find_records
from normbench.settings.parse import choice

HELP = f"""\
normbench evaluate RUN ... [statistics=...] [weight=...] [images=...] [batches=...] [dataset=NAME]

  normbench evaluate results/runs/single                      every finished run below, in every way
  normbench evaluate RUN statistics=example weight=0.1,0.2    a line for each weight
  normbench evaluate RUN statistics=batch images=1,8,32       by the test batch's own statistics
One line more in {EVALUATIONS} beside each record; a line that is there is not computed again.

  statistics  by which the batch norms of a trained network evaluate, on the test images; all:
    running   as in training
    precise   the mean of the statistics of training batches, each worker's by themselves
    pooled    mean and variance over all images of training batches (arXiv 2105.07576)
    example   running, with the test image's own at a weight (arXiv 1906.03548)
    batch     those of some test images alone, in random order
  weight      of example: numbers from 0 to 1; null: 1 / images per worker of the training;
              validation: the best on the training images held out (dataset.validation). Default null
  images      of batch: how many test images; default: images per worker of the training
  batches     of precise and pooled: training batches; default: the run's evaluate.batches
  dataset     another dataset with the same classes; dataset.KEY=... are its options
"""
KEYS = ("statistics", "weight", "images", "batches", "dataset")
Compose = Callable[[Sequence[str]], dict[str, Any]]


def main(arguments: list[str], compose: Compose) -> int:
    """Evaluates the runs and prints a table; the exit code. UserError for words that do not fit."""
    if {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return 0
    roots = [Path(word) for word in arguments if "=" not in word and not word.startswith("-")]
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    for word in arguments:
        key = word.partition("=")[0]
        if word.startswith("-") or ("=" in word and key.partition(".")[0] not in KEYS):
            hint = did_you_mean(key, KEYS) or f"; there are {', '.join(KEYS)}"
            raise UserError(f"normbench evaluate has no {key}{hint}")
    if not roots:
        raise UserError(
            "normbench evaluate needs a run: a folder with a record.json in or below it"
        )
    ways = ways_of(given)
    data = [f"{key}={value}" for key, value in given.items() if key.startswith("dataset")]
    dataset = choice("dataset", compose(data)["dataset"]) if data else None
    folders = [folder for root in roots for folder in runs_in(root)]
    from normbench.training.reevaluate import reevaluate

    mistakes = []
    for folder in folders:
        try:
            show(folder, list(reevaluate(folder, ways, dataset, every="statistics" not in given)))
        except UserError as error:  # of this run; the others go on
            mistakes.append(error)
            if len(folders) > 1:
                print(f"normbench: {folder}: {error}", file=sys.stderr)
    if len(folders) == 1 and mistakes:
        raise mistakes[0]
    return 2 if mistakes else 0


def runs_in(root: Path) -> list[Path]:
    """The finished runs in a folder or below it. UserError where there is none."""
    found = [folder for folder, record in find_records(root) if record.status == "ok"]
    if not found:
        raise UserError(f"{root}: there is no finished run in it or below it")
    return found


def ways_of(given: Mapping[str, str]) -> list[Evaluation]:
    """What is asked for, as lines without a result. UserError for a word that is not among these."""
    chosen = given.get("statistics", ",".join(STATISTICS)).split(",")
    for word in chosen:
        if word not in STATISTICS:
            hint = did_you_mean(word, STATISTICS)
            raise UserError(f"statistics={word}: must be among {', '.join(STATISTICS)}{hint}")
    for key, used in (("weight", "example"), ("images", "batch")):
        if key in given and used not in chosen:
            raise UserError(f"{key}={given[key]} belongs to statistics={used}; add that")
    return [way for statistics in chosen for way in ways_by(statistics, given)]


def ways_by(statistics: str, given: Mapping[str, str]) -> list[Evaluation]:
    """One for each weight or number of images that is given."""
    if statistics == "example":
        return [weighed(word) for word in given.get("weight", "null").split(",")]
    if statistics == "batch" and "images" in given:
        words = given["images"].split(",")
        return [Evaluation("batch", images=whole("images", word)) for word in words]
    if statistics in ("precise", "pooled") and "batches" in given:
        return [Evaluation(statistics, batches=whole("batches", given["batches"]))]
    return [Evaluation(statistics)]


def weighed(word: str) -> Evaluation:
    """Example weighing at a weight, as it is typed."""
    if word == "null":
        return Evaluation("example", weight_from="1/batch")
    if word == "validation":
        return Evaluation("example", weight_from="validation")
    try:
        weight = float(word)
    except ValueError:
        weight = -1.0
    if not 0 <= weight <= 1:
        raise UserError(f"weight={word}: must be a number from 0 to 1, null or validation")
    return Evaluation("example", weight=weight, weight_from="given")


def whole(key: str, word: str) -> int:
    """A number of images or batches."""
    if not word.isdecimal() or int(word) < 1:
        raise UserError(f"{key}={word}: must be a whole number, 1 or more")
    return int(word)


def show(folder: Path, found: Sequence[Evaluation]) -> None:
    """The lines of a run as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=str(folder), box=None, pad_edge=False, title_justify="left")
    for name in ("statistics", "of", "top-1 %", "loss", "test images"):
        table.add_column(name, justify="left" if name in ("statistics", "of") else "right")
    for line in found:
        accuracy, images = f"{line.top1_percent:.2f}", f"{line.test_images} of {line.dataset}"
        table.add_row(line.statistics, detail(line), accuracy, f"{line.loss:.4f}", images)
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 200
    console.print(table, "")


def detail(line: Evaluation) -> str:
    """What the statistics are of, in words."""
    if line.statistics == "example":
        source = {"given": "", "1/batch": ", 1 / images per worker"}.get(
            str(line.weight_from), ", the best on the images held out"
        )
        return f"weight {line.weight:g}{source}"
    if line.statistics == "batch":
        return f"{line.images} test images"
    return f"{line.batches} training batches" if line.batches else ""
