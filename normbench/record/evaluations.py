"""evaluations.jsonl: what else a finished run was found to be worth, by other statistics."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

EVALUATIONS = "evaluations.jsonl"
STATISTICS = ("running", "precise", "pooled", "example", "batch")


@dataclass(frozen=True)
class Evaluation:
    """A line: the statistics by which the batch norms of a trained network evaluate, and the result.

    weight: of the test image's own moments (example), as `weight_from` says: given, 1/batch (one over
    the images per worker of the training), or the best on the training images that were held out
    (validation). images: the test images whose common statistics each of them is normalized by
    (batch). batches: training batches (precise, pooled). top1_percent, top5_percent (None: 5 classes
    or fewer) and loss are over `test_images` images of `dataset`.
    """

    statistics: str = "running"
    weight: float | None = None
    weight_from: Literal["given", "1/batch", "validation"] | None = None
    images: int | None = None
    batches: int | None = None
    dataset: str | None = None
    test_images: int | None = None
    top1_percent: float | None = None
    top5_percent: float | None = None
    loss: float | None = None

    @property
    def way(self) -> tuple[Any, ...]:
        """What is asked for, without the result: the same question has the same answer."""
        weight = None if self.weight_from == "validation" else self.weight
        return (
            self.statistics, weight, self.weight_from, self.images, self.batches, self.dataset
        )  # fmt: skip


def read_evaluations(folder: Path) -> list[Evaluation]:
    """The lines of a run's folder, in their order; a line that is no evaluation is left out."""
    try:
        lines = (folder / EVALUATIONS).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for line in lines:
        try:
            found.append(Evaluation(**json.loads(line)))
        except (ValueError, TypeError):  # the end of one that was interrupted
            continue
    return found


def append_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Writes one line more, at once."""
    line = json.dumps(dataclasses.asdict(evaluation)) + "\n"
    with (folder / EVALUATIONS).open("a", encoding="utf-8") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
