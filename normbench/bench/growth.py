"""`normbench bench growth`: time of a step for an image, by what can grow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from normbench.bench.inputs import pool
from normbench.bench.timing import Contender, Replayed, Stopwatch, Times, interleaved
from normbench.models import create_model
from normbench.norms import NormFactory
from normbench.training.cuda_graph import capture

NORMS = ("bn", "frn", "gn", "sn")
BASE = {"batch": 8, "workers": 1, "depth": 20, "pixels": 32}
GROWS: dict[str, tuple[int, ...]] = {
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "workers": (1, 2, 4, 8, 16, 32),
    "depth": (8, 20, 32, 56, 110),
    "pixels": (16, 32, 64, 128),
}
CLASSES = 10


@dataclass(frozen=True)
class Row:
    """Forward and backward of a ResNet: microseconds for an image."""

    grows: str
    norm: str
    batch: int
    workers: int
    depth: int
    pixels: int
    forward_us_per_image: float
    backward_us_per_image: float
    us_per_image: float


def measure(device: torch.device, rounds: int) -> Iterator[list[Row]]:
    """The rows of one axis at a time: all of its points, and all norms, take turns."""
    for axis, values in GROWS.items():
        points = [(norm, {**BASE, axis: value}) for norm in NORMS for value in values]
        contenders = {(norm, at[axis]): contender(norm, at, device) for norm, at in points}
        found = interleaved(contenders, rounds)
        yield [row(axis, norm, at, found[norm, at[axis]]) for norm, at in points]


def contender(norm: str, at: Mapping[str, int], device: torch.device) -> Contender:
    """A ResNet on random images, channels-last; forward and backward as two parts, on CUDA by graphs."""
    options = {"groups": 8} if norm == "gn" else {}
    factory = NormFactory(norm, images=at["batch"], options=options)
    network = create_model("resnet", factory, classes=CLASSES, depth=at["depth"])
    network = network.to(device).to(memory_format=torch.channels_last).train()
    parameters = list(network.parameters())
    count = at["batch"] * at["workers"]
    images = torch.randn(count, 3, at["pixels"], at["pixels"], device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(count, device=device) % CLASSES

    def forward() -> Tensor:
        return torch.nn.functional.cross_entropy(network(images), labels)

    def both() -> None:
        torch.autograd.grad(forward(), parameters)

    if device.type == "cuda":
        return Replayed([capture(forward, pool()), capture(both, pool())], 1, device)
    watch = Stopwatch(device)

    def call() -> tuple[float, ...]:
        watch.lap()
        loss = forward()
        watch.lap()
        torch.autograd.grad(loss, parameters)
        watch.lap()
        return watch.laps()

    return call


def row(axis: str, norm: str, at: Mapping[str, int], times: Times) -> Row:
    images = at["batch"] * at["workers"]
    return Row(
        axis, norm, at["batch"], at["workers"], at["depth"], at["pixels"],
        forward_us_per_image=1e6 * times.parts[0] / images,
        backward_us_per_image=1e6 * times.parts[1] / images,
        us_per_image=1e6 * times.whole / images,
    )  # fmt: skip
