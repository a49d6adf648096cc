"""The kernels of `triton`, for both memory formats: what differs is which axis of a tile is contiguous.

A program takes tiles [STEPS, PIXELS, PLANES] of one part of the pixels of some planes. With LAST, x is
[N, H·W, C] in memory and a program has PLANES channels of one image; without, x is [N·C, H·W] and it
has PLANES planes. STEPS are meant to be the loads that one thread has under way at a time, so that
sums over them stay in its registers; what the threads have is added up once, at the end. No atomics:
the same bits every time. The map is one fused multiply-add everywhere, so that the backward pass masks
the very pixels that the forward pass cut off.
"""
# mypy: ignore-errors
# ruff: noqa: N803  (constants of a kernel are in capitals)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def place(
    channels, size, planes, parts, BACKWARDS: tl.constexpr,
    LAST: tl.constexpr, ALIGN: tl.constexpr, BLOCKS: tl.constexpr, PLANES: tl.constexpr,
):  # fmt: skip
    """What a program works on: (first number, step of a pixel, step of a plane, n, c, plane, valid, part).

    n, c, plane = n·C + c and valid are rows [1, 1, PLANES]. Neighbours in the grid are neighbours in
    memory. BACKWARDS: from its end, where what the pass before has read may still be in the cache.
    """
    program, image = tl.program_id(0), tl.program_id(1)
    if BACKWARDS:
        program, image = tl.num_programs(0) - 1 - program, tl.num_programs(1) - 1 - image
    local = tl.arange(0, PLANES)[None, None, :]
    # rounding down changes nothing: it tells the compiler how wide its loads may be
    if LAST:
        row = channels // ALIGN * ALIGN
        block, part = program % BLOCKS, program // BLOCKS
        first = image.to(tl.int64) * size * row + block * PLANES
        by_pixel, by_plane = row, local
        c = block * PLANES + local
        n, plane, valid = image, image * channels + c, c < row
    else:
        row = size // ALIGN * ALIGN
        block, part = program // parts, program % parts
        first = (block * PLANES).to(tl.int64) * row
        by_pixel, by_plane = 1, local * row
        plane = block * PLANES + local
        n, c, valid = plane // channels, plane % channels, plane < planes
    return first, by_pixel, by_plane, n, c, plane, valid, part


@triton.jit
def pixels(
    start, size, LAST: tl.constexpr, ALIGN: tl.constexpr, STEPS: tl.constexpr, PIXELS: tl.constexpr
):
    """Numbers of a tile's pixels and which exist, [STEPS, PIXELS, 1]."""
    end = size if LAST else size // ALIGN * ALIGN
    step, pixel = tl.arange(0, STEPS)[:, None, None], tl.arange(0, PIXELS)[None, :, None]
    at = start + step * PIXELS + pixel
    return at, at < end


@triton.jit
def masked(x, g, scale, shift, low):
    """g where the lower_bound let the pixel through, else g·0."""
    return g * tl.where(tl.fma(x, scale, shift) > low, 1.0, 0.0)


@triton.jit
def lane_count(left, most, PIXELS: tl.constexpr):
    """How many of the next `left` pixels are in each lane, at most `most`; [PIXELS, 1]."""
    lane = tl.arange(0, PIXELS)[:, None]
    count = (left - lane + (PIXELS - 1)) // PIXELS
    return tl.maximum(tl.minimum(count, most), 0).to(tl.float32)


