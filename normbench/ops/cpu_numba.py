"""What the compiled loops of `cpu_planes` and `cpu_pixels` share: pointers, the job, the arithmetic.

A kernel is a C function of one argument, a job: a row of int64 with a counter, the shape and the
addresses of float32 tensors. Any number of threads may call it with the same job: each takes the
next planes until none is left. What a plane gives depends on nothing but the plane: not on the
threads, not on the other images.

The machine code is cached on disk. numba sees that it is out of date by the file that the kernel is
in, so after an edit of this file or of `tape`, change the others as well (or delete their __pycache__).
"""
# mypy: ignore-errors

from __future__ import annotations

from llvmlite import ir
from numba import cfunc, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

# A job
COUNTER, IMAGES, CHANNELS, SIZE, STEP, X = range(6)  # SIZE: H·W; STEP: of the floor, 0 or 1
MEAN, VAR = 6, 7  # moments
SCALE, SHIFT, FLOOR = 6, 7, 8  # the others
Y = 9  # affine
G, SUM_G, SUM_GX, BELOW = 9, 10, 11, 12  # sums
P, Q, GX = 10, 11, 12  # affine_of_two, after G

PIECE = 1 << 14  # numbers, about, that a thread takes at a time
CHUNK = 1 << 12  # numbers over which float32 sums; chunks are added up in float64
LANES = 64  # numbers in a row of `cpu_pixels`

# The map and the comparison with the floor are rounded alike in every kernel: no flags, no FMA, and
# fastmath=False said aloud, or numba takes over the flags of the caller. Sums may be reordered into
# vectors. Never nnan or ninf: divergence must stay visible.
inline = njit(forceinline=True, error_model="numpy", fastmath=False)
inline_sum = njit(forceinline=True, error_model="numpy", fastmath={"reassoc", "nsz", "contract"})
job_type = types.CPointer(types.int64)


def kernel(function):
    """Compiles a kernel now."""
    options = {"error_model": "numpy", "fastmath": False}
    try:
        return cfunc(types.void(job_type), cache=True, **options)(function)
    except RuntimeError:  # no folder that numba could write its cache to
        return cfunc(types.void(job_type), **options)(function)


@intrinsic
def floats(typing, address, start):
    """Pointer to the float32 number `start` after an address."""

    def code(context, builder, signature, args):
        return builder.gep(builder.inttoptr(args[0], ir.FloatType().as_pointer()), [args[1]])

    return types.CPointer(types.float32)(types.int64, types.int64), code


def stack_row(number, item):
    @intrinsic
    def row(typing):
        """LANES numbers on the stack, which the compiler knows to overlap with nothing."""

        def code(context, builder, signature, args):
            room = cgutils.alloca_once(builder, ir.ArrayType(item, LANES))
            return builder.bitcast(room, item.as_pointer())

        return types.CPointer(number)(), code

    return row


row32 = stack_row(types.float32, ir.FloatType())
row64 = stack_row(types.float64, ir.DoubleType())


@intrinsic
def next_of(typing, job):
    """The job's counter, which is then one more, also between threads."""

    def code(context, builder, signature, args):
        return builder.atomic_rmw("add", args[0], ir.IntType(64)(1), "monotonic")

    return types.int64(job_type), code


@inline
def taken(job, parts, numbers):
    """The next parts [start, stop) for this thread, of `parts` of about so many numbers each."""
    each = max(1, PIECE // numbers)
    start = min(next_of(job) * each, parts)
    return start, min(start + each, parts)


@inline
def map_of(job, plane):
    """(scale, shift, floor) of a plane. A floor that is NaN must make the output NaN."""
    scale, shift = floats(job[SCALE], plane)[0], floats(job[SHIFT], plane)[0]
    low = floats(job[FLOOR], plane % job[CHANNELS] * job[STEP])[0]
    return scale, (low if low != low else shift), low


@inline
def clamped(x, scale, shift, low):
    y = scale * x + shift
    return low if low > y else y  # NaN stays


@inline
def passed(x, g, scale, shift, low):
    """g where the floor let the pixel through, else 0."""
    return types.float32(0) if scale * x + shift <= low else g


@inline
def merged(count, mean, spread, size, middle, sum_d, sum_dd):
    """Mean and Σ(x − mean)² of `count` numbers and `size` more, of which d = x − middle is summed."""
    off = types.float64(sum_d) / size
    delta = middle + off - mean
    mean += delta * size / (count + size)
    spread += sum_dd - off * sum_d + delta * delta * count * size / (count + size)
    return mean, spread
