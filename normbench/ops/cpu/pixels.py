"""The kernels for [N, H, W, C] in memory (channels_last): loops over the channels of pixels.

An image is cut into tiles of at most LANES channels, and a tile into rows of at most LANES numbers:
a few whole pixels, or a part of one. Each lane of a row is then always the same channel, and the
inner loop has the length that the compiler makes vectors of, whatever C is.
"""
# mypy: ignore-errors

from __future__ import annotations

from numba import types

from normbench.ops.cpu.compiled import (  # isort: skip
    CHUNK, LANES, clamped, floats, inline, inline_sum, kernel, map_of, merged, passed, row32, row64, taken,
)  # fmt: skip
from normbench.ops.cpu.job import (  # isort: skip
    BELOW, CHANNELS, GX, IMAGES, MEAN, SIZE, SUM_G, SUM_GX, VAR, G, P, Q, X, Y,
)  # fmt: skip

ROWS = CHUNK // LANES


@inline
def next_tiles(job):
    blocks = (job[CHANNELS] + LANES - 1) // LANES
    return taken(job, job[IMAGES] * blocks, job[SIZE] * min(job[CHANNELS], LANES))


@inline
def tile(job, index):
    """(first plane, its first number, width in channels, rows, lanes, stride of rows, rest).

    rest: numbers of the pixels that do not fill another row, which lie after the rows.
    """
    channels, size = job[CHANNELS], job[SIZE]
    blocks = (channels + LANES - 1) // LANES
    image, block = index // blocks, index % blocks
    width = min(LANES, channels - block * LANES)
    pixels = max(1, min(LANES // channels, size))
    rows = size // pixels
    plane, first = image * channels + block * LANES, image * channels * size + block * LANES
    rest = (size - rows * pixels) * width
    return plane, first, width, rows, width * pixels, channels * pixels, rest


@inline
def map_lanes(job, plane, width, lanes, maps):
    scale, shift, low = maps
    for j in range(width):
        scale[j], shift[j], low[j] = map_of(job, plane + j)
    for j in range(width, lanes):
        scale[j], shift[j], low[j] = scale[j - width], shift[j - width], low[j - width]


@inline
def lanes_of(lane, numbers, plane, width, lanes):
    for j in range(width):
        lane[j] = floats(numbers, plane)[j]
    for j in range(width, lanes):
        lane[j] = lane[j - width]


@inline
def add_lanes(lanes, part, whole):
    (sum_g, sum_gx, below), (all_g, all_gx, all_below) = part, whole
    for j in range(lanes):
        all_g[j] += sum_g[j]
        all_gx[j] += sum_gx[j]
        all_below[j] += below[j]


@inline
def fold(lane, width, lanes, to, plane):
    """Adds up the lanes of each channel."""
    for j in range(width, lanes):
        lane[j % width] += lane[j]
    for j in range(width):
        floats(to, plane)[j] = lane[j]


# Loops over rows. x, g and what is written are addresses; the rest are rows on the stack.


@inline_sum
def moments_rows(x, rows, lanes, stride, middle, sum_d, sum_dd):
    for j in range(lanes):
        middle[j], sum_d[j], sum_dd[j] = 0, 0, 0
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
def sums_rows(x, g, rows, lanes, stride, maps, sums):
    (scale, shift, low), (sum_g, sum_gx, below) = maps, sums
    for j in range(lanes):
        sum_g[j], sum_gx[j], below[j] = 0, 0, 0
    for r in range(rows):
        row_x, row_g = floats(x, r * stride), floats(g, r * stride)
        for j in range(lanes):
            kept = passed(row_x[j], row_g[j], scale[j], shift[j], low[j])
            sum_g[j] += kept
            sum_gx[j] += kept * row_x[j]
            below[j] += row_g[j] - kept


@inline
def affine_rows(y, x, rows, lanes, stride, maps):
    scale, shift, low = maps
    for r in range(rows):
        row_y, row_x = floats(y, r * stride), floats(x, r * stride)
        for j in range(lanes):
            row_y[j] = clamped(row_x[j], scale[j], shift[j], low[j])


@inline
def affine_of_two_rows(gx, x, g, rows, lanes, stride, maps, p, q):
    scale, shift, low = maps
    for r in range(rows):
        row_gx, row_x, row_g = floats(gx, r * stride), floats(x, r * stride), floats(g, r * stride)
        for j in range(lanes):
            kept = passed(row_x[j], row_g[j], scale[j], shift[j], low[j])
            row_gx[j] = scale[j] * kept + (p[j] * row_x[j] + q[j])


@inline
def moments_tile(x, rows, lanes, stride, parts, lane_mean, lane_spread):
    """Mean and Σ(x − mean)² of each lane, chunk by chunk."""
    middle, sum_d, sum_dd = parts
    for j in range(lanes):
        lane_mean[j], lane_spread[j] = 0, 0
    for r in range(0, rows, ROWS):
        count = min(ROWS, rows - r)
        if lanes == LANES:  # a length known to the compiler
            moments_rows(x + 4 * r * stride, count, LANES, stride, middle, sum_d, sum_dd)
        else:
            moments_rows(x + 4 * r * stride, count, lanes, stride, middle, sum_d, sum_dd)
        for j in range(lanes):
            lane_mean[j], lane_spread[j] = merged(
                r, lane_mean[j], lane_spread[j], count, middle[j], sum_d[j], sum_dd[j]
            )


@inline
def fold_moments(lane_mean, lane_spread, pixels, width, rows):
    """Merges the lanes of a channel, which have equal counts."""
    for k in range(1, pixels):
        share = 1 / (k + 1)
        for j in range(width):
            delta = lane_mean[k * width + j] - lane_mean[j]
            lane_mean[j] += delta * share
            lane_spread[j] += lane_spread[k * width + j] + delta * delta * share * k * rows


@kernel
def moments(job):
    parts, lane_mean, lane_spread = (row32(), row32(), row32()), row64(), row64()
    start, stop = next_tiles(job)
    while start < stop:
        for index in range(start, stop):
            plane, first, width, rows, lanes, stride, rest = tile(job, index)
            x, pixels = job[X] + 4 * first, lanes // width
            moments_tile(x, rows, lanes, stride, parts, lane_mean, lane_spread)
            fold_moments(lane_mean, lane_spread, pixels, width, rows)
            last = floats(x, rows * stride)
            for lane in range(rest):
                j, count = lane % width, rows * pixels + lane // width
                lane_mean[j], lane_spread[j] = merged(
                    count, lane_mean[j], lane_spread[j], 1, last[lane], 0.0, 0.0
                )
            mean, var = floats(job[MEAN], plane), floats(job[VAR], plane)
            for j in range(width):
                mean[j], var[j] = lane_mean[j], lane_spread[j] / job[SIZE]
        start, stop = next_tiles(job)


@kernel
def affine(job):
    maps = row32(), row32(), row32()
    start, stop = next_tiles(job)
    while start < stop:
        for index in range(start, stop):
            plane, first, width, rows, lanes, stride, rest = tile(job, index)
            map_lanes(job, plane, width, lanes, maps)
            x, y, done = job[X] + 4 * first, job[Y] + 4 * first, 4 * rows * stride
            if lanes == LANES:
                affine_rows(y, x, rows, LANES, stride, maps)
            else:
                affine_rows(y, x, rows, lanes, stride, maps)
            affine_rows(y + done, x + done, 1, rest, stride, maps)
        start, stop = next_tiles(job)


@kernel
def sums(job):
    maps, part = (row32(), row32(), row32()), (row32(), row32(), row32())
    whole = row64(), row64(), row64()
    start, stop = next_tiles(job)
    while start < stop:
        for index in range(start, stop):
            plane, first, width, rows, lanes, stride, rest = tile(job, index)
            map_lanes(job, plane, width, lanes, maps)
            for j in range(lanes):
                whole[0][j], whole[1][j], whole[2][j] = 0, 0, 0
            x, g, done = job[X] + 4 * first, job[G] + 4 * first, 4 * rows * stride
            for r in range(0, rows, ROWS):
                at, count = 4 * r * stride, min(ROWS, rows - r)
                if lanes == LANES:
                    sums_rows(x + at, g + at, count, LANES, stride, maps, part)
                else:
                    sums_rows(x + at, g + at, count, lanes, stride, maps, part)
                add_lanes(lanes, part, whole)
            sums_rows(x + done, g + done, 1, rest, stride, maps, part)
            add_lanes(rest, part, whole)
            fold(whole[0], width, lanes, job[SUM_G], plane)
            fold(whole[1], width, lanes, job[SUM_GX], plane)
            fold(whole[2], width, lanes, job[BELOW], plane)
        start, stop = next_tiles(job)


@kernel
def affine_of_two(job):
    maps, p, q = (row32(), row32(), row32()), row32(), row32()
    start, stop = next_tiles(job)
    while start < stop:
        for index in range(start, stop):
            plane, first, width, rows, lanes, stride, rest = tile(job, index)
            map_lanes(job, plane, width, lanes, maps)
            lanes_of(p, job[P], plane, width, lanes)
            lanes_of(q, job[Q], plane, width, lanes)
            x, g, gx = job[X] + 4 * first, job[G] + 4 * first, job[GX] + 4 * first
            done = 4 * rows * stride
            if lanes == LANES:
                affine_of_two_rows(gx, x, g, rows, LANES, stride, maps, p, q)
            else:
                affine_of_two_rows(gx, x, g, rows, lanes, stride, maps, p, q)
            affine_of_two_rows(gx + done, x + done, g + done, 1, rest, stride, maps, p, q)
        start, stop = next_tiles(job)
