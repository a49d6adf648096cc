"""How a run computes: what is set before it, what cannot be, and what its record says of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from normbench.errors import UserError
from normbench.ops import use
from normbench.settings.schema import Settings

Note = Callable[[str], None]


def say_nothing(line: str) -> None:
    """A note that nobody reads."""


@contextmanager
def arithmetic(settings: Settings, device: torch.device) -> Iterator[None]:
    """For its duration, torch computes as `tf32` and `determinism` say; what was set comes back.

    tf32=false: float32 products and convolutions on CUDA have all 24 bits, as torch's matrix products
    have by default and its convolutions have not. determinism=strict: algorithms whose sums have one
    order; an operation that has none raises RuntimeError. cuDNN never chooses by measuring.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (
        matmul.fp32_precision,
        cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        cudnn.benchmark,
        cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(),
    )
    strict, precision = settings.determinism == "strict", "tf32" if settings.tf32 else "ieee"
    if strict and device.type == "cuda":  # cuBLAS reads it when it starts
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        _set(precision, precision, False, strict, strict)
        yield
    finally:
        _set(*before)


def _set(matmul: str, conv: str, benchmark: bool, deterministic: bool, strict: bool) -> None:
    torch.backends.cuda.matmul.fp32_precision = matmul
    torch.backends.cudnn.conv.fp32_precision = conv  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = benchmark
    torch.backends.cudnn.deterministic = deterministic
    torch.use_deterministic_algorithms(strict)


def no_graph(settings: Settings, device: torch.device, ranks: int = 1) -> str:
    """Why the step is not to be captured as a CUDA graph; empty where it is to be tried."""
    if settings.cuda_graph is False:
        return "cuda_graph=false"
    if device.type != "cuda":
        return f"the run is on the {device.type}"
    if ranks > 1:
        return f"{ranks} ranks send each other what a graph does not hold"
    if settings.precision == "fp16":
        return "the loss scaler of fp16 waits for the device"
    return ""


def kernels(device: torch.device) -> str:
    """Which backend of `ops` computes the norms there; for eager, also why not a faster one."""
    fastest = "cpu" if device.type == "cpu" else "triton"
    if use.chosen == "eager":
        return "eager"
    if use.chosen not in ("auto", fastest):
        return f"eager: the kernels of {use.chosen} do not run on {device.type}"
    if fastest == "cpu":
        from normbench.ops import cpu

        return "eager: numba cannot compile the kernels" if cpu.kernels() is None else "cpu"
    from normbench.ops import triton

    failure = triton.failure(device)
    return f"eager: {failure}" if failure else "triton"


def check_computing(settings: Settings, device: torch.device) -> None:
    """UserError where the settings ask by name for kernels, or a graph, that cannot run there."""
    if settings.cuda_graph is True and (why_not := no_graph(settings, device)):
        raise UserError(f"cuda_graph=true: {why_not}; use cuda_graph=auto or false")
    if settings.ops in (None, "auto", "eager"):
        return
    with use(settings.ops):
        name, _, why_not = kernels(device).partition(": ")
    if name != settings.ops:
        raise UserError(f"ops={settings.ops}: {why_not}; use ops=auto or eager")
