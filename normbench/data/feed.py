"""What the training loop takes images from: the same for every dataset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

Batch = tuple[Tensor, Tensor]  # images [B, 3, H, W], normalized, and labels [B] int64


class Shown(Protocol):
    """The batches of one epoch."""

    def steps(self, size: int) -> int:
        """Whole batches of `size` images; the last partial one is dropped."""

    def batch(self, step: int, size: int) -> Batch:
        """The images at positions step * size to (step + 1) * size; fastest in order of the steps."""
        ...

    def pieces(self, step: int, size: int) -> tuple[Tensor, ...]:
        """What `assemble` makes that batch of: tensors on the device, as large at every step."""
        return self.batch(step, size)

    def assemble(self, *pieces: Tensor) -> Batch:
        """The batch, by operations on the device alone: a CUDA graph can hold them."""
        images, labels = pieces
        return images, labels


class Feed(Protocol):
    """A dataset on a device."""

    images: int  # for training

    def epoch(self, seed: int, epoch: int, *, augment: bool) -> Shown:
        """What epoch `epoch` of the run `seed` shows: the same for every norm, batch and device."""

    def test(self, at_most: int) -> Iterator[Batch]:
        """All test images, each once, in batches of `at_most` or fewer; the last may be partial."""
