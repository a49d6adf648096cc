"""What was recorded, as two tables of rows and a place for every number: `cpu_tape` carries them out in
one call each, where torch makes a hundred."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from normbench.ops.tape import CODES, WIDTH, Row, Tape, UnrecordableError, address

Steps = tuple[list[list[int]], list[list[int]]]
LINE = 16  # numbers of a line of the cache
KEPT, SCRATCH, CONSTANTS, OWN = range(4)  # bases; from OWN on the module's tensors, then gradients


@dataclass
class Program:
    """Two tables of rows, and where their numbers lie.

    moments: whether it asks for them. apart: None, or it is for one image, and these are the steps in
    bytes from one to the next of what the calls of forward, backward take.
    kept, scratch: numbers in the memory that lives until the backward pass, and of each pass alone.
    at: base and offset of mean, var, scale, shift, sum_g, sum_gx, below, p and q. own: names of the
    module's tensors in the order of their bases; again: which of them the backward pass reads;
    written: which the forward pass changes. gradients: names and shapes of the parameters whose
    gradients have the bases after them.
    """

    own: tuple[str, ...]
    again: tuple[int, ...]
    written: tuple[int, ...]
    gradients: dict[str, torch.Size]
    forward: array[int] = field(default_factory=lambda: array("q"))
    backward: array[int] = field(default_factory=lambda: array("q"))
    constants: array[float] = field(default_factory=lambda: array("f", [0.0]))
    moments: bool = True
    apart: Steps | None = None
    kept: int = 0
    scratch: tuple[int, int] = (0, 0)
    at: dict[str, tuple[int, int]] = field(default_factory=dict)

    def addresses(self, bases: Sequence[int], *names: str) -> list[int]:
        """Of some of `at`, where those of the bases are known."""
        return [bases[base] + 4 * start for base, start in map(self.at.__getitem__, names)]


def laid_out(
    tape: Tape,
    turn: int,
    places: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    outs: Mapping[str, Tensor],
) -> Program:
    """The rows that count, with a place for each storage. turn: the first row of the backward pass."""
    own = {address(t): name for name, t in tensors.items()}
    if len(own) < len(tensors):
        raise UnrecordableError("two parameters in one storage")
    wanted = {address(places[name]) for name in ("scale", "shift", "p", "q")}
    wanted |= {address(t) for t in outs.values()} | set(own)
    forward: list[Row] = []
    backward: list[Row] = []
    for index, row in reversed(list(enumerate(tape.rows))):
        if row.writes() in wanted:
            wanted |= row.reads()
            (forward if index < turn else backward).insert(0, row)

    used = {s for row in forward + backward for s in (row.writes(), *row.reads())}
    again = {s for row in backward for s in row.reads()}
    written = {row.writes() for row in forward}
    if again & set(own) & written or tape.integers & used - set(own):
        raise UnrecordableError("a buffer that changes between the passes, or whole numbers")
    for place in used & set(own):
        t = tensors[own[place]]
        if t.dtype is torch.bool or (t.dtype is torch.int64 and t.numel() != 1):
            raise UnrecordableError(f"{own[place]} is {t.dtype}")
    names = {place: name for place, name in own.items() if place in used}
    program = Program(
        own=tuple(names.values()),
        again=tuple(i for i, place in enumerate(names) if place in again),
        written=tuple(i for i, place in enumerate(names) if place in written),
        gradients={name: t.shape for name, t in outs.items()},
    )
    bases = [tensors[name] for name in program.own] + list(outs.values())
    found = {address(t): (OWN + i, -int(t.storage_offset())) for i, t in enumerate(bases)}
    for place, number in tape.numbers.items():
        if place in used:
            found[place] = (CONSTANTS, len(program.constants))
            program.constants.append(number)

    ends = [address(places[name]) for name in ("mean", "var", "scale", "shift")]
    kept = Memory(tape.sizes)
    # in the order of the rows: a repetition without tracking reads what another program has kept
    for place in dict.fromkeys(
        [*ends, *(row.writes() for row in forward if row.writes() in again)]
    ):
        if place not in found:
            found[place] = (KEPT, kept.take(place))
    program.kept = kept.size
    before = [address(places[name]) for name in ("sum_g", "sum_gx", "below")]
    after = [address(places[name]) for name in ("p", "q")]
    program.scratch = (
        scratch(forward, [], [], tape.sizes, found),
        scratch(backward, before, after, tape.sizes, found),
    )
    for table, rows in ((program.forward, forward), (program.backward, backward)):
        for row in rows:
            table.extend(encoded(row, found))
    program.at = {name: found[address(t)] for name, t in places.items()}
    return program


class Memory:
    """A row of numbers in which storages get places, and give them back."""

    def __init__(self, sizes: Mapping[int, int]) -> None:
        self.sizes, self.size = sizes, 0
        self.free: dict[int, list[int]] = {}

    def room(self, place: int) -> int:
        return -(-self.sizes[place] // LINE) * LINE

    def take(self, place: int) -> int:
        room = self.room(place)
        if self.free.get(room):
            return self.free[room].pop()
        self.size += room
        return self.size - room

    def give_back(self, place: int, at: int) -> None:
        self.free.setdefault(self.room(place), []).append(at)


def scratch(
    rows: Sequence[Row],
    before: Sequence[int],
    after: Sequence[int],
    sizes: Mapping[int, int],
    found: dict[int, tuple[int, int]],
) -> int:
    """Gives the storages that have no place one that is theirs from first to last use; the whole size.

    before, after: those that hold something before the first row, and after the last.
    """
    memory = Memory(sizes)
    last = {s: index for index, row in enumerate(rows) for s in (row.writes(), *row.reads())}
    for place in before:
        found[place] = (SCRATCH, memory.take(place))
    for index, row in enumerate(rows):
        if row.writes() not in found:
            found[row.writes()] = (SCRATCH, memory.take(row.writes()))
        for place in {row.writes(), *row.reads()}:
            base, at = found[place]
            if base == SCRATCH and last[place] == index and place not in after:
                memory.give_back(place, at)
    return memory.size


def encoded(row: Row, found: Mapping[int, tuple[int, int]]) -> list[int]:
    numbers = [CODES[row.operation], *row.sizes]
    for storage, offset, strides in row.operands:
        base, at = found[storage]
        numbers += [base, at + offset, *strides]
    return numbers + [0] * (WIDTH - len(numbers))
