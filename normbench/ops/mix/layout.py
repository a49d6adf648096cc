"""Where the numbers of a program lie: a base, which is an address known when it is executed, and an offset.

The bases are the memory that is kept for the backward pass, scratch memory of each pass, the
constants, then the module's own tensors, then the gradients of its parameters.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from normbench.ops.mix.program import Program
from normbench.ops.mix.trace import Step

LINE = 16  # numbers of a line of the cache
KEPT, SCRATCH, CONSTANTS, OWN = range(4)  # bases; own tensors from OWN on, gradients after them
Place = tuple[int, int]  # base, and offset in numbers


@dataclass(frozen=True)
class Layout:
    """places: of each storage. kept, scratch: how many numbers those bases hold (scratch: forward,
    backward). constants: the numbers of that base."""

    places: Mapping[int, Place]
    kept: int
    scratch: tuple[int, int]
    constants: array[float]


def layout_of(program: Program) -> Layout:
    places: dict[int, Place] = {}
    for base, storage in enumerate([*program.own.values(), *program.gradients.values()], OWN):
        places[storage] = base, 0
    constants = array("f", [0.0])
    for storage, number in program.constants.items():
        places[storage] = CONSTANTS, len(constants)
        constants.append(number)
    before, after = program.written(), program.read_backward()
    ends = [program.ends[name] for name in ("mean", "var", "scale", "shift")]
    # in the order of the steps: a repetition without tracking reads what another program has kept
    kept = [*ends, *(s.writes() for s in program.forward if s.writes() in before & after)]
    size = placed(KEPT, kept, program.lengths, places)
    return Layout(places, size, (
        placed(SCRATCH, touched(program.forward), program.lengths, places),
        placed(SCRATCH, [*program.ends.values(), *touched(program.backward)],
               program.lengths, places),
    ), constants)  # fmt: skip


def placed(
    base: int, storages: Iterable[int], lengths: Mapping[int, int], places: dict[int, Place]
) -> int:
    """Puts the storages that have no place yet one after the other; the size of all."""
    size = 0
    for storage in storages:
        if storage not in places:
            places[storage] = base, size
            size += -(-lengths[storage] // LINE) * LINE
    return size


def touched(steps: Sequence[Step]) -> list[int]:
    return [operand.storage for step in steps for operand in step.operands]
