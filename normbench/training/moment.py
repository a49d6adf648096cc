"""A moment within an epoch: the time that was trained, and where the random streams are."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import Tensor


class Stopwatch:
    """Seconds between `start` and `stop`, on top of those before."""

    def __init__(self, before: float = 0.0) -> None:
        self.before = before
        self.since: float | None = None

    @property
    def seconds(self) -> float:
        """So far."""
        return self.before + (0.0 if self.since is None else time.perf_counter() - self.since)

    def start(self) -> None:
        self.since = time.perf_counter()

    def stop(self) -> float:
        """The seconds, which stay as they are."""
        self.before, self.since = self.seconds, None
        return self.before


class Streams(NamedTuple):
    """The states of torch's random streams, uint8: dropout in a network draws from them."""

    random: Tensor
    random_cuda: Tensor | None

    @classmethod
    def of(cls, device: torch.device) -> Streams:
        on_cuda = device.type == "cuda"
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state(device) if on_cuda else None)

    def go_on(self, device: torch.device) -> None:
        """Torch draws from here on; on CUDA only what was drawn on CUDA before."""
        torch.set_rng_state(self.random.cpu())
        if device.type == "cuda" and self.random_cuda is not None:
            torch.cuda.set_rng_state(self.random_cuda.cpu(), device)
