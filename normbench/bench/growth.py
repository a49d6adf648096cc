"""`normbench bench growth`: time of a step for an image, by what can grow, and its figure."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from matplotlib.style import context
from matplotlib.ticker import LogLocator, NullLocator

from normbench.bench.timing import Contender, Stopwatch, Times, interleaved
from normbench.models import create_model
from normbench.norms import NormFactory
from normbench.report.figures.style import RULES, look, sheet
from normbench.report.names import norm as name_of

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
    """A ResNet on random images, channels-last; forward and backward as two parts."""
    options = {"groups": 8} if norm == "gn" else {}
    factory = NormFactory(norm, images=at["batch"], options=options)
    network = create_model("resnet", factory, classes=CLASSES, depth=at["depth"])
    network = network.to(device).to(memory_format=torch.channels_last).train()
    parameters = list(network.parameters())
    count = at["batch"] * at["workers"]
    images = torch.randn(count, 3, at["pixels"], at["pixels"], device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(count, device=device) % CLASSES
    watch = Stopwatch(device)

    def call() -> tuple[float, ...]:
        watch.lap()
        loss = torch.nn.functional.cross_entropy(network(images), labels)
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


def figure(rows: Sequence[Row], kind: str) -> bytes:
    """A panel an axis: microseconds for an image, both axes by factors; kind: svg or png."""
    with context(RULES, after_reset=True):
        drawing, axes = sheet(1, len(GROWS), 2.3, sharey=False)
        looks = look({norm: norm for norm in NORMS})
        for place, axis in zip(axes[0], GROWS, strict=True):
            for norm in NORMS:
                some = [r for r in rows if r.grows == axis and r.norm == norm]
                x, y = [getattr(r, axis) for r in some], [r.us_per_image for r in some]
                place.plot(x, y, label=name_of(norm), **looks[norm].line)
            place.set_xscale("log", base=2)
            place.set_yscale("log")
            place.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
            place.yaxis.set_minor_locator(NullLocator())
            place.set_xticks(GROWS[axis])
            place.xaxis.set_major_formatter("{x:g}")
            place.yaxis.set_major_formatter("{x:,g}")
            place.xaxis.set_minor_locator(NullLocator())
            fixed = ", ".join(f"{k} {v}" for k, v in BASE.items() if k != axis)
            place.set_title(axis)
            place.set_xlabel(fixed, fontsize=6)
        axes[0][0].set_ylabel("µs for an image")
        axes[0][0].legend()
        out = io.BytesIO()
        drawing.savefig(
            out, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else None
        )
    return out.getvalue()
