"""What a norm does between its two passes over the pixels, recorded once to be played many times.

`record` runs the norm's own function of the moments once on a `Tape`, and its backward pass by
autograd. What comes out is a `Program`: two tables of rows which `cpu_tape` carries out in one call
each, where torch makes a hundred: the same operations in the same order.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from normbench.ops.tape import CODES, WIDTH, Row, Tape, UnrecordableError, address

Between = Callable[[Callable[[], tuple[Tensor, Tensor]]], tuple[Tensor, Tensor]]
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
        """Of some of `at`, where those of the bases are known; or likewise their steps."""
        return [bases[base] + 4 * start for base, start in map(self.at.__getitem__, names)]


def record(
    module: nn.Module,
    between: Between,
    planes: tuple[int, int],
    pixels: int,
    threshold: str | None,
) -> Program:
    """`between` of moments [N, C], and what its backward pass asks for, for this shape.

    threshold: the name of the parameter by which the output is floored, if there is one. It runs on
    copies of the module's tensors, which are put in their place for as long. Raises
    UnrecordableError, and what `between` raises.
    """
    owned = module._parameters, module._buffers
    copies = [{name: copied(t) for name, t in own.items()} for own in owned]
    tensors = {name: t for own in copies for name, t in own.items() if t is not None}
    learned = {name: t for name, t in tensors.items() if t.requires_grad}
    tape = Tape()
    try:
        vars(module).update(_parameters=copies[0], _buffers=copies[1])
        with undisturbed():
            some = torch.full(planes, 0.5, dtype=torch.float32, device="cpu")
            mean, var = (some.clone().requires_grad_() for _ in range(2))
            sum_g, sum_gx, below = (some.clone() for _ in range(3))
            outs = {name: torch.empty_like(t) for name, t in learned.items()}
            asked: list[bool] = []

            def moments() -> tuple[Tensor, Tensor]:
                asked.append(True)
                return mean, var

            with tape:
                scale, shift = (whole(t.expand(planes)) for t in between(moments))
                turn = len(tape.rows)
                maps = [(t, g) for t, g in ((scale, sum_gx), (shift, sum_g)) if t.requires_grad]
                g_mean, g_var, *rest = torch.autograd.grad(
                    [t for t, _ in maps], [mean, var, *learned.values()], [g for _, g in maps],
                    allow_unused=True,
                ) if maps else [None] * (2 + len(learned))  # fmt: skip
                found = dict(zip(learned, rest, strict=True))
                with torch.no_grad():
                    zero = torch.zeros_like(mean)
                    p = (zero if g_var is None else g_var) * (2 / pixels)
                    q = (zero if g_mean is None else g_mean) / pixels
                    q = q - p * mean if asked else q  # which nobody filled
                    p, q = whole(p), whole(q)
                    if threshold in found:
                        own, more = found[threshold], below.sum(0)
                        found[threshold] = more if own is None else own + more
                    found = {k: g for k, g in found.items() if g is not None}
                    for name, grad in found.items():
                        tape.note("copy", outs[name], grad)
    finally:
        vars(module).update(_parameters=owned[0], _buffers=owned[1])
    places = {
        "mean": mean, "var": var, "scale": scale, "shift": shift,
        "sum_g": sum_g, "sum_gx": sum_gx, "below": below, "p": p, "q": q,
    }  # fmt: skip
    for tensor in places.values():  # those too that nothing touched
        tape.storage(tensor)
    program = laid_out(tape, turn, places, tensors, {name: outs[name] for name in found})
    program.moments = bool(asked)
    return program


def copied(t: Tensor | None) -> Tensor | None:
    if t is None:
        return None
    with torch.inference_mode(False), torch.no_grad():
        return whole(t).requires_grad_(t.requires_grad)


def whole(t: Tensor) -> Tensor:
    """A copy in a storage of its own."""
    return t.clone(memory_format=torch.contiguous_format)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Recording leaves no trace, whatever goes on around it (activation checkpointing, say)."""
    as_it_is = torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)
    with (
        torch.random.fork_rng(devices=[]),
        torch.inference_mode(False),
        torch.enable_grad(),
        as_it_is,
    ):
        yield


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
