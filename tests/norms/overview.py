"""The table of all norms: `python -m tests.norms.overview [rounds=20] [shape=32x64x16x16]`.

deviation: the largest from the textbook formula in float64, over all rows of `table.ROWS` of the norm: of
output, gradients and running statistics, in training and evaluation, as a share of the largest number of
that tensor where this is above 1. time: forward and backward against BatchNorm2d + ReLU, as `normbench bench
layers` measures it (rounds=0: not measured). learned: parameters with 64 channels and the norm's own
activation. lines: of its class, and of those of ours that it derives from below `BatchStatistics` and
`PlaneNorm`, without blank lines, comments and docstrings.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from normbench import create_norm
from normbench.bench.layers import Request, measure
from normbench.norms import NORMS, BatchStatistics, Norm, PlaneNorm, norm_class
from normbench.norms.evaluation import RunningStatistics

from .table import ROWS, Row, gradients, images, perturbed, state_of

COMMON = (Norm, PlaneNorm, BatchStatistics, RunningStatistics)
CHANNELS = 64


def deviation(row: Row) -> float:
    """Of one row, in both modes."""
    found = 0.0
    for training in (True, False):
        norm = perturbed(row.create()).train(training)
        x, state = images().requires_grad_(), state_of(norm)
        names = [name for name, _ in norm.named_parameters()]
        expected, y = row.reference(x, state, training), norm(x)
        pairs = [
            (y, expected),
            *zip(
                gradients(y, [x, *norm.parameters()]),
                gradients(expected, [x, *(state[name] for name in names)]),
                strict=True,
            ),
            *((buffer, state[name]) for name, buffer in norm.named_buffers()),
        ]
        found = max(found, *(apart(*pair) for pair in pairs))
    return found


def apart(one: Tensor, other: Tensor) -> float:
    one, other = one.detach().double(), other.detach().double()
    return float((one - other).abs().max() / other.abs().max().clamp_min(1))


def lines(name: str) -> int:
    """Of the class and its own bases."""
    kinds = [kind for kind in norm_class(name).__mro__ if issubclass(kind, Norm)]  # type: ignore[attr-defined]
    return sum(code_lines(kind) for kind in kinds if kind not in COMMON)


def code_lines(kind: type) -> int:
    """Lines of a class that hold code."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    words = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    texts = {at for node in words for at in range(node.lineno, (node.end_lineno or 0) + 1)}
    source = textwrap.dedent(inspect.getsource(kind)).splitlines()
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and at not in texts
        for at, line in enumerate(source, start=1)
    )


def times(shape: tuple[int, int, int, int], rounds: int) -> dict[str, float]:
    """Each norm's forward and backward against BatchNorm2d + ReLU; none without rounds."""
    if not rounds:
        return {}
    request = Request(
        tuple(NORMS), (shape,), ("nchw",), ("fp32",), ("auto",), (), torch.device("cpu"), rounds
    )
    (rows,) = measure(request)
    return {row.norm: row.ratio for row in rows if row.by == "normbench auto"}


def table(
    shape: tuple[int, int, int, int], rounds: int, names: Sequence[str] = tuple(NORMS)
) -> Iterator[str]:
    """A heading, then a line for each norm."""
    ratios = times(shape, rounds)
    yield f"{'norm':<12}{'deviation':>10}{'time':>7}{'learned':>9}{'lines':>7}  file"
    for name in names:
        worst = max(deviation(row) for row in ROWS if row.norm == name)
        norm = create_norm(name, CHANNELS, activation="auto")
        learned = sum(p.numel() for p in norm.parameters())
        time = f"{ratios[name]:.2f}" if name in ratios else ""
        file = type(norm).__module__.rpartition(".")[2]
        yield f"{name:<12}{worst:>10.0e}{time:>7}{learned:>9,}{lines(name):>7}  {file}"


if __name__ == "__main__":
    given = {"rounds": "20", "shape": "32x64x16x16"}
    given |= dict(word.split("=", 1) for word in sys.argv[1:])
    n, c, h, w = map(int, given["shape"].split("x"))
    for line in table((n, c, h, w), int(given["rounds"])):
        print(line, flush=True)
