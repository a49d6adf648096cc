"""`normbench bench layers`: every norm with its activation, forward and backward, in training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from normbench import ops
from normbench.bench.peers import BASELINE, baseline, groups, peer
from normbench.bench.timing import Contender, Stopwatch, Times, interleaved
from normbench.errors import UserError
from normbench.norms import create_norm

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
COPY = "copy"
BEYOND_L2 = 192 << 20  # bytes over which inputs rotate on CUDA, so that no cache holds them all
FORWARD, BACKWARD = 2, 3  # tensors of x's size that must move: x, y; and x, g, gx
Shape = tuple[int, int, int, int]


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

    ratio: to BatchNorm2d + ReLU in the same layout; ratio_best: this layout against the best of the
    baseline's. kept: tensors of x's size kept for the backward pass.
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
            if by in ("torch", "timm"):  # whose layers do not all take weights of another dtype
                layer = layer.to(DTYPES[dtype])
            key = (layout, norm, by)
            try:
                kept[key] = kept_tensors(by, layer, inputs.xs[0])
            except UserError as error:  # instance statistics of 1×1 maps, say
                print(f"normbench: {norm} on {'x'.join(map(str, shape))}: {error}", file=sys.stderr)
                continue
            contenders[key] = inputs.training(by, layer)
    times = interleaved(contenders, request.rounds)
    best = min(times[layout, "bn", BASELINE].whole for layout in request.layouts)
    return [
        row(shape, dtype, key, t, times[key[0], "bn", BASELINE].whole, best,
            times[key[0], COPY, COPY].whole, kept[key])
        for key, t in times.items() if key[1] != COPY
    ]  # fmt: skip


def row(
    shape: Shape, dtype: str, key: tuple[str, str, str], t: Times,
    same: float, best: float, copy: float, kept: float,
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


class Inputs:
    """Inputs and incoming gradients of one shape: one pair on the CPU, several in turn on CUDA."""

    def __init__(
        self, shape: Shape, dtype: torch.dtype, layout: torch.memory_format, device: torch.device
    ) -> None:
        def fresh() -> Tensor:
            return torch.randn(shape, device=device).to(dtype).contiguous(memory_format=layout)

        one = fresh()
        size = one.numel() * one.element_size()
        pairs = max(1, BEYOND_L2 // (2 * size)) if device.type == "cuda" else 1
        pairs = min(pairs, 64)
        self.device = device
        self.xs = [one.requires_grad_(), *(fresh().requires_grad_() for _ in range(pairs - 1))]
        self.gs = [fresh() for _ in range(pairs)]
        self.turn = 0

    def next(self) -> tuple[Tensor, Tensor]:
        self.turn = (self.turn + 1) % len(self.xs)
        return self.xs[self.turn], self.gs[self.turn]

    def training(self, by: str, layer: nn.Module) -> Contender:
        """Forward and backward as two parts."""
        parameters = list(layer.parameters())
        watch = Stopwatch(self.device)

        def call() -> tuple[float, ...]:
            x, g = self.next()
            with ops.use(backend_of(by)):
                watch.lap()
                y = layer(x)
                watch.lap()
                torch.autograd.grad(y, [x, *parameters], g.to(y.dtype))
                watch.lap()
            return watch.laps()

        return call

    def copying(self) -> Contender:
        """One copy of a tensor of this size, as one part."""
        watch = Stopwatch(self.device)
        target = torch.empty_like(self.gs[0])

        def call() -> tuple[float, ...]:
            _, g = self.next()
            watch.lap()
            target.copy_(g)
            watch.lap()
            return watch.laps()

        return call


def backend_of(by: str) -> str:
    return by.removeprefix("normbench ") if by.startswith("normbench ") else "auto"


def kept_tensors(by: str, layer: nn.Module, x: Tensor) -> float:
    """Bytes that the graph keeps for the backward pass, in units of x; parameters do not count."""
    own = {p.data_ptr() for p in [*layer.parameters(), *layer.buffers()]}
    storages: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return t

    with ops.use(backend_of(by)), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        layer(x)
    return sum(storages.values()) / (x.numel() * x.element_size())
