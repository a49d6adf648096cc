"""What a norm does between its two passes over the pixels, recorded once to be played many times.

The norm's own function of the moments runs once on a `Tape`, and its backward pass by autograd: what is
played later are the same operations in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from normbench.ops.program import Program, laid_out
from normbench.ops.tape import Tape

Between = Callable[[Callable[[], tuple[Tensor, Tensor]]], tuple[Tensor, Tensor]]


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
                p, q, found = backward(
                    (mean, var), {scale: sum_gx, shift: sum_g}, learned, pixels, bool(asked)
                )
                if threshold in learned:
                    own, more = found.get(threshold), below.sum(0)
                    found[threshold] = more if own is None else own + more
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


def backward(
    moments: tuple[Tensor, Tensor],
    sums: Mapping[Tensor, Tensor],
    learned: Mapping[str, Tensor],
    pixels: int,
    asked: bool,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """p and q of gx = scale·g + p·x + q, and the gradients of what is learned.

    sums: of scale and of shift the gradient. asked: whether anything took the moments.
    """
    maps = {t: g for t, g in sums.items() if t.requires_grad}
    given = [*moments, *learned.values()]
    grads: Sequence[Tensor | None] = [None] * len(given)
    if maps:
        grads = torch.autograd.grad(list(maps), given, list(maps.values()), allow_unused=True)
    g_mean, g_var, *rest = grads
    with torch.no_grad():
        zero = torch.zeros_like(moments[0])
        p = (zero if g_var is None else g_var) * (2 / pixels)  # d var / dx = 2 (x − mean) / HW
        q = (zero if g_mean is None else g_mean) / pixels  # d mean / dx = 1 / HW
        q = q - p * moments[0] if asked else q  # else nobody has filled them
        found = dict(zip(learned, rest, strict=True))
        return whole(p), whole(q), {name: g for name, g in found.items() if g is not None}


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
