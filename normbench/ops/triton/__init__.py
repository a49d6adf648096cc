"""The four functions of `reference` as one pass each over memory, on a GPU, by Triton.

What lies between two of them is one kernel more, made from a norm's own steps: see `fused`.

One kernel a function; where a plane is too large for one program, a second tiny one adds up the parts.
Nothing waits for the device, nothing is tuned at run time: CUDA graphs can capture it. What the kernels
cannot do, `reference` does. With TRITON_INTERPRET=1 they run on the CPU, slowly, to be tested.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from normbench.ops import reference
from normbench.ops.reference import LowerBound
from normbench.ops.triton.tiles import Tile, power, tile_of

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
OPTIONS = {"enable_fp_fusion": True}  # what must be rounded once, or twice, says so itself
REGISTERS = {"sums": 128}  # at most, of a thread, so that two programs share a multiprocessor
JOINED = 32  # planes whose parts a program adds up
IMAGES = 65535  # of channels-last: the most that a grid has in its second direction
LARGEST = 2**31 - 1  # of what is counted in int32: planes, and numbers of an image


def serves(x: Tensor) -> bool:
    """Whether the kernels can run for x [N, C, H, W]; if not, these functions are those of `reference`."""
    return (
        (x.is_cuda or (INTERPRETED and x.is_cpu))
        and x.dtype in DTYPES
        and type(x) in (Tensor, Parameter)
        and x.numel() > 0
        and not torch.compiler.is_compiling()
        and (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last))
        and max(len(x) * x.shape[1], x[0].numel()) <= LARGEST
        and (len(x) <= IMAGES or x.is_contiguous())
        and works(x.device)
    )


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    if not serves(x):
        return reference.moments(x)
    mean, var = (_numbers(x) for _ in range(2))
    moments_into(x, mean, var)
    return mean, var


def moments_into(x: Tensor, mean: Tensor, var: Tensor) -> None:
    """The moments of x, of which `serves` is true, into memory [N, C] that is there."""
    tile = _tile(x, steps=8, loops=True)
    if tile.parts == 1:
        _run("moments", x, tile, x, mean, var)
    else:
        of_parts = _numbers(x, 2, tile.parts)
        _run("moments", x, tile, x, *of_parts)
        _join("pooled", tile, of_parts, mean, var, x[0, 0].numel(), tile.part)


def affine(x: Tensor, scale: Tensor, shift: Tensor, lower_bound: LowerBound) -> Tensor:
    if not serves(x) or not _float32(scale, shift):
        return reference.affine(x, scale, shift, lower_bound)
    y = torch.empty_like(x)
    _run("affine", x, _tile(x, steps=4, loops=False), x, *_map(scale, shift, lower_bound), y)
    return y


def sums(
    x: Tensor, g: Tensor, scale: Tensor, shift: Tensor, lower_bound: LowerBound
) -> tuple[Tensor, Tensor, Tensor | None]:
    if not serves(x) or g.dtype not in DTYPES or not _float32(scale, shift):
        return reference.sums(x, g, scale, shift, lower_bound)
    sum_g, sum_gx = (_numbers(x) for _ in range(2))
    below = None if lower_bound is None else _numbers(x)
    sums_into(x, _like(g, x), scale, shift, lower_bound, sum_g, sum_gx, below)
    return sum_g, sum_gx, below


def sums_into(
    x: Tensor,
    g: Tensor,
    scale: Tensor,
    shift: Tensor,
    lower_bound: LowerBound,
    sum_g: Tensor,
    sum_gx: Tensor,
    below: Tensor | None,
) -> None:
    """The sums, of x that `serves` and of g in its memory format, into memory [N, C] that is there."""
    tile = _tile(x, steps=4, loops=True)
    if lower_bound is None:
        below = None
    given = x, g, *_map(scale, shift, lower_bound)
    if tile.parts == 1:
        _run("sums", x, tile, *given, sum_g, sum_gx, below)
    else:
        of_parts = _numbers(x, 3, tile.parts)
        _run("sums", x, tile, *given, *of_parts[:2], None if below is None else of_parts[2])
        _join("added", tile, of_parts, sum_g, sum_gx, below)


def affine_of_two(
    x: Tensor,
    g: Tensor,
    scale: Tensor,
    shift: Tensor,
    lower_bound: LowerBound,
    of_x: tuple[Tensor, Tensor] | None,
) -> Tensor:
    if not serves(x) or g.dtype not in DTYPES or not _float32(scale, shift, *(of_x or ())):
        return reference.affine_of_two(x, g, scale, shift, lower_bound, of_x)
    p, q = (t.contiguous() for t in of_x) if of_x else (None, None)
    gx = torch.empty_like(x)
    tile = _tile(x, steps=4, loops=False)
    _run("affine_of_two", x, tile, x, _like(g, x), *_map(scale, shift, lower_bound), p, q, gx)
    return gx


def works(device: torch.device) -> bool:
    """Whether a kernel can be compiled for a device and started there."""
    return not failure(device)


@functools.cache
def failure(device: torch.device) -> str:
    """Why no kernel can be compiled for a device or started there; empty where one can."""
    try:
        x = torch.ones(1, 1, 1, 1, dtype=torch.float32, device=device)
        one = x[0, 0]
        tile = tile_of(False, 1, 1, x.itemsize, steps=1, loops=False)
        _run("affine", x, tile, x, *_map(one, one, None), torch.empty_like(x))
        return ""
    except (
        Exception
    ) as error:  # no Triton, no C compiler, too old a GPU: reference computes the same
        return " ".join(f"{type(error).__name__}: {error}".split())


def start(x: Tensor, kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Starts a kernel on the device of x: the one place where kernels are launched."""
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        kernel[grid](*arguments, **options, **OPTIONS)


