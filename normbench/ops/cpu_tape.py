"""Carries out the rows of a `tape` on float32 numbers in memory: one call for all of them, one thread."""
# mypy: ignore-errors

from __future__ import annotations

import math

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from normbench.ops.cpu_numba import floats, inline, inline_sum, kernel
from normbench.ops.tape import CODES, DIMS, WIDTH

# A job: address and number of the rows, then the address of each base
ROWS, COUNT, BASES = range(3)
SIZES, OUT, A, B, C = (1, *(1 + DIMS + i * (2 + DIMS) for i in range(4)))
one, zero = types.float32(1), types.float32(0)

(
    COPY, ADD, SUB, MUL, DIV, RSQRT, SQRT, SIGMOID, SIGMOID_BACKWARD, ABS, SIGN, CLAMP_MIN, CLAMP, LERP,
    WHERE, GE, GT, SUM, MEAN, SOFTMAX, SOFTMAX_BACKWARD, COUNTED, FROM_INT,
) = map(CODES.__getitem__, (
    "copy", "add", "sub", "mul", "div", "rsqrt", "sqrt", "sigmoid", "sigmoid_backward", "abs", "sign",
    "clamp_min", "clamp", "lerp", "where", "ge", "gt", "sum", "mean", "softmax", "softmax_backward",
    "count", "from_int",
))  # fmt: skip


@intrinsic
def longs(typing, address, start):
    """Pointer to the int64 number `start` after an address."""

    def code(context, builder, signature, args):
        return builder.gep(builder.inttoptr(args[0], ir.IntType(64).as_pointer()), [args[1]])

    return types.CPointer(types.int64)(types.int64, types.int64), code


@inline
def address(job, row, operand):
    return job[BASES + row[operand]] + 4 * row[operand + 1]


def along(function, vectors=False):
    """out = function(a, b, c) along the last size; vectors: also loops that become vectors."""

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


copied = along(inline(lambda a, b, c: a), vectors=True)
added = along(inline(lambda a, b, c: a + b), vectors=True)
subtracted = along(inline(lambda a, b, c: a - b), vectors=True)
multiplied = along(inline(lambda a, b, c: a * b), vectors=True)
divided = along(inline(lambda a, b, c: a / b), vectors=True)
one_over_root = along(inline(lambda a, b, c: one / math.sqrt(a)), vectors=True)
rooted = along(inline(lambda a, b, c: math.sqrt(a)))
sigmoid = along(inline(lambda a, b, c: one / (one + math.exp(-a))))
sigmoid_backward = along(inline(lambda a, b, c: a * (one - b) * b))
absolute = along(inline(lambda a, b, c: abs(a)))
sign = along(inline(lambda a, b, c: types.float32(a > zero) - types.float32(a < zero)))
at_least = along(inline(lambda a, b, c: b if a < b else a))  # NaN stays
clamped = along(inline(lambda a, b, c: c if (b if a < b else a) > c else (b if a < b else a)))
half = types.float32(0.5)
lerp = along(  # torch's way: exact at both ends
    inline(lambda a, b, c: a + c * (b - a) if c < half else b - (one - c) * (b - a))
)
chosen = along(inline(lambda a, b, c: b if a != zero else c))
greater = along(inline(lambda a, b, c: one if a > b else zero))
not_less = along(inline(lambda a, b, c: one if a >= b else zero))


@inline
def elementwise(row, out, a, b, c):
    code, n = row[0], row[SIZES + 3]
    steps = row[OUT + 5], row[A + 5], row[B + 5], row[C + 5]
    for i in range(row[SIZES]):
        for j in range(row[SIZES + 1]):
            for k in range(row[SIZES + 2]):
                o = floats(out, i * row[OUT + 2] + j * row[OUT + 3] + k * row[OUT + 4])
                x = floats(a, i * row[A + 2] + j * row[A + 3] + k * row[A + 4])
                y = floats(b, i * row[B + 2] + j * row[B + 3] + k * row[B + 4])
                z = floats(c, i * row[C + 2] + j * row[C + 3] + k * row[C + 4])
                if code == COPY:
                    copied(n, steps, o, x, y, z)
                elif code == ADD:
                    added(n, steps, o, x, y, z)
                elif code == SUB:
                    subtracted(n, steps, o, x, y, z)
                elif code == MUL:
                    multiplied(n, steps, o, x, y, z)
                elif code == DIV:
                    divided(n, steps, o, x, y, z)
                elif code == RSQRT:
                    one_over_root(n, steps, o, x, y, z)
                elif code == SQRT:
                    rooted(n, steps, o, x, y, z)
                elif code == SIGMOID:
                    sigmoid(n, steps, o, x, y, z)
                elif code == SIGMOID_BACKWARD:
                    sigmoid_backward(n, steps, o, x, y, z)
                elif code == ABS:
                    absolute(n, steps, o, x, y, z)
                elif code == SIGN:
                    sign(n, steps, o, x, y, z)
                elif code == CLAMP_MIN:
                    at_least(n, steps, o, x, y, z)
                elif code == CLAMP:
                    clamped(n, steps, o, x, y, z)
                elif code == LERP:
                    lerp(n, steps, o, x, y, z)
                elif code == WHERE:
                    chosen(n, steps, o, x, y, z)
                elif code == GE:
                    not_less(n, steps, o, x, y, z)
                elif code == GT:
                    greater(n, steps, o, x, y, z)


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
def play(job):
    for index in range(job[COUNT]):
        row = longs(job[ROWS], index * WIDTH)
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
            longs(job[BASES + row[OUT]], row[OUT + 1])[0] += types.int64(floats(a, 0)[0])
        elif code == FROM_INT:
            floats(out, 0)[0] = longs(job[BASES + row[A]], row[A + 1])[0]
        else:
            elementwise(row, out, a, b, c)
