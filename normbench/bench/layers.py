"""`normbench bench layers`: every norm with its activation, forward and backward, in training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from normbench.bench.inputs import Inputs, Shape, kept_tensors
from normbench.bench.peers import BASELINE, baseline, groups, peer
from normbench.bench.timing import Contender, Times, interleaved
from normbench.errors import UserError
from normbench.norms import create_norm
from normbench.training.cuda_graph import NotCapturedError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
COPY = "copy"
FORWARD, BACKWARD = 2, 3  # tensors of x's size that must move: x, y; and x, g, gx


@dataclass(frozen=True)
class Request:
    """What is to be measured; peers: of `peers.PEERS`; threads: of the CPU."""

    norms: tuple[str, ...]
    shapes: tuple[Shape, ...]
    layouts: tuple[str, ...]
    dtypes: tuple[str, ...]
    backends: tuple[str, ...]
    peers: tuple[str, ...]
    device: torch.device
    rounds: int


@dataclass(frozen=True)
class Row:
    """One contender: microseconds, ratios to the baseline, share of the copy's bandwidth.

    Parameters are float32 and, where x is not, the layers run under autocast, as in training.

    ratio: to BatchNorm2d + ReLU in the same layout; ratio_best: this layout against the best of the
    baseline's. kept: tensors of x's size kept for the backward pass. rotates_mb: the inputs and incoming
    gradients that take turns.
    """

    shape: str
    dtype: str
    layout: str
    norm: str
    by: str
    forward_us: float
    backward_us: float
    both_us: float
    low_us: float
    high_us: float
    ratio: float
    ratio_best: float
    copy_share: float
    kept: float
    rotates_mb: float


def measure(request: Request) -> Iterator[list[Row]]:
    """The rows of one shape and dtype at a time; both layouts take turns with each other."""
    for shape in request.shapes:
        for dtype in request.dtypes:
            yield rows_of(request, shape, dtype)


def rows_of(request: Request, shape: Shape, dtype: str) -> list[Row]:
    contenders: dict[tuple[str, str, str], Contender] = {}
    kept: dict[tuple[str, str, str], float] = {}
    for layout in request.layouts:
        inputs = Inputs(shape, DTYPES[dtype], LAYOUTS[layout], request.device)
        contenders[layout, COPY, COPY] = inputs.copying()
        for norm, by, layer in layers(request, shape[1]):
            layer = layer.to(request.device).to(memory_format=LAYOUTS[layout])
            key = (layout, norm, by)
            try:
                kept[key] = kept_tensors(by, layer, inputs.xs[0])
                contenders[key] = inputs.training(by, layer)
            except (UserError, NotCapturedError) as error:  # instance statistics of 1×1 maps, say
                print(f"normbench: {norm} by {by} on {'x'.join(map(str, shape))}: {error}",
                      file=sys.stderr)  # fmt: skip
    times = interleaved(contenders, request.rounds)
    best = min(times[layout, "bn", BASELINE].whole for layout in request.layouts)
    return [
        row(shape, dtype, key, t, times[key[0], "bn", BASELINE].whole, best,
            times[key[0], COPY, COPY].whole, kept[key], inputs.megabytes)
        for key, t in times.items() if key[1] != COPY
    ]  # fmt: skip


def row(
    shape: Shape, dtype: str, key: tuple[str, str, str], t: Times,
    same: float, best: float, copy: float, kept: float, rotates: float,
) -> Row:  # fmt: skip
    layout, norm, by = key
    return Row(
        "x".join(map(str, shape)), dtype, layout, norm, by,
        forward_us=1e6 * t.parts[0],
        backward_us=1e6 * t.parts[1],
        both_us=1e6 * t.whole,
        low_us=1e6 * t.low,
        high_us=1e6 * t.high,
        ratio=t.whole / same,
        ratio_best=t.whole / best,
        copy_share=(FORWARD + BACKWARD) / 2 * copy / t.whole,  # a copy moves two tensors
        kept=kept,
        rotates_mb=rotates,
    )  # fmt: skip


def layers(request: Request, channels: int) -> Iterator[tuple[str, str, nn.Module]]:
    """Norm, whose it is, and the layer: the baseline, ours on every backend, the peers."""
    yield "bn", BASELINE, baseline(channels)
    for norm in request.norms:
        options = {"groups": groups(channels)} if norm in ("gn", "gfrn") else {}
        for backend in request.backends:
            yield (
                norm,
                f"normbench {backend}",
                create_norm(norm, channels, activation="auto", **options),
            )
        for kind in request.peers:
            layer = peer(kind, norm, channels)
            if layer is not None:
                yield norm, kind, layer
