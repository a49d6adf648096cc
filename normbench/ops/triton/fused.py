"""A whole norm on the GPU as one function of autograd: six launches forward and backward.

Forward: the moments, the mix as one kernel made from the norm's own steps, the map. Backward: the sums,
the gradient of the mix, the map. It computes what `Planes` and the norm's own sentences compute.

torch.compile of the same mixes makes more kernels, each of them a launch: counted with inductor of torch
2.15 on the CPU, at 8 images of 16 channels, forward and backward together, BN 13, FRN 6, GN 10, SN 44,
where the steps as one text make 2; and it takes 15 to 140 seconds for each mix and shape.
"""

from __future__ import annotations

import functools
import linecache
import types
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from normbench.ops import triton
from normbench.ops.mix.again import Again
from normbench.ops.mix.autograd import Executable, Way, again_by_definition
from normbench.ops.mix.layout import KEPT, LINE, layout_of
from normbench.ops.mix.program import Program
from normbench.ops.mix.steps import Step
from normbench.ops.reference import LowerBound
from normbench.ops.triton.cut import Part, parts_of
from normbench.ops.triton.loops import stored_by
from normbench.ops.triton.source import Place, text_of

MOST_PLANES = 1 << 17  # beyond which torch's own kernels are as fast
MOST_ALONE = 1 << 15  # planes of a mix that one program does alone
WARP = 32


