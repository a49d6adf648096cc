"""The kernels for [N, C, H, W] in memory: loops over the pixels of one plane after another."""
# mypy: ignore-errors

from __future__ import annotations

from numba import types

from normbench.ops.cpu.compiled import (
    CHUNK,
    clamped,
    floats,
    inline,
    inline_sum,
    kernel,
    map_of,
    merged,
    passed,
    taken,
)

from normbench.ops.cpu.job import (  # isort: skip
    BELOW, CHANNELS, GX, IMAGES, MEAN, SIZE, SUM_G, SUM_GX, VAR, G, P, Q, X, Y,
)  # fmt: skip


@inline
def next_planes(job):
    return taken(job, job[IMAGES] * job[CHANNELS], job[SIZE])


@inline_sum
def moments_of(x, size):
    """Mean and variance; two passes over a chunk, which stays in the cache between them."""
    mean, spread = 0.0, 0.0
    for start in range(0, size, CHUNK):
        count, chunk = min(CHUNK, size - start), floats(x, start)
        sum_x, sum_d, sum_dd = types.float32(0), types.float32(0), types.float32(0)
        for i in range(count):
            sum_x += chunk[i]
        middle = sum_x / types.float32(count)
        for i in range(count):
            d = chunk[i] - middle
            sum_d += d
            sum_dd += d * d
        mean, spread = merged(start, mean, spread, count, middle, sum_d, sum_dd)
    return mean, spread / size


@inline_sum
def sums_of(x, g, size, scale, shift, low):
    all_g, all_gx, all_below = 0.0, 0.0, 0.0
    for start in range(0, size, CHUNK):
        chunk_x, chunk_g = floats(x, start), floats(g, start)
        sum_g, sum_gx, below = types.float32(0), types.float32(0), types.float32(0)
        for i in range(min(CHUNK, size - start)):
            kept = passed(chunk_x[i], chunk_g[i], scale, shift, low)
            sum_g += kept
            sum_gx += kept * chunk_x[i]
            below += chunk_g[i] - kept
        all_g += sum_g
        all_gx += sum_gx
        all_below += below
    return all_g, all_gx, all_below


@kernel
def moments(job):
    size = job[SIZE]
    mean, var = floats(job[MEAN], 0), floats(job[VAR], 0)
    start, stop = next_planes(job)
    while start < stop:
        for plane in range(start, stop):
            mean[plane], var[plane] = moments_of(job[X] + 4 * plane * size, size)
        start, stop = next_planes(job)


@kernel
def affine(job):
    size = job[SIZE]
    start, stop = next_planes(job)
    while start < stop:
        for plane in range(start, stop):
            scale, shift, low = map_of(job, plane)
            x, y = floats(job[X], plane * size), floats(job[Y], plane * size)
            for i in range(size):
                y[i] = clamped(x[i], scale, shift, low)
        start, stop = next_planes(job)


@kernel
def sums(job):
    size = job[SIZE]
    sum_g, sum_gx, below = floats(job[SUM_G], 0), floats(job[SUM_GX], 0), floats(job[BELOW], 0)
    start, stop = next_planes(job)
    while start < stop:
        for plane in range(start, stop):
            scale, shift, low = map_of(job, plane)
            at = 4 * plane * size
            sum_g[plane], sum_gx[plane], below[plane] = sums_of(
                job[X] + at, job[G] + at, size, scale, shift, low
            )
        start, stop = next_planes(job)


@kernel
def affine_of_two(job):
    size = job[SIZE]
    start, stop = next_planes(job)
    while start < stop:
        for plane in range(start, stop):
            scale, shift, low = map_of(job, plane)
            p, q = floats(job[P], plane)[0], floats(job[Q], plane)[0]
            at = plane * size
            x, g, gx = floats(job[X], at), floats(job[G], at), floats(job[GX], at)
            for i in range(size):
                gx[i] = scale * passed(x[i], g[i], scale, shift, low) + (p * x[i] + q)
        start, stop = next_planes(job)
