"""A whole norm on the CPU as one function of autograd: its two passes and, between them, its tape.

It computes what `Planes` and the norm's own sentences compute; what cannot be recorded they do.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.autograd.graph import increment_version
from torch.nn import Parameter

from normbench.ops import cpu
from normbench.ops.eager import Floor
from normbench.ops.program import KEPT, OWN, SCRATCH, Program, Steps
from normbench.ops.recording import Between, record

MOST = 1 << 15  # planes beyond which torch, which has all cores work on them, is faster
PROGRAMS = 512  # at most; an attribute that changes with each step must not fill the memory
CACHE = 1 << 17  # numbers that may stay in the cache of a core between two passes over them all
MOST_OWN = 20  # tensors of a module that is played image by image
PLAIN = (int, float, str, tuple, np.generic, type(None))

_programs: dict[Hashable, Program | None] = {}


def play(
    module: nn.Module, between: Between, x: Tensor, floor: Floor, apart: bool, state: Hashable
) -> Tensor | None:
    """`ops.mapped` of a pure `between`; None where it cannot be done this way."""
    planes = x.shape[0] * x.shape[1]
    if planes > MOST or not cpu.serves(x) or cpu.interpreter() is None:
        return None
    tensors = module._parameters | module._buffers
    key = (
        type(module), x.shape, apart, state, isinstance(floor, Tensor),
        tuple([item for item in vars(module).items() if isinstance(item[1], PLAIN)]),
        tuple([(k, t) if t is None else (k, t.shape, t.dtype, t.requires_grad)
               for k, t in tensors.items()]),
    )  # fmt: skip
    try:
        program = _programs[key]
    except TypeError:  # a tuple with something in it that no key can hold
        return None
    except KeyError:
        if len(_programs) == PROGRAMS:
            return None
        program = _programs[key] = recorded(module, between, x, floor, apart)
    if program is None:
        return None
    own = [tensors[name] for name in program.own]
    learned = [tensors[name] for name in program.gradients]
    if not all(playable(t) for t in own + learned):
        return None
    y: Tensor = _Played.apply(x, program, floor, own, *learned)
    return y


def playable(t: Tensor | None) -> bool:
    return t is not None and t.is_cpu and t.is_contiguous() and type(t) in (Tensor, Parameter)


def recorded(
    module: nn.Module, between: Between, x: Tensor, floor: Floor, apart: bool = False
) -> Program | None:
    """Its program; None where there is none, whatever the reason: then it is done the plain way, which
    raises what there is to raise."""
    threshold = None
    if isinstance(floor, Tensor):
        threshold = next((k for k, t in module._parameters.items() if t is floor), None)
        if threshold is None or floor.dtype is not torch.float32:
            return None
    n, c, h, w = x.shape
    try:
        if not apart or n == 1 or x.numel() < CACHE:
            return record(module, between, (n, c), h * w, threshold)
        program = record(module, between, (1, c), h * w, threshold)
        program.apart = steps_of(program, 4 * c * h * w)
        return None if program.written or len(program.own) > MOST_OWN else program
    except Exception:
        return None


def steps_of(program: Program, image: int) -> Steps:
    """For `Program.apart`. image: bytes of an image."""
    at = {name: 4 * (program.kept if base == KEPT else 0) for name, (base, _) in program.at.items()}
    held = [4 * program.kept, 4 * program.scratch[0], 0, *[0] * len(program.own)]
    forward = [[image, at["mean"], at["var"]]] if program.moments else []
    forward += [held, [image, at["scale"], at["shift"], 0, image]]

    room = 4 * program.scratch[1]
    at |= {name: room for name, (base, _) in program.at.items() if base == SCRATCH}
    held = [4 * program.kept, room, 0, *[0] * len(program.own)]
    held += [4 * math.prod(shape) for shape in program.gradients.values()]
    mapped = [image, at["scale"], at["shift"], 0, image]
    sums = [*mapped, at["sum_g"], at["sum_gx"], at["below"]]
    return forward, [sums, held, [*mapped, at["p"], at["q"], image]]


class _Played(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, program: Program, floor: Floor, own: list[Tensor], *learned: Tensor
    ) -> Tensor:
        count = 1 if program.apart is None else len(x)
        kept, scratch = x.new_empty(count * program.kept), x.new_empty(count * program.scratch[0])
        y = torch.empty_like(x)
        low, step = cpu.floor_row(floor)
        bases = [kept.data_ptr(), scratch.data_ptr(), program.constants.buffer_info()[0]]
        bases += [t.data_ptr() for t in own]
        mean, var, scale, shift = program.addresses(bases, "mean", "var", "scale", "shift")
        at = x.data_ptr()
        calls: list[cpu.Call] = [("moments", 0, (at, mean, var))] if program.moments else []
        calls.append(("play", 0, bases))
        calls.append(("affine", step, (at, scale, shift, low.data_ptr(), y.data_ptr())))
        cpu.carry_out(x, calls, program.forward, program.apart and program.apart[0])
        if program.written:
            increment_version([own[i] for i in program.written])
        threshold = floor if isinstance(floor, Tensor) else None
        ctx.save_for_backward(x, kept, threshold, *[own[i] for i in program.again])
        ctx.program, ctx.floor = program, None if threshold is not None else floor
        return y

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, kept, threshold, *again = ctx.saved_tensors
        program: Program = ctx.program
        apart, shapes = program.apart, program.gradients.values()
        count = 1 if apart is None else len(x)
        g, scratch = cpu.like(g, x), x.new_empty(count * program.scratch[1])
        gradients = [x.new_empty(s if apart is None else (count, *s)) for s in shapes]
        low, step = cpu.floor_row(ctx.floor if threshold is None else threshold)
        bases = [kept.data_ptr(), scratch.data_ptr(), program.constants.buffer_info()[0]]
        bases += [0] * len(program.own) + [t.data_ptr() for t in gradients]
        for i, t in zip(program.again, again, strict=True):
            bases[OWN + i] = t.data_ptr()
        scale, shift, sum_g, sum_gx, below, p, q = program.addresses(
            bases, "scale", "shift", "sum_g", "sum_gx", "below", "p", "q"
        )
        pixels = x.data_ptr(), scale, shift, low.data_ptr(), g.data_ptr()
        calls: list[cpu.Call] = [
            ("sums", step, (*pixels, sum_g, sum_gx, below)),
            ("play", 0, bases),
        ]
        gx = None
        if ctx.needs_input_grad[0]:
            gx = torch.empty_like(x)
            calls.append(("affine_of_two", step, (*pixels, p, q, gx.data_ptr())))
        cpu.carry_out(x, calls, program.backward, apart and apart[1][: len(calls)])
        if apart is not None:
            gradients = [t.sum(0) for t in gradients]
        return gx, None, None, None, *gradients
