"""Executes the steps of a program on float32 numbers in memory: one call for all of them, one thread.

The steps are encoded as rows of int64, and a compiled loop goes through the rows.
"""
# mypy: ignore-errors

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence

from numba import types

from normbench.ops.cpu.compiled import floats, inline, inline_sum, integers, kernel
from normbench.ops.cpu.job import BASES, ROWS
from normbench.ops.mix.layout import Place
from normbench.ops.mix.steps import DIMS, Step

# First the number of rows. A row: the code of the operation, DIMS sizes, then for the output and three
# operands the base, the offset in it and DIMS strides.
OPERANDS = 4
WIDTH = 1 + DIMS + OPERANDS * (2 + DIMS)
SIZES, OUT, A, B, C = 1, *range(1 + DIMS, WIDTH, 2 + DIMS)

one, zero, half = types.float32(1), types.float32(0), types.float32(0.5)


def along(function, vectors=False):
    """The loop out = function(a, b, c) over the last size; vectors: also loops that become vectors."""
    function = inline(function)

    @inline
    def run(n, steps, o, x, y, z):
        so, sa, sb, sc = steps
        if vectors and so == 1 and sa == 1 and sb == 1:
            for m in range(n):
                o[m] = function(x[m], y[m], z[0])
        elif vectors and so == 1 and sa == 1 and sb == 0:
            for m in range(n):
                o[m] = function(x[m], y[0], z[0])
        else:
            for m in range(n):
                o[m * so] = function(x[m * sa], y[m * sb], z[m * sc])

    return run


LOOPS = {
    "copy": along(lambda a, b, c: a, vectors=True),
    "add": along(lambda a, b, c: a + b, vectors=True),
    "sub": along(lambda a, b, c: a - b, vectors=True),
    "mul": along(lambda a, b, c: a * b, vectors=True),
    "div": along(lambda a, b, c: a / b, vectors=True),
    "rsqrt": along(lambda a, b, c: one / math.sqrt(a), vectors=True),
    "sqrt": along(lambda a, b, c: math.sqrt(a)),
    "sigmoid": along(lambda a, b, c: one / (one + math.exp(-a))),
    "sigmoid_backward": along(lambda a, b, c: a * (one - b) * b),
    "abs": along(lambda a, b, c: abs(a)),
    "sign": along(lambda a, b, c: types.float32(a > zero) - types.float32(a < zero)),
    "clamp_min": along(lambda a, b, c: b if a < b else a),  # NaN stays
    "clamp": along(lambda a, b, c: c if (b if a < b else a) > c else (b if a < b else a)),
    "lerp": along(  # torch's way: exact at both ends
        lambda a, b, c: a + c * (b - a) if c < half else b - (one - c) * (b - a)
    ),
    "where": along(lambda a, b, c: b if a != zero else c),
    "gt": along(lambda a, b, c: one if a > b else zero),
    "ge": along(lambda a, b, c: one if a >= b else zero),
}
WHOLE = ("sum", "mean", "softmax", "softmax_backward", "count", "from_int")  # not number by number
CODES = {name: code for code, name in enumerate([*LOOPS, *WHOLE])}
SUM, MEAN, SOFTMAX, SOFTMAX_BACKWARD, COUNTED, FROM_INT = (CODES[name] for name in WHOLE)


def encoded(steps: Sequence[Step], places: Mapping[int, Place]) -> array[int]:
    """The steps as rows. places: of each storage its base and its offset."""
    rows = array("q", [len(steps)])
    for step in steps:
        row = [CODES[step.operation], *step.sizes]
        for storage, offset, strides in step.operands:
            base, start = places[storage]
            row += [base, start + offset, *strides]
        rows.extend(row + [0] * (WIDTH - len(row)))
    return rows


def chosen(loops):
    """One function that runs the loop with a code: `if code == 0: copy(...)`, and so on."""
    arguments = "n, steps, o, x, y, z"
    lines = [f"    if code == {CODES[name]}: {name}_({arguments})" for name in loops]
    names = {f"{name}_": loop for name, loop in loops.items()}
    exec("\n".join([f"def run(code, {arguments}):", *lines]), names)
    return inline(names["run"])


run_loop = chosen(LOOPS)


@inline
def address(job, row, operand):
    return job[BASES + row[operand]] + 4 * row[operand + 1]


@inline
def elementwise(row, out, a, b, c):
    steps = row[OUT + 5], row[A + 5], row[B + 5], row[C + 5]
    for i in range(row[SIZES]):
        for j in range(row[SIZES + 1]):
            for k in range(row[SIZES + 2]):
                o = floats(out, i * row[OUT + 2] + j * row[OUT + 3] + k * row[OUT + 4])
                x = floats(a, i * row[A + 2] + j * row[A + 3] + k * row[A + 4])
                y = floats(b, i * row[B + 2] + j * row[B + 3] + k * row[B + 4])
                z = floats(c, i * row[C + 2] + j * row[C + 3] + k * row[C + 4])
                run_loop(row[0], row[SIZES + 3], steps, o, x, y, z)


@inline_sum
def summed(row, out, a, share):
    """Sums over the last two sizes, in float64, times `share`."""
    for i in range(row[SIZES]):
        for j in range(row[SIZES + 1]):
            total = 0.0
            for k in range(row[SIZES + 2]):
                x = floats(a, i * row[A + 2] + j * row[A + 3] + k * row[A + 4])
                step = row[A + 5]
                for m in range(row[SIZES + 3]):
                    total += x[m * step]
            floats(out, i * row[OUT + 2] + j * row[OUT + 3])[0] = total * share


@inline
def softmax(n, out, x):
    most, total = x[0], 0.0
    for i in range(n):
        most = x[i] if x[i] > most else most
    for i in range(n):
        out[i] = math.exp(x[i] - most)
        total += out[i]
    for i in range(n):
        out[i] = out[i] / total


@inline
def softmax_backward(n, out, g, y):
    total = 0.0
    for i in range(n):
        total += g[i] * y[i]
    for i in range(n):
        out[i] = (g[i] - total) * y[i]


@kernel
def interpret(job):
    for index in range(integers(job[ROWS], 0)[0]):
        row = integers(job[ROWS], 1 + index * WIDTH)
        code = row[0]
        out, a = address(job, row, OUT), address(job, row, A)
        b, c = address(job, row, B), address(job, row, C)
        if code == SUM:
            summed(row, out, a, 1.0)
        elif code == MEAN:
            summed(row, out, a, 1.0 / (row[SIZES + 2] * row[SIZES + 3]))
        elif code == SOFTMAX:
            softmax(row[SIZES + 3], floats(out, 0), floats(a, 0))
        elif code == SOFTMAX_BACKWARD:
            softmax_backward(row[SIZES + 3], floats(out, 0), floats(a, 0), floats(b, 0))
        elif code == COUNTED:
            integers(job[BASES + row[OUT]], row[OUT + 1])[0] += types.int64(floats(a, 0)[0])
        elif code == FROM_INT:
            floats(out, 0)[0] = integers(job[BASES + row[A]], row[A + 1])[0]
        else:
            elementwise(row, out, a, b, c)
