"""Which steps are one loop of a generated kernel."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.ops.mix.steps import Step
from normbench.ops.triton.cut import REDUCING, Part

ALONE = (*REDUCING, "softmax", "softmax_backward", "count", "from_int")  # no part of a loop


def loops(part: Part) -> list[tuple[list[Step], int | None]]:
    """Steps that can be one loop: on the same sizes and labels, and no number of one in another place
    is another's."""
    found: list[tuple[list[Step], int | None]] = []
    for step, d in zip(part.steps, part.by, strict=True):
        if found and found[-1][1] == d and fits(step, found[-1][0]):
            found[-1][0].append(step)
        else:
            found.append(([step], d))
    return found


def fits(step: Step, before: Sequence[Step]) -> bool:
    if step.sizes != before[0].sizes or {step.operation, before[0].operation} & set(ALONE):
        return False
    written = {one.operands[0].storage: one.operands[0] for one in before}
    if any(written.get(o.storage, o) != o for o in step.operands):
        return False  # it reads, or writes, what another number of theirs is
    out = step.operands[0]
    return all(o.storage != out.storage or o == out for one in before for o in one.operands)


def stored_by(part: Part) -> set[int]:
    """Storages that are read in another loop than the one that writes them."""
    found: set[int] = set()
    written: set[int] = set()  # by loops before
    for steps, _ in loops(part):
        for step in steps:
            found |= step.reads() & written
        written |= {step.writes() for step in steps}
    return found
