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
from numba import cfunc, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 64
PIECE = 1 << 14  # numbers, at least, that a thread takes at a time
CHUNK = 1 << 12  # numbers over which float32 sums; chunks are added up in float64

# The map and the comparison with the floor are rounded alike in every kernel: no flags, no FMA, and
# fastmath=False said aloud, or numba takes over the flags of the caller. Sums may be reordered into
# vectors. Never nnan or ninf: divergence must stay visible.
inline = njit(forceinline=True, error_model="numpy", fastmath=False)
inline_sum = njit(forceinline=True, error_model="numpy", fastmath={"reassoc", "nsz", "contract"})
JOB = types.CPointer(types.int64)
kernel = cfunc(types.void(JOB), cache=True, error_model="numpy", fastmath=False)


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
def take(typing, counter):
    """The counter's value, which is then one more, also between threads."""

    def code(context, builder, signature, args):
        return builder.atomic_rmw("add", args[0], ir.IntType(64)(1), "monotonic")

    return types.int64(JOB), code


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
    return types.float32(0) if scale * x + shift <= low else g


# --- [N, C, H, W]: one plane ------------------------------------------------------------------------


@inline_sum
def plane_moments(x, count):
    total, mean, spread = 0, 0.0, 0.0
    for start in range(0, count, CHUNK):
        size, chunk = min(CHUNK, count - start), floats(x, start)
        sum_x = types.float32(0)
        for i in range(size):
            sum_x += chunk[i]
        middle = sum_x / types.float32(size)
        sum_d, sum_dd = types.float32(0), types.float32(0)
        for i in range(size):
            d = chunk[i] - middle
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
        xs, gs = floats(x, start), floats(g, start)
        for i in range(min(CHUNK, count - start)):
            kept = passed(xs[i], gs[i], scale, shift, low)
            sum_g += kept
            sum_gx += kept * xs[i]
            below += gs[i] - kept
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


# --- the kernels ------------------------------------------------------------------------------------
# A job is [counter, channels last?, N, C, H·W, step of the floor, addresses of float32 ...].


