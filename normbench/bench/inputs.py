"""The tensors that layers are timed on, and how: by calls on the CPU, by CUDA graphs on a GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from normbench import ops
from normbench.bench.timing import Contender, Replayed, Stopwatch
from normbench.training.cuda_graph import NotCapturedError, capture

BEYOND_L2 = 192 << 20  # bytes over which inputs rotate on CUDA, so that no cache holds them all
MOST_PAIRS = 512  # of small inputs, so that a graph of all of them is made in a second
Shape = tuple[int, int, int, int]


def pairs(size: int, cuda: bool) -> int:
    """How many inputs, each with its incoming gradient, of `size` bytes each take turns."""
    return min(MOST_PAIRS, -(-BEYOND_L2 // (2 * size))) if cuda else 1


class Inputs:
    """Inputs and incoming gradients of one shape: one pair on the CPU, several in turn on CUDA.

    A contender on CUDA is a graph of all pairs, replayed: what it takes on the device, and nothing
    of what launching it from Python takes.
    """

    def __init__(
        self, shape: Shape, dtype: torch.dtype, layout: torch.memory_format, device: torch.device
    ) -> None:
        def fresh() -> Tensor:
            return torch.randn(shape, device=device).to(dtype).contiguous(memory_format=layout)

        size = fresh().numel() * dtype.itemsize
        self.device, self.dtype = device, dtype
        count = pairs(size, device.type == "cuda")
        self.xs = [fresh().requires_grad_() for _ in range(count)]
        self.gs = [fresh() for _ in range(count)]
        self.megabytes = 2 * size * count / 1e6

    def training(self, by: str, layer: nn.Module) -> Contender:
        """Forward and backward as two parts."""
        gs = self.incoming(by, layer)
        if self.device.type == "cuda":
            return self.replayed(self.passes(by, layer), self.passes(by, layer, gs))
        parameters = list(layer.parameters())
        watch = Stopwatch(self.device)
        (x,), (g,) = self.xs, gs

        def call() -> tuple[float, ...]:
            with computing(by, x):
                watch.lap()
                y = layer(x)
                watch.lap()
                torch.autograd.grad(y, [x, *parameters], g)
                watch.lap()
            return watch.laps()

        return call

    def passes(
        self, by: str, layer: nn.Module, gs: Sequence[Tensor] | None = None
    ) -> Callable[[], None]:
        """The forward pass of every input; given the incoming gradients, the backward pass too."""
        parameters = list(layer.parameters())

        def every() -> None:
            for number, x in enumerate(self.xs):
                with computing(by, x):
                    y = layer(x)
                    if gs is not None:
                        torch.autograd.grad(y, [x, *parameters], gs[number])

        return every

    def incoming(self, by: str, layer: nn.Module) -> list[Tensor]:
        """The incoming gradients in the dtype that the layer gives: autocast makes some float32."""
        with torch.no_grad(), computing(by, self.xs[0]):
            dtype = layer(self.xs[0]).dtype
        return [g.to(dtype) for g in self.gs]

    def copying(self) -> Contender:
        """One copy of a tensor of this size, as one part."""
        targets = [torch.empty_like(g) for g in self.gs]

        def every() -> None:
            for target, g in zip(targets, self.gs, strict=True):
                target.copy_(g)

        if self.device.type == "cuda":
            return self.replayed(every)
        watch = Stopwatch(self.device)

        def call() -> tuple[float, ...]:
            watch.lap()
            every()
            watch.lap()
            return watch.laps()

        return call

    def replayed(self, *passes: Callable[[], None]) -> Replayed:
        """Graphs of what goes over all pairs, in one memory. NotCapturedError where there is none."""
        try:
            graphs = [capture(every, pool()) for every in passes]
        except RuntimeError as error:
            raise NotCapturedError(str(error).splitlines()[0]) from error
        return Replayed(graphs, len(self.xs), self.device)


@functools.cache
def pool() -> Any:
    """The memory of all graphs, whose results nobody reads."""
    return torch.cuda.graph_pool_handle()


@contextmanager
def computing(by: str, x: Tensor) -> Iterator[None]:
    """The backend of a contender, and autocast where x is not float32."""
    half = x.dtype is not torch.float32
    with (
        ops.use(backend_of(by)),
        torch.autocast(x.device.type, x.dtype if half else None, enabled=half, cache_enabled=False),
    ):
        yield


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

    with computing(by, x), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        layer(x)
    return sum(storages.values()) / (x.numel() * x.element_size())