def _run(name: str, x: Tensor, tile: Tile, *arguments: Tensor | float | None) -> None:
    """Starts one of the kernels that take x [N, C, H, W] by tiles."""
    from normbench.ops.triton import kernels

    n, c, h, w = x.shape
    images, planes = (n, c) if tile.last else (1, n * c)
    blocks = -(-planes // tile.planes)
    start(
        x, getattr(kernels, name), (blocks * tile.parts, images),
        *arguments, c, h * w, n * c, tile.parts, tile.tiles,
        LAST=tile.last, ALIGN=tile.align, BLOCKS=blocks if tile.last else 1,
        STEPS=tile.steps, PIXELS=tile.pixels, PLANES=tile.planes,
        num_warps=tile.warps, maxnreg=REGISTERS.get(name),
    )  # fmt: skip


def _join(name: str, tile: Tile, of_parts: Tensor, *arguments: Tensor | int | None) -> None:
    """Starts one of the kernels that make the numbers of planes from [k, parts, N, C]."""
    from normbench.ops.triton import kernels

    planes = of_parts[0, 0].numel()
    start(
        of_parts, getattr(kernels, name), (-(-planes // JOINED),), of_parts, *arguments,
        planes, tile.parts, PARTS=power(tile.parts), PLANES=JOINED,
    )  # fmt: skip


def _tile(x: Tensor, steps: int, loops: bool) -> Tile:
    _, c, h, w = x.shape
    return tile_of(not x.is_contiguous(), c, h * w, x.itemsize, steps, loops)


def _map(scale: Tensor, shift: Tensor, lower_bound: LowerBound) -> tuple[Any, ...]:
    """scale and shift, their common strides, the lower_bound, and whether it is one per channel."""
    if scale.stride() != shift.stride():
        scale, shift = scale.contiguous(), shift.contiguous()
    if isinstance(lower_bound, Tensor):
        return scale, shift, *scale.stride(), lower_bound.contiguous(), True
    return scale, shift, *scale.stride(), None if lower_bound is None else float(lower_bound), False


def _numbers(x: Tensor, *more: int) -> Tensor:
    """Room for a float32 number of each plane."""
    return x.new_empty((*more, *x.shape[:2]), dtype=torch.float32)


def _float32(*tensors: Tensor) -> bool:
    return all(t.dtype is torch.float32 and type(t) in (Tensor, Parameter) for t in tensors)


def _like(g: Tensor, x: Tensor) -> Tensor:
    """g in the memory format of x."""
    if x.is_contiguous():
        return g.contiguous()
    return g.contiguous(memory_format=torch.channels_last)
