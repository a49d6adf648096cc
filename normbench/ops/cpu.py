"""The four functions of `eager` as one pass each over float32 in memory, on the CPU, by numba.

The loops are in `cpu_kernels`; here it is decided whether they can run, and on how many threads. The
threads are those of torch: its OpenMP runtime is asked to run the kernel, since two pools of
threads that wait for work take the cores from each other. Where there is no such runtime (macOS,
Windows) one thread does it. What the kernels cannot do, `eager` does.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
from array import array
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils._python_dispatch import _get_current_dispatch_mode

from normbench.ops import eager
from normbench.ops.eager import Floor
from normbench.ops.tape import WIDTH

SMALL = 1 << 15  # numbers below which a second thread costs more than it gives

Kernel = Callable[[int], None]  # takes the address of a job
Fork = Callable[[int, int, int, int], None]


def serves(x: Tensor) -> bool:
    """Whether the kernels can run for x [N, C, H, W]; if not, these functions are those of `eager`."""
    return (
        x.dtype is torch.float32
        and x.is_cpu
        and type(x) in (Tensor, Parameter)
        and x.numel() > 0
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None  # torch.jit.trace
        and _get_current_dispatch_mode() is None  # someone who wants to see every operation
        and (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last))
        and kernels() is not None
    )


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    if not serves(x):
        return eager.moments(x)
    mean, var = (x.new_empty(x.shape[:2]) for _ in range(2))
    _run("moments", x, 0, x, mean, var)
    return mean, var


def affine(x: Tensor, scale: Tensor, shift: Tensor, floor: Floor) -> Tensor:
    if not serves(x) or not float32(scale, shift):
        return eager.affine(x, scale, shift, floor)
    low, step = floor_row(floor)
    y = torch.empty_like(x)
    _run("affine", x, step, x, scale.contiguous(), shift.contiguous(), low, y)
    return y


def sums(
    x: Tensor, g: Tensor, scale: Tensor, shift: Tensor, floor: Floor
) -> tuple[Tensor, Tensor, Tensor | None]:
    if not serves(x) or not float32(g, scale, shift):
        return eager.sums(x, g, scale, shift, floor)
    low, step = floor_row(floor)
    sum_g, sum_gx, below = (x.new_empty(x.shape[:2]) for _ in range(3))
    _run(
        "sums", x, step, x, scale.contiguous(), shift.contiguous(), low, like(g, x),
        sum_g, sum_gx, below,
    )  # fmt: skip
    return sum_g, sum_gx, None if floor is None else below


def affine_of_two(
    x: Tensor,
    g: Tensor,
    scale: Tensor,
    shift: Tensor,
    floor: Floor,
    of_x: tuple[Tensor, Tensor] | None,
) -> Tensor:
    p, q = of_x or (torch.zeros_like(scale),) * 2
    if not serves(x) or not float32(g, scale, shift, p, q):
        return eager.affine_of_two(x, g, scale, shift, floor, of_x)
    low, step = floor_row(floor)
    gx = torch.empty_like(x)
    _run(
        "affine_of_two", x, step, x, scale.contiguous(), shift.contiguous(), low, like(g, x),
        p.contiguous(), q.contiguous(), gx,
    )  # fmt: skip
    return gx


@functools.cache
def kernels() -> list[dict[str, tuple[int, Kernel]]] | None:
    """Address and function of each kernel; None where numba is missing or cannot compile them."""
    try:
        from normbench.ops import cpu_pixels, cpu_planes

        call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        names = ("moments", "affine", "sums", "affine_of_two")
        found = [
            {name: getattr(module, name).address for name in names}
            for module in (cpu_planes, cpu_pixels)
        ]
        return [{name: (at, call(at)) for name, at in one.items()} for one in found]
    except Exception:  # whatever is wrong with it, eager computes the same
        return None


@functools.cache
def interpreter() -> dict[str, tuple[int, Kernel]] | None:
    """What carries out the rows of a tape, and what goes image by image; None where the kernels are."""
    if kernels() is None:
        return None
    try:
        from normbench.ops import cpu_images, cpu_tape

        call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        found = {"play": cpu_tape.play.address, "each_image": cpu_images.each_image.address}
        return {name: (at, call(at)) for name, at in found.items()}
    except Exception:
        return None


Call = tuple[str, int, Sequence[int]]  # a pass over x, its floor's step, addresses; or "play"


def carry_out(
    x: Tensor, calls: Sequence[Call], rows: array[int], steps: Sequence[Sequence[int]] | None
) -> None:
    """Passes over x, of which `serves` is true, and in "play" the rows of a tape.

    steps: of each address the bytes from one image to the next; then all calls are made for one image,
    and then for another. None: each call is for all images.
    """
    compiled, found = interpreter(), kernels()
    assert compiled is not None
    assert found is not None
    start, numbers = rows.buffer_info()
    if steps is None:
        for name, step, addresses in calls:
            if name == "play":
                job = array("q", (start, numbers // WIDTH, *addresses))
                compiled["play"][1](job.buffer_info()[0])
            else:
                run(name, x, step, *addresses)
        return
    passes = found[x.is_contiguous(memory_format=torch.channels_last)]
    n, c, h, w = x.shape
    job = array("q", (0, n, len(calls)))
    for (name, step, addresses), to_next in zip(calls, steps, strict=True):
        if name == "play":
            job.extend((compiled["play"][0], 2 + len(addresses), start, 0, numbers // WIDTH, 0))
        else:
            job.extend((passes[name][0], 5 + len(addresses), 0, 0, 1, 0, c, 0, h * w, 0, step, 0))
        for pair in zip(addresses, to_next, strict=True):
            job.extend(pair)
    _on_threads(compiled["each_image"], job, min(x.numel() // SMALL, n))


@functools.cache
def _fork() -> Fork | None:
    """GOMP_parallel of the OpenMP runtime that torch has loaded: runs a function on n threads."""
    try:
        fork = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return None
    fork.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    fork.restype = None
    return fork


_forked = False  # the threads of an OpenMP runtime do not live on in a forked process


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _run(name: str, x: Tensor, floor_step: int, *tensors: Tensor) -> None:
    run(name, x, floor_step, *[t.data_ptr() for t in tensors])


def run(name: str, x: Tensor, floor_step: int, *addresses: int) -> None:
    """One pass over x, of which `serves` is true; addresses: of what the kernel takes, x first."""
    found = kernels()
    assert found is not None
    address, call = found[x.is_contiguous(memory_format=torch.channels_last)][name]
    n, c, h, w = x.shape
    job = array("q", (0, n, c, h * w, floor_step, *addresses))
    _on_threads((address, call), job, x.numel() // SMALL)


def _on_threads(kernel: tuple[int, Kernel], job: array[int], most: int) -> None:
    address, call = kernel
    threads, fork = min(torch.get_num_threads(), most), _fork()
    if threads > 1 and fork is not None and not _forked:
        fork(address, job.buffer_info()[0], threads, 0)
    else:
        call(job.buffer_info()[0])


def float32(*tensors: Tensor) -> bool:
    return all(t.dtype is torch.float32 and type(t) in (Tensor, Parameter) for t in tensors)


def like(g: Tensor, x: Tensor) -> Tensor:
    """g in the memory format of x."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return g.contiguous(memory_format=torch.channels_last)
    return g.contiguous()


def floor_row(floor: Floor) -> tuple[Tensor, int]:
    """The floor as a row of float32, and the step in it from one channel to the next."""
    if isinstance(floor, Tensor):
        ready = floor.dtype is torch.float32 and floor.is_contiguous()
        return floor if ready else floor.detach().float().contiguous(), 1
    return _number(-math.inf if floor is None else float(floor)), 0


@functools.cache
def _number(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float32, device="cpu")