@inline
def planes_taken(job):
    """The next planes [start, stop) of [N, C, H, W] for this thread; none left: start = stop."""
        planes, size = job[2] * job[3], job[4]
    each = max(1, PIECE // size)
    start = min(take(job) * each, planes)
    return start, min(start + each, planes)


@inline
def tiles_taken(job):
    """The same of tiles of [N, H, W, C]: LANES channels of an image, or all of them."""
        blocks = (job[3] + LANES - 1) // LANES
    tiles = job[2] * blocks
    each = max(1, PIECE // (job[4] * min(job[3], LANES)))
    start = min(take(job) * each, tiles)
    return start, min(start + each, tiles)


@inline
def tile(job, index):
    """(channel of [N, C], width, lanes, rows, stride, first number, numbers left after the rows)."""
        channels, size = job[3], job[4]
    pixels = max(1, min(LANES // channels, size))  # in a row
    blocks = (channels + LANES - 1) // LANES
    image = index // blocks
    channel = (index - image * blocks) * LANES
    width = min(LANES, channels - channel)
    rows = size // pixels
    return (
        image * channels + channel,
        width,
        width * pixels,
        rows,
        channels * pixels,
        image * size * channels + channel,
        (size - rows * pixels) * width,
    )


@inline
def spread_out(lane, numbers, start, width, lanes):
    """numbers[start + channel] for each lane of a row."""
    for j in range(width):
        lane[j] = numbers[start + j]
    for j in range(width, lanes):
        lane[j] = lane[j - width]


@inline
def lanes_of_map(job, index, width, lanes, scale, shift, low, scales, shifts, floors):
        spread_out(scale, floats(scales, 0), index, width, lanes)
    spread_out(shift, floats(shifts, 0), index, width, lanes)
    floor = floats(floors, 0)
    channel = index % job[3]
    for j in range(width):
        shift[j], low[j] = low_of(floor, job[5], channel + j, shift[j])
    for j in range(width, lanes):
        shift[j], low[j] = shift[j - width], low[j - width]


@kernel
def moments(job):
        x, means, variances = job[6], floats(job[7], 0), floats(job[8], 0)
    if job[1] == 0:
        start, stop = planes_taken(job)
        while start < stop:
            for plane in range(start, stop):
                means[plane], variances[plane] = plane_moments(x + 4 * plane * job[4], job[4])
            start, stop = planes_taken(job)
        return
    middle, sum_d, sum_dd, mean, spread = row32(), row32(), row32(), row64(), row64()
    start, stop = tiles_taken(job)
    while start < stop:
        for index in range(start, stop):
            out, width, lanes, rows, stride, begin, left = tile(job, index)
            for j in range(lanes):
                mean[j] = 0
                spread[j] = 0
            for r in range(0, rows, CHUNK // LANES):
                size = min(CHUNK // LANES, rows - r)
                at = x + 4 * (begin + r * stride)
                if lanes == LANES:
                    rows_moments(at, size, LANES, stride, middle, sum_d, sum_dd)
                else:
                    rows_moments(at, size, lanes, stride, middle, sum_d, sum_dd)
                for j in range(lanes):
                    _, mean[j], spread[j] = merged(
                        r, mean[j], spread[j], size, middle[j], sum_d[j], sum_dd[j]
                    )
            last = floats(x, begin + rows * stride)
            for j in range(width):
                m, s = 0.0, 0.0
                for lane in range(j, lanes, width):
                    m += mean[lane]
                m /= lanes // width
                for lane in range(j, lanes, width):
                    s += spread[lane] + rows * (mean[lane] - m) ** 2
                count = rows * (lanes // width)
                for lane in range(j, left, width):
                    count, m, s = merged(count, m, s, 1, last[lane], 0.0, 0.0)
                means[out + j], variances[out + j] = m, s / count
        start, stop = tiles_taken(job)


@kernel
def affine(job):
        x, scales, shifts, floors, y = job[6], job[7], job[8], job[9], job[10]
    if job[1] == 0:
        start, stop = planes_taken(job)
        while start < stop:
            for plane in range(start, stop):
                scale, shift = floats(scales, plane)[0], floats(shifts, plane)[0]
                shift, low = low_of(floats(floors, 0), job[5], plane % job[3], shift)
                xs, ys = floats(x, plane * job[4]), floats(y, plane * job[4])
                for i in range(job[4]):
                    ys[i] = clamped(xs[i], scale, shift, low)
            start, stop = planes_taken(job)
        return
    scale, shift, low = row32(), row32(), row32()
    start, stop = tiles_taken(job)
    while start < stop:
        for index in range(start, stop):
            out, width, lanes, rows, stride, begin, left = tile(job, index)
            lanes_of_map(job, out, width, lanes, scale, shift, low, scales, shifts, floors)
            xs, ys, done = x + 4 * begin, y + 4 * begin, 4 * rows * stride
            if lanes == LANES:
                rows_affine(ys, xs, rows, LANES, stride, scale, shift, low)
            else:
                rows_affine(ys, xs, rows, lanes, stride, scale, shift, low)
            rows_affine(ys + done, xs + done, 1, left, stride, scale, shift, low)
        start, stop = tiles_taken(job)


@kernel
def sums(job):
        x, g, scales, shifts, floors = job[6], job[7], job[8], job[9], job[10]
    out_g, out_gx, out_below = floats(job[11], 0), floats(job[12], 0), floats(job[13], 0)
    if job[1] == 0:
        start, stop = planes_taken(job)
        while start < stop:
            for plane in range(start, stop):
                scale, shift = floats(scales, plane)[0], floats(shifts, plane)[0]
                shift, low = low_of(floats(floors, 0), job[5], plane % job[3], shift)
                xs, gs = x + 4 * plane * job[4], g + 4 * plane * job[4]
                out_g[plane], out_gx[plane], out_below[plane] = plane_sums(
                    xs, gs, scale, shift, low, job[4]
                )
            start, stop = planes_taken(job)
        return
    scale, shift, low = row32(), row32(), row32()
    sum_g, sum_gx, below = row32(), row32(), row32()
    all_g, all_gx, all_below = row64(), row64(), row64()
    start, stop = tiles_taken(job)
    while start < stop:
        for index in range(start, stop):
            out, width, lanes, rows, stride, begin, left = tile(job, index)
            lanes_of_map(job, out, width, lanes, scale, shift, low, scales, shifts, floors)
            for j in range(lanes):
                all_g[j] = 0
                all_gx[j] = 0
                all_below[j] = 0
            for r in range(0, rows, CHUNK // LANES):
                size = min(CHUNK // LANES, rows - r)
                xs, gs = x + 4 * (begin + r * stride), g + 4 * (begin + r * stride)
                if lanes == LANES:
                    rows_sums(
                        xs, gs, size, LANES, stride, scale, shift, low, sum_g, sum_gx, below
                    )
                else:
                    rows_sums(
                        xs, gs, size, lanes, stride, scale, shift, low, sum_g, sum_gx, below
                    )
                for j in range(lanes):
                    all_g[j] += sum_g[j]
                    all_gx[j] += sum_gx[j]
                    all_below[j] += below[j]
            done = 4 * (begin + rows * stride)
            rows_sums(x + done, g + done, 1, left, stride, scale, shift, low, sum_g, sum_gx, below)
            for j in range(left):
                all_g[j] += sum_g[j]
                all_gx[j] += sum_gx[j]
                all_below[j] += below[j]
            for j in range(width):
                for lane in range(j + width, lanes, width):
                    all_g[j] += all_g[lane]
                    all_gx[j] += all_gx[lane]
                    all_below[j] += all_below[lane]
                out_g[out + j], out_gx[out + j], out_below[out + j] = all_g[j], all_gx[j], all_below[j]
        start, stop = tiles_taken(job)


@kernel
def affine_of_two(job):
        x, g, scales, shifts, floors = job[6], job[7], job[8], job[9], job[10]
    ps, qs, gx = job[11], job[12], job[13]
    if job[1] == 0:
        start, stop = planes_taken(job)
        while start < stop:
            for plane in range(start, stop):
                scale, shift = floats(scales, plane)[0], floats(shifts, plane)[0]
                shift, low = low_of(floats(floors, 0), job[5], plane % job[3], shift)
                p, q = floats(ps, plane)[0], floats(qs, plane)[0]
                xs, gs = floats(x, plane * job[4]), floats(g, plane * job[4])
                to = floats(gx, plane * job[4])
                for i in range(job[4]):
                    to[i] = scale * passed(xs[i], gs[i], scale, shift, low) + (p * xs[i] + q)
            start, stop = planes_taken(job)
        return
    scale, shift, low, p, q = row32(), row32(), row32(), row32(), row32()
    start, stop = tiles_taken(job)
    while start < stop:
        for index in range(start, stop):
            out, width, lanes, rows, stride, begin, left = tile(job, index)
            lanes_of_map(job, out, width, lanes, scale, shift, low, scales, shifts, floors)
            spread_out(p, floats(ps, 0), out, width, lanes)
            spread_out(q, floats(qs, 0), out, width, lanes)
            xs, gs, to, done = x + 4 * begin, g + 4 * begin, gx + 4 * begin, 4 * rows * stride
            if lanes == LANES:
                rows_affine_of_two(to, xs, gs, rows, LANES, stride, scale, shift, low, p, q)
            else:
                rows_affine_of_two(to, xs, gs, rows, lanes, stride, scale, shift, low, p, q)
            rows_affine_of_two(
                to + done, xs + done, gs + done, 1, left, stride, scale, shift, low, p, q
            )
        start, stop = tiles_taken(job)
