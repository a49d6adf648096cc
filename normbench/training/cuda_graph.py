"""The training step as a CUDA graph: recorded once, then replayed as a single launch.

At 2 images a step the device waits for Python, which has some hundred kernels to launch. A graph is
launched whole: the gather and augmentation of the images, forward, backward, update and the sums of
loss and accuracy. What changes from step to step lies in tensors that the graph reads: the positions
of the images, and the learning rates.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from normbench.data import EpochBatches
from normbench.training.step import Step

WARM_UP = 3  # steps before the recording: libraries choose their kernels, the optimizer its state


class Replay:
    """`replay(shown, number)` does what `step(*shown.batch(number, size))` does, to the bit."""

    def __init__(
        self, step: Step, shown: EpochBatches, pieces: tuple[Tensor, ...], size: int
    ) -> None:
        self.step = step  # whose tensors the graph works on, so that they stay
        self.size = size
        self.slots = [piece.clone() for piece in pieces]
        with as_it_was(step):
            self.launch = capture(lambda: step(*shown.assemble(*self.slots)))

    def __call__(self, shown: EpochBatches, number: int) -> None:
        for slot, piece in zip(self.slots, shown.pieces(number, self.size), strict=True):
            slot.copy_(piece)
        self.launch()


def recorded(step: Step, shown: EpochBatches, size: int) -> Replay | None:
    """The graph of the step; None, and a line on stderr, where it cannot be recorded."""
    pieces = shown.pieces(0, size)
    try:
        return Replay(step, shown, pieces, size)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        print(f"normbench: the step runs without a CUDA graph: {reason}", file=sys.stderr)
        return None


def capture(once: Callable[[], None]) -> Callable[[], None]:
    """What replays `once`, which is run a few times first, on a stream of its own."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            once()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        once()
    replay: Callable[[], None] = graph.replay
    return replay


@contextmanager
def as_it_was(step: Step) -> Iterator[None]:
    """Puts weights, buffers, momentum and sums back in place: steps in between leave no trace.

    Momentum that the optimizer had not made before is 0, from which its first step is the same.
    """
    before = {at: t.clone() for at, t in tensors_of(step)}
    try:
        yield
    finally:
        with torch.no_grad():
            for at, t in tensors_of(step):
                t.copy_(before[at]) if at in before else t.zero_()
        step.optimizer.zero_grad()


def tensors_of(step: Step) -> Iterator[tuple[str, Tensor]]:
    """All that a step changes, by name."""
    yield from step.model.named_parameters()
    yield from step.model.named_buffers()
    for number, state in enumerate(step.optimizer.state.values()):
        for name, value in state.items():
            if isinstance(value, Tensor):
                yield f"optimizer {number} {name}", value
    yield "loss_sum", step.loss_sum
    yield "correct", step.correct