@triton.jit
def moments(
    x, mean, var, channels, size, planes, parts, tiles,
    LAST: tl.constexpr, ALIGN: tl.constexpr, BLOCKS: tl.constexpr,
    STEPS: tl.constexpr, PIXELS: tl.constexpr, PLANES: tl.constexpr,
):  # fmt: skip
    """Mean and variance of each part of a plane, [parts, N, C]; two passes over the numbers of a tile
    in a thread, Chan's formula (1979) between them. A part has `tiles` tiles."""
    first, by_pixel, by_plane, _, _, plane, valid, part = place(
        channels, size, planes, parts, False, LAST, ALIGN, BLOCKS, PLANES
    )
    total = tl.zeros([PIXELS, PLANES], tl.float32)  # of each lane of the tile: Σx, Σ(x − mean)²
    spread = tl.zeros([PIXELS, PLANES], tl.float32)
    start = part * tiles * (STEPS * PIXELS)
    stop = tl.minimum(start + tiles * (STEPS * PIXELS), size)
    for at in range(start, stop, STEPS * PIXELS):
        pixel, inside = pixels(at, size, LAST, ALIGN, STEPS, PIXELS)
        offset = pixel * by_pixel + by_plane
        number = tl.load(x + first + offset, inside & valid, 0).to(tl.float32)
        count = ((at - start) // PIXELS).to(tl.float32)  # before this tile; only the last has fewer
        more = lane_count(stop - at, STEPS, PIXELS)
        sum_x = tl.sum(number, 0)
        middle = sum_x * (1 / tl.maximum(more, 1))
        d = tl.where(inside, number - middle[None, :, :], 0)
        weight = count * more / tl.maximum(count + more, 1)
        apart = tl.where(weight > 0, middle - total * (1 / tl.maximum(count, 1)), 0)
        spread += tl.sum(d * d, 0) + apart * apart * weight
        total += sum_x
    amount = (stop - start).to(tl.float32)
    count = lane_count(stop - start, size, PIXELS)
    average = tl.sum(total, 0) / amount
    away = tl.where(count > 0, total * (1 / tl.maximum(count, 1)) - average[None, :], 0)
    variance = tl.sum(spread + away * away * count, 0) / amount
    to = part.to(tl.int64) * planes + plane
    tl.store(mean + to, average[None, None, :], valid)
    tl.store(var + to, variance[None, None, :], valid)


@triton.jit
def affine(
    x, scale, shift, n_step, c_step, lower_bound, PER_CHANNEL: tl.constexpr, y,
    channels, size, planes, parts, tiles,
    LAST: tl.constexpr, ALIGN: tl.constexpr, BLOCKS: tl.constexpr,
    STEPS: tl.constexpr, PIXELS: tl.constexpr, PLANES: tl.constexpr,
):  # fmt: skip
    """max(scale·x + shift, lower_bound) of a tile."""
    first, by_pixel, by_plane, n, c, _, valid, part = place(
        channels, size, planes, parts, True, LAST, ALIGN, BLOCKS, PLANES
    )
    a = tl.load(scale + n * n_step + c * c_step, valid, 0)
    b = tl.load(shift + n * n_step + c * c_step, valid, 0)
    low = lower_bound
    if PER_CHANNEL:
        low = tl.load(lower_bound + c, valid, 0).to(tl.float32)
    pixel, inside = pixels(part * (STEPS * PIXELS), size, LAST, ALIGN, STEPS, PIXELS)
    at, inside = pixel * by_pixel + by_plane, inside & valid
    value = tl.fma(tl.load(x + first + at, inside, 0).to(tl.float32), a, b)
    if low is not None:
        value = tl.maximum(value, low, propagate_nan=tl.PropagateNan.ALL)
    tl.store(y + first + at, value.to(y.dtype.element_ty), inside)


@triton.jit
def sums(
    x, g, scale, shift, n_step, c_step, lower_bound, PER_CHANNEL: tl.constexpr, sum_g, sum_gx, below,
    channels, size, planes, parts, tiles,
    LAST: tl.constexpr, ALIGN: tl.constexpr, BLOCKS: tl.constexpr,
    STEPS: tl.constexpr, PIXELS: tl.constexpr, PLANES: tl.constexpr,
):  # fmt: skip
    """Σg, Σg·x and Σg below the lower_bound of each part of a plane, [parts, N, C]."""
    first, by_pixel, by_plane, n, c, plane, valid, part = place(
        channels, size, planes, parts, False, LAST, ALIGN, BLOCKS, PLANES
    )
    a = tl.load(scale + n * n_step + c * c_step, valid, 0)
    b = tl.load(shift + n * n_step + c * c_step, valid, 0)
    low = lower_bound
    if PER_CHANNEL:
        low = tl.load(lower_bound + c, valid, 0).to(tl.float32)
    all_g = tl.zeros([PIXELS, PLANES], tl.float32)
    all_gx = tl.zeros([PIXELS, PLANES], tl.float32)
    all_below = tl.zeros([PIXELS, PLANES], tl.float32)
    start = part * tiles * (STEPS * PIXELS)
    for at in range(start, tl.minimum(start + tiles * (STEPS * PIXELS), size), STEPS * PIXELS):
        pixel, inside = pixels(at, size, LAST, ALIGN, STEPS, PIXELS)
        offset, inside = pixel * by_pixel + by_plane, inside & valid
        number = tl.load(x + first + offset, inside, 0).to(tl.float32)
        gradient = tl.load(g + first + offset, inside, 0).to(tl.float32)
        kept = gradient
        if low is not None:
            kept = masked(number, gradient, a, b, low)
        all_g += tl.sum(kept, 0)
        all_gx += tl.sum(kept * number, 0)
        if low is not None:
            all_below += tl.sum(gradient - kept, 0)
    to = part.to(tl.int64) * planes + plane
    tl.store(sum_g + to, tl.sum(all_g, 0)[None, None, :], valid)
    tl.store(sum_gx + to, tl.sum(all_gx, 0)[None, None, :], valid)
    if low is not None:
        tl.store(below + to, tl.sum(all_below, 0)[None, None, :], valid)


@triton.jit
def affine_of_two(
    x, g, scale, shift, n_step, c_step, lower_bound, PER_CHANNEL: tl.constexpr, p, q, gx,
    channels, size, planes, parts, tiles,
    LAST: tl.constexpr, ALIGN: tl.constexpr, BLOCKS: tl.constexpr,
    STEPS: tl.constexpr, PIXELS: tl.constexpr, PLANES: tl.constexpr,
):  # fmt: skip
    """scale·g + p·x + q of a tile, g masked by the lower_bound; p and q may be None."""
    first, by_pixel, by_plane, n, c, plane, valid, part = place(
        channels, size, planes, parts, True, LAST, ALIGN, BLOCKS, PLANES
    )
    a = tl.load(scale + n * n_step + c * c_step, valid, 0)
    b = tl.load(shift + n * n_step + c * c_step, valid, 0)
    low = lower_bound
    if PER_CHANNEL:
        low = tl.load(lower_bound + c, valid, 0).to(tl.float32)
    pixel, inside = pixels(part * (STEPS * PIXELS), size, LAST, ALIGN, STEPS, PIXELS)
    at, inside = pixel * by_pixel + by_plane, inside & valid
    number = tl.load(x + first + at, inside, 0).to(tl.float32)
    kept = tl.load(g + first + at, inside, 0).to(tl.float32)
    if low is not None:
        kept = masked(number, kept, a, b, low)
    value = a * kept
    if p is not None:
        value += tl.fma(number, tl.load(p + plane, valid, 0), tl.load(q + plane, valid, 0))
    tl.store(gx + first + at, value.to(gx.dtype.element_ty), inside)


@triton.jit
def pooled(
    of_parts, mean, var, size, part, planes, parts, PARTS: tl.constexpr, PLANES: tl.constexpr
):
    """Moments of planes from those of their parts [2, parts, N, C], by the law of total variance.

    A part has `part` pixels, the last one what is left.
    """
    plane = tl.program_id(0) * PLANES + tl.arange(0, PLANES)[None, :]
    index = tl.arange(0, PARTS)[:, None]
    valid = (index < parts) & (plane < planes)
    at = of_parts + index.to(tl.int64) * planes + plane
    means, vars = tl.load(at, valid, 0), tl.load(at + parts.to(tl.int64) * planes, valid, 0)
    share = tl.maximum(tl.minimum(size - index * part, part), 0).to(tl.float32) / size
    average = tl.sum(means * share, 0)[None, :]
    away = tl.where(valid, means - average, 0)
    tl.store(mean + plane, average, plane < planes)
    tl.store(var + plane, tl.sum((vars + away * away) * share, 0)[None, :], plane < planes)


@triton.jit
def added(of_parts, sum_g, sum_gx, below, planes, parts, PARTS: tl.constexpr, PLANES: tl.constexpr):
    """Sums of planes from those of their parts [3, parts, N, C]; below may be None."""
    plane = tl.program_id(0) * PLANES + tl.arange(0, PLANES)[None, :]
    index = tl.arange(0, PARTS)[:, None]
    valid, row = (index < parts) & (plane < planes), plane < planes
    at = of_parts + index.to(tl.int64) * planes + plane
    next = parts.to(tl.int64) * planes
    tl.store(sum_g + plane, tl.sum(tl.load(at, valid, 0), 0)[None, :], row)
    tl.store(sum_gx + plane, tl.sum(tl.load(at + next, valid, 0), 0)[None, :], row)
    if below is not None:
        tl.store(below + plane, tl.sum(tl.load(at + 2 * next, valid, 0), 0)[None, :], row)