class Kernel:
    """One pass of a program: its kernel, grid and the size of its scratch memory.

    pointers: the names of what it takes, beside `kept` and `scratch`; at: where in the scratch memory
    the numbers before and after the pass lie.
    """

    def __init__(
        self,
        program: Program,
        steps: Sequence[Step],
        planes: tuple[int, int],
        before: Sequence[str],
        after: Sequence[str],
    ) -> None:
        own, gradients = program.own, program.gradients
        self.pointers = [*(f"own_{name}" for name in own), *(f"grad_{name}" for name in gradients)]
        outside = dict(zip([*own.values(), *gradients.values()], self.pointers, strict=True))
        fixed: dict[int, Place] = {storage: (name, 0) for storage, name in outside.items()}
        for storage, (base, start) in layout_of(program).places.items():
            if base == KEPT:
                fixed[storage] = "kept", start
        ends = {name: program.ends[name] for name in (*before, *after)}
        results = [[program.ends[name] for name in after], list(gradients.values())]
        self.parts = parts_of(steps, planes, program.lengths, set(own.values()), results)
        self.scratch = 0
        for storage in ends.values():
            fixed.setdefault(storage, ("scratch", self.room(program, storage)))
        self.at = {name: fixed[storage][1] for name, storage in ends.items()}
        self.places = [self.placed(program, part, fixed) for part in self.parts]
        self.programs = sum(part.programs for part in self.parts)
        self.warps = warps(self.parts)
        self.constants, self.lasting = program.constants, set(fixed)

    def room(self, program: Program, storage: int) -> int:
        """The first number of a storage in the scratch memory, which grows by it."""
        start = self.scratch
        self.scratch += -(-program.lengths[storage] // LINE) * LINE
        return start

    def placed(self, program: Program, part: Part, fixed: dict[int, Place]) -> dict[int, Place]:
        """A place for each storage that a part reads or stores; those of parts do not overlap."""
        places, stored = dict(fixed), stored_by(part)
        for step in part.steps:
            if step.writes() in stored and step.writes() not in places:
                places[step.writes()] = "scratch", self.room(program, step.writes())
        return places

    @functools.cached_property
    def text(self) -> str:
        pointers = ["kept", "scratch", *self.pointers]
        return text_of(
            self.parts, self.places, self.constants, self.lasting, pointers, WARP * self.warps
        )

    def __call__(self, kept: Tensor, scratch: Tensor, *tensors: Tensor) -> None:
        """Starts it; tensors: in the order of `pointers`."""
        if self.parts[0].steps:
            grid = (self.programs,)
            triton.start(
                kept, compiled(self.text), grid, kept, scratch, *tensors, num_warps=self.warps
            )


def warps(parts: Sequence[Part]) -> int:
    """Of a program, by the most numbers that a step of it has."""
    most = max((max(step.sizes[-1] * step.sizes[-2], numbers(step)) // part.count * part.block
                for part in parts for step in part.steps), default=1)  # fmt: skip
    return 4 if most <= 1024 else 8 if most <= 4096 else 16


def numbers(step: Step) -> int:
    return torch.Size(step.sizes).numel()


@functools.lru_cache(maxsize=1024)
def compiled(text: str) -> Any:
    """The function `kernel` of a text. Triton reads the text again, where Python keeps source lines."""
    name = f"<mix {len(linecache.cache)} {hash(text)}>"
    linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
    module = types.ModuleType(name)
    exec(compile(text, name, "exec"), vars(module))
    return vars(module)["kernel"]


class Kernels(Executable):
    """A program as two kernels, for planes [N, C]."""

    def __init__(self, program: Program, planes: tuple[int, int]) -> None:
        super().__init__(program)
        self.planes, self.kept = planes, layout_of(program).kept
        maps, sums = ("mean", "var", "scale", "shift"), ("sum_g", "sum_gx", "below")
        self.forward = Kernel(program, program.forward, planes, maps, ())
        self.backward = Kernel(program, program.backward, planes, (*maps, *sums), ("p", "q"))

    def planes_of(self, memory: Tensor, kernel: Kernel, *names: str) -> list[Tensor]:
        """Some of the ends of a pass, [N, C], in its memory."""
        n, c = self.planes
        return [memory[kernel.at[name] :][: n * c].view(n, c) for name in names]


def executable(program: Program, planes: tuple[int, int]) -> Kernels | None:
    """None where one program of the GPU would have to do too much alone."""
    made = Kernels(program, planes)
    alone = any(part.count == 1 for part in (*made.forward.parts, *made.backward.parts))
    return None if alone and planes[0] * planes[1] > MOST_ALONE else made


class Fused(Function):
    """`Fused.apply(x, executable, lower_bound, own, again, *learned)`: the norm, with its activation."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        made: Kernels,
        lower_bound: LowerBound,
        own: list[Tensor],
        again: Again,
        *learned: Tensor,
    ) -> Tensor:
        kernel = made.forward
        kept, scratch = (floats(x, size) for size in (made.kept, kernel.scratch))
        mean, var, scale, shift = made.planes_of(kept, kernel, "mean", "var", "scale", "shift")
        if made.program.takes_moments:
            triton.moments_into(x, mean, var)
        unused = [kept] * len(made.program.gradients)
        kernel(kept, scratch, *own, *unused)
        y = triton.affine(x, scale, shift, lower_bound)
        made.keep(ctx, x, kept, lower_bound, own)
        ctx.again, ctx.learned = again, learned
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, kept, learned_bound, *read = ctx.saved_tensors
        if torch.is_grad_enabled():  # a graph of the gradient is asked for
            return again_by_definition(ctx, x, g)
        made: Kernels = ctx.executable
        kernel, bound = made.backward, ctx.lower_bound if learned_bound is None else learned_bound
        g, scratch = triton._like(g, x), floats(x, kernel.scratch)
        scale, shift = made.planes_of(kept, kernel, "scale", "shift")
        sum_g, sum_gx, below = made.planes_of(scratch, kernel, "sum_g", "sum_gx", "below")
        p, q = made.planes_of(scratch, kernel, "p", "q")
        triton.sums_into(x, g, scale, shift, bound, sum_g, sum_gx, below)
        gradients = [x.new_empty(s, dtype=torch.float32) for s in made.program.shapes.values()]
        own = [kept] * len(made.own)
        for i, t in zip(made.read_backward, read, strict=True):
            own[i] = t
        kernel(kept, scratch, *own, *gradients)
        gx = None
        if ctx.needs_input_grad[0]:
            gx = triton.affine_of_two(x, g, scale, shift, bound, (p, q))
        return gx, None, None, None, None, *gradients


def floats(x: Tensor, size: int) -> Tensor:
    return x.new_empty(size, dtype=torch.float32)


GPU = Way(triton.serves, MOST_PLANES, executable, Fused, copies=False)
