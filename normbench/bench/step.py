"""`normbench bench step`: the parts of a training step, ours and the same network on other layers."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from normbench.bench import peers
from normbench.bench.timing import Contender, Stopwatch, Times, interleaved
from normbench.data import EpochBatches, dataset_info, stream
from normbench.errors import UserError
from normbench.models import create_model
from normbench.ops import use
from normbench.settings.schema import Settings
from normbench.training.cuda_graph import NotCapturedError, Replay, captured
from normbench.training.foreign import is_foreign
from normbench.training.loop import Run
from normbench.training.network import check, device_of
from normbench.training.optimizer import set_learning_rate
from normbench.training.run import data_of
from normbench.training.step import Step

OURS = "normbench"
PARTS = ("data", "forward", "backward", "update")


@dataclass(frozen=True)
class Row:
    """One contender: milliseconds of a step and of its parts; images per second; ratio to ours.

    A step replayed as a graph has no parts.
    """

    model: str
    norm: str
    batch: int
    workers: int
    precision: str
    by: str
    data_ms: float
    forward_ms: float
    backward_ms: float
    update_ms: float
    step_ms: float
    low_ms: float
    high_ms: float
    images_per_second: float
    data_percent: float
    times_ours: float


def refuse(settings: Settings, kinds: Sequence[str]) -> None:
    """UserError for what cannot be measured."""
    device_of(settings)
    check(settings)
    if settings.accumulate > 1:
        raise UserError(
            f"accumulate={settings.accumulate}: normbench bench step takes steps in one part; leave"
            " accumulate out"
        )
    if kinds and is_foreign(settings.model.name):
        raise UserError(
            f"model={settings.model.label}: peers have networks of ours only; give peers= without"
            " a name"
        )
    for kind in kinds:
        if settings.norm.name != "bn" and peers.peer(kind, settings.norm.name, 8) is None:
            raise UserError(
                f"peers={kind}: it has no layer that computes norm={settings.norm.name}"
            )


def measure(settings: Settings, kinds: Sequence[str], rounds: int) -> list[Row]:
    """A row for ours and for each peer. All see the same images, cropped and flipped by us.

    A peer's layers pool over the whole batch × workers, since they know no workers.
    """
    device, data = device_of(settings), data_of(settings)
    run = Run.start(settings, data, device)
    contenders = {}
    name, size = OURS, settings.sgd_batch
    if device.type == "cuda" and settings.precision != "fp16":
        run.model.train()
        try:
            replay = captured(run.step, run.plan(0), size)
            contenders[OURS] = replaying(replay, run.plan(0))
            run, name = Run.start(settings, data, device), f"{OURS}, no graph"
        except NotCapturedError as error:
            print(f"normbench: ours runs without a CUDA graph: {error}", file=sys.stderr)
    contenders[name] = training(run.step, run.plan(0), size)
    for kind in kinds:
        network = on_layers_of(kind, settings).to(device)
        if settings.channels_last:
            network = network.to(memory_format=torch.channels_last)
        step = Step(network, settings, device)
        contenders[named(kind, settings)] = training(step, run.plan(0), size)
    with use(settings.ops):
        found = interleaved(contenders, rounds)
    return [row(settings, by, times, found[OURS]) for by, times in found.items()]


def training(step: Step, shown: EpochBatches, size: int) -> Contender:
    """Steps one after another, at a learning rate so small that nothing diverges."""
    step.model.train()
    set_learning_rate(step.optimizer, 1e-6)
    watch, numbers = Stopwatch(step.device), endless(shown.steps(size))

    def call() -> tuple[float, ...]:
        watch.lap()
        images, labels = shown.batch(next(numbers), size)
        watch.lap()
        loss = step.forward(images, labels)
        watch.lap()
        step.backward(loss)
        watch.lap()
        step.update()
        watch.lap()
        return watch.laps()

    return call


def replaying(replay: Replay, shown: EpochBatches) -> Contender:
    """The whole step as one part, at learning rate 0."""
    watch, numbers = Stopwatch(replay.slots[0].device), endless(shown.steps(replay.size))

    def call() -> tuple[float, ...]:
        watch.lap()
        replay(shown, next(numbers))
        watch.lap()
        return watch.laps()

    return call


def endless(count: int) -> Iterator[int]:
    while True:
        yield from range(count)


def on_layers_of(kind: str, settings: Settings) -> nn.Module:
    """The settings' network with the peer's layer wherever ours has a norm with its activation."""
    classes = dataset_info(settings.dataset.name, settings.dataset.options).classes
    return create_model(
        settings.model.name,
        PeerFactory(kind, settings.norm.name),
        classes=classes,
        generator=stream(settings.seed, "weights", 0),
        **settings.model.options,
    )


@dataclass(frozen=True)
class PeerFactory:
    """A norm factory that gives the peer's layers."""

    kind: str
    norm: str

    def __call__(self, channels: int, activated: bool = True, stage: int = 0) -> nn.Module:
        layer = peers.peer(self.kind, self.norm, channels, activated)
        return layer if layer is not None else peers.baseline(channels, activated)

    def activation(self, channels: int) -> nn.Module:
        return peers.joint(self.norm, channels)


def named(kind: str, settings: Settings) -> str:
    if peers.peer(kind, settings.norm.name, 8) is None:
        return "torch BatchNorm2d"
    return f"{kind} {settings.norm.name}"


def row(settings: Settings, by: str, times: Times, ours: Times) -> Row:
    s = settings
    parts = times.parts if len(times.parts) == len(PARTS) else (math.nan,) * len(PARTS)
    data, forward, backward, update = (1000 * t for t in parts)
    return Row(
        s.model.label, s.norm_label, s.batch, s.workers, s.precision, by,
        data_ms=data,
        forward_ms=forward,
        backward_ms=backward,
        update_ms=update,
        step_ms=1000 * times.whole,
        low_ms=1000 * times.low,
        high_ms=1000 * times.high,
        images_per_second=s.sgd_batch / times.whole,
        data_percent=100 * parts[0] / times.whole,
        times_ours=times.whole / ours.whole,
    )  # fmt: skip
