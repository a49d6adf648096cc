"""What a trace is made of: one operation after another, each on ways through memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

DIMS = 4  # sizes of a step


class UntraceableError(Exception):
    """The traced function does something that no step can express."""


class Operand(NamedTuple):
    """A way through a storage: where it starts, and the stride of each of the step's sizes."""

    storage: int
    offset: int
    strides: tuple[int, ...]


class Step(NamedTuple):
    """One operation on DIMS sizes; the output is the first operand.

    Of a sum the first two sizes are kept and the last two summed over.
    """

    operation: str
    sizes: tuple[int, ...]
    operands: tuple[Operand, ...]

    def writes(self) -> int:
        return self.operands[0].storage

    def reads(self) -> set[int]:
        return {operand.storage for operand in self.operands[1:]}


def address(tensor: Tensor) -> int:
    """Of its storage, by which a storage is known."""
    return tensor.untyped_storage().data_ptr()


def spread(shape: Sequence[int], strides: Sequence[int], dims: int) -> list[int]:
    """The strides of a tensor along the last of `dims` dimensions: 0 where it is repeated."""
    own = zip(shape, strides, strict=True)
    return [0] * (dims - len(shape)) + [0 if size == 1 else stride for size, stride in own]


def merged(shape: Sequence[int], strides: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """The same walk in as few dimensions as can be."""
    sizes: list[int] = []
    walks: list[list[int]] = [[] for _ in strides]
    for d, size in enumerate(shape):
        if size == 1:
            continue
        steps = [some[d] for some in strides]
        if sizes and all(walk[-1] == step * size for walk, step in zip(walks, steps, strict=True)):
            sizes[-1] *= size
            for walk, step in zip(walks, steps, strict=True):
                walk[-1] = step
        else:
            sizes.append(size)
            for walk, step in zip(walks, steps, strict=True):
                walk.append(step)
    return sizes, walks


def padded(numbers: Sequence[int], by: int, to: int = DIMS) -> list[int]:
    """With so many of `by` in front that there are `to`."""
    return [by] * (to - len(numbers)) + list(numbers)
