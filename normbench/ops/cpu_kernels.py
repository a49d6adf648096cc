"""The loops of `cpu`, compiled by numba when this module is imported (cached on disk after that).

Each kernel is a C function of one argument, the address of a row of int64 (see `Job` in `cpu`). Any
number of threads may call it with the same row: each takes the next piece of work until none is
left. What a plane gives depends on nothing but the plane: not on the threads, not on other images.

x is [N, C, H, W] in memory (loops over the pixels of a plane), or [N, H, W, C]. There, an image is cut
into rows of at most LANES numbers, each a few whole pixels or a part of one, and a loop runs over
the lanes of a row, so that the compiler finds vectors of the same length whatever C is.
"""

from __future__ import annotations

from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 64
PIECE = 1 << 14  # numbers, at least, that a thread takes at a time
CHUNK = 1 << 12  # numbers over which float32 sums; chunks are added up in float64

# The map and the comparison with the floor are rounded alike in every kernel: no flags, no FMA. Sums
# may be reordered into vectors. Never nnan or ninf: divergence must stay visible.
SUM = {"reassoc", "nsz", "contract"}
ADDRESS = types.CPointer(types.int64)
inline = njit(forceinline=True, error_model="numpy")
inline_sum = njit(forceinline=True, error_model="numpy", fastmath=SUM)
kernel = cfunc(types.void(ADDRESS), cache=True, error_model="numpy")


@intrinsic
def _pointer(typing, address):
    """The address of float32 as a pointer."""

    def code(context, builder, signature, args):
        return builder.inttoptr(args[0], ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(types.int64), code


def _stack(number, item):
    """A row of LANES numbers on the stack, which the compiler knows to overlap with nothing."""

    @intrinsic
    def row(typing):
        def code(context, builder, signature, args):
            room = cgutils.alloca_once(builder, ir.ArrayType(item, LANES))
            return builder.bitcast(room, item.as_pointer())

        return types.CPointer(number)(), code

    return row


_row32 = _stack(types.float32, ir.FloatType())
_row64 = _stack(types.float64, ir.DoubleType())


@intrinsic
def _take(typing, counter):
    """The counter's value, which is then one more, also between threads."""

    def code(context, builder, signature, args):
        return builder.atomic_rmw("add", args[0], ir.IntType(64)(1), "monotonic")

    return types.int64(ADDRESS), code


@inline
def floats(address, start):
    return carray(_pointer(address + 4 * start), (1 << 40,))


@inline
def row32():
    return carray(_row32(), (LANES,))


@inline
def row64():
    return carray(_row64(), (LANES,))


@inline
def low_of(floor, step, channel, shift):
    """(shift, floor) of a channel; a floor that is NaN makes the output NaN, as torch.maximum does."""
    low = floor[channel * step]
    return (low if low != low else shift), low


@inline
def clamped(x, scale, shift, low):
    y = scale * x + shift
    return low if low > y else y  # NaN stays


@inline
def passed(x, g, scale, shift, low):
    """g where the floor let the pixel through, else 0."""
    return g if scale * x + shift > low else types.float32(0)


# --- [N, C, H, W]: one plane ------------------------------------------------------------------------


@inline_sum
def plane_moments(x, count):
    total, mean, spread = 0, 0.0, 0.0
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        sum_x = types.float32(0)
        for i in range(size):
            sum_x += x[start + i]
        middle = sum_x / types.float32(size)
        sum_d, sum_dd = types.float32(0), types.float32(0)
        for i in range(size):
            d = x[start + i] - middle
            sum_d += d
            sum_dd += d * d
        total, mean, spread = merged(total, mean, spread, size, middle, sum_d, sum_dd)
    return mean, spread / count


@inline
def merged(total, mean, spread, size, middle, sum_d, sum_dd):
    """Count, mean and Σ(x − mean)² with a chunk added, of which Σd and Σd² are taken from `middle`."""
    off = types.float64(sum_d) / size
    delta = types.float64(middle) + off - mean
    both = total + size
    mean += delta * size / both
    spread += types.float64(sum_dd) - off * types.float64(sum_d) + delta * delta * total * size / both
    return both, mean, spread


@inline_sum
def plane_sums(x, g, scale, shift, low, count):
    all_g, all_gx, all_below = 0.0, 0.0, 0.0
    for start in range(0, count, CHUNK):
        sum_g, sum_gx, below = types.float32(0), types.float32(0), types.float32(0)
        for i in range(start, min(start + CHUNK, count)):
            kept = passed(x[i], g[i], scale, shift, low)
            sum_g += kept
            sum_gx += kept * x[i]
            below += g[i] - kept
        all_g += sum_g
        all_gx += sum_gx
        all_below += below
    return all_g, all_gx, all_below


# --- [N, H, W, C]: `rows` rows of `lanes` numbers, `stride` apart -----------------------------------


@inline_sum
def rows_moments(x, rows, lanes, stride, middle, sum_d, sum_dd):
    for j in range(lanes):
        middle[j] = 0
        sum_d[j] = 0
        sum_dd[j] = 0
    for r in range(rows):
        row = floats(x, r * stride)
        for j in range(lanes):
            middle[j] += row[j]
    for j in range(lanes):
        middle[j] /= types.float32(rows)
    for r in range(rows):
        row = floats(x, r * stride)
        for j in range(lanes):
            d = row[j] - middle[j]
            sum_d[j] += d
            sum_dd[j] += d * d


@inline_sum
def rows_sums(x, g, rows, lanes, stride, scale, shift, low, sum_g, sum_gx, below):
    for j in range(lanes):
        sum_g[j] = 0
        sum_gx[j] = 0
        below[j] = 0
    for r in range(rows):
        row_x, row_g = floats(x, r * stride), floats(g, r * stride)
        for j in range(lanes):
            kept = passed(row_x[j], row_g[j], scale[j], shift[j], low[j])
            sum_g[j] += kept
            sum_gx[j] += kept * row_x[j]
            below[j] += row_g[j] - kept


@inline
def rows_affine(y, x, rows, lanes, stride, scale, shift, low):
    for r in range(rows):
        row_y, row_x = floats(y, r * stride), floats(x, r * stride)
        for j in range(lanes):
            row_y[j] = clamped(row_x[j], scale[j], shift[j], low[j])


@inline
def rows_affine_of_two(gx, x, g, rows, lanes, stride, scale, shift, low, p, q):
    for r in range(rows):
        row_gx, row_x, row_g = floats(gx, r * stride), floats(x, r * stride), floats(g, r * stride)
        for j in range(lanes):
            kept = passed(row_x[j], row_g[j], scale[j], shift[j], low[j])
            row_gx[j] = scale[j] * kept + (p[j] * row_x[j] + q[j])
