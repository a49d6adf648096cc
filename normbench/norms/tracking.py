"""How running statistics move, and when they do not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_tracking = ContextVar("_tracking", default=True)


@contextmanager
def without_tracking() -> Iterator[None]:
    """Within it running statistics stay where they are: for a forward pass that is a repetition."""
    token = _tracking.set(False)
    try:
        yield
    finally:
        _tracking.reset(token)


def tracks() -> bool:
    """Whether a norm in training moves its running statistics: not `without_tracking`."""
    return _tracking.get()


def move(running: Tensor, new: Tensor, step: Tensor | float) -> None:
    """running ← (1 − step)·running + step·new, in place."""
    weight = step.to(running.dtype) if isinstance(step, Tensor) else step
    running.lerp_(new.to(running.dtype), weight)


def wide(statistic: Tensor) -> Tensor:
    """float32 at least."""
    return statistic if statistic.dtype == torch.float64 else statistic.float()
