"""What each rank of a test computes, in a process of its own: see `test_distributed`.

RANK, COUNT and FOLDER are given. FOLDER has cases.pickle: for each case its name, settings and norms. Each
rank leaves what it has after 20 steps in FOLDER/<COUNT>-<RANK>.pt.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from normbench import create_norm
from normbench.data import Dataset, Split
from normbench.settings.schema import Settings
from normbench.training.distributed import Ranks, spread
from normbench.training.loop import Run, epochs
from normbench.training.step import Step

CPU = torch.device("cpu")
CLASSES, SIZE, IMAGES = 10, 8, 320  # with 16 a step: an epoch of 20 steps
Chosen = tuple[str, dict[str, Any]]  # a norm and its options


def tiny() -> Dataset:
    numbers = torch.Generator().manual_seed(0)

    def split(images: int) -> Split:
        pixels = torch.randint(0, 256, (images, 3, SIZE, SIZE), generator=numbers).to(torch.uint8)
        return Split(pixels, torch.randint(0, CLASSES, (images,), generator=numbers))

    half = (0.5, 0.5, 0.5)
    return Dataset("tiny", CLASSES, half, half, split(IMAGES), split(32))


class Network(nn.Module):
    """A convolution before each of the norms."""

    def __init__(self, norms: Sequence[Chosen], images: int) -> None:
        super().__init__()
        self.stages = nn.ModuleDict()
        for name, options in norms:
            conv = nn.Conv2d(8 if self.stages else 3, 8, 3, padding=1, bias=False)
            self.stages[name] = nn.Sequential(
                conv, create_norm(name, 8, activation="auto", images=images, **options)
            )
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.double()
        for stage in self.stages.values():
            x = stage(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def trained(s: Settings, norms: Sequence[Chosen], ranks: Ranks) -> dict[str, Any]:
    """Weights, buffers and rows, in float64."""
    torch.manual_seed(0)
    model = Network(norms, s.batch).double()
    spread(model, s, ranks)
    step = Step(model, s, CPU, ranks)
    step.loss_sum, step.correct = step.loss_sum.double(), step.correct.double()
    run = Run(s, CPU, model, step, tiny().on(CPU), ranks=ranks)
    rows = [
        {k: v for k, v in row.items() if "second" not in k}
        for row in epochs(run, 0, lambda *_: None)
    ]
    return {"state": model.state_dict(), "rows": rows}


def main(rank: int, count: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if count > 1:
        place = f"file://{folder / f'store{count}'}"
        dist.init_process_group("gloo", init_method=place, rank=rank, world_size=count)
    cases: dict[str, tuple[Settings, Sequence[Chosen]]] = pickle.loads(
        (folder / "cases.pickle").read_bytes()
    )
    alike = Ranks(rank, count)
    found = {name: trained(s, norms, alike) for name, (s, norms) in cases.items()}
    torch.save(found, folder / f"{count}-{rank}.pt")
    if count > 1:
        dist.destroy_process_group()


if "RANK" in globals():
    main(globals()["RANK"], globals()["COUNT"], globals()["FOLDER"])
