"""The algebra of plane norms: what pool, standardize, then, push and blend promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from normbench.errors import UserError
from normbench.norms import Affine, Moments, blend, divide_by_rms, mixture, pool, standardize

from ..cases import each
from .table import close

quick = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def random_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def planes(draw: st.DrawFn) -> Tensor:
    """[N, C, H, W] of float64, means and deviations anywhere between 1e-2 and 1e2."""
    shape = [draw(st.integers(1, 4)) for _ in range(4)]
    scale, shift = 10.0 ** draw(st.integers(-2, 2)), 10.0 ** draw(st.integers(-2, 2))
    random = random_of(draw(st.integers(0, 99)))
    means = shift * torch.randn(shape[:2], generator=random, dtype=torch.float64)
    x = scale * torch.randn(shape, generator=random, dtype=torch.float64)
    return x + means[..., None, None]


@st.composite
def affine_for(draw: st.DrawFn, x: Tensor) -> Affine:
    random = random_of(draw(st.integers(100, 199)))
    scale, shift = torch.randn((2, *x.shape[:2]), generator=random, dtype=torch.float64)
    return Affine(scale, shift)


@st.composite
def planes_and(draw: st.DrawFn, maps: int) -> tuple[Any, ...]:
    x = draw(planes())
    return (x, *(draw(affine_for(x)) for _ in range(maps)))


def moments_of(x: Tensor) -> Moments:
    var, mean = torch.var_mean(x, (2, 3), correction=0)
    return Moments(mean, var, x[0, 0].numel())


def applied(affine: Affine, x: Tensor) -> Tensor:
    return affine.scale[..., None, None] * x + affine.shift[..., None, None]


@quick
@given(planes(), st.data())
def test_pooled_moments_are_those_of_the_block(x: Tensor, data: st.DataObject) -> None:
    n, c, h, w = x.shape
    images = data.draw(st.sampled_from([d for d in range(1, n + 1) if n % d == 0]))
    channels = data.draw(st.sampled_from([d for d in range(1, c + 1) if c % d == 0]))
    pooled = pool(moments_of(x), images=images, channels=channels)
    blocks = x.view(n // images, images, c // channels, channels, h, w)
    var, mean = torch.var_mean(blocks, (1, 3, 4, 5), correction=0)
    assert pooled.count == images * channels * h * w
    for actual, expected in ((pooled.mean, mean), (pooled.var, var)):
        assert actual.shape == (n, c)
        wide = expected.repeat_interleave(images, 0).repeat_interleave(channels, 1)
        close(actual, wide)


@quick
@given(planes())
def test_pool_of_one_plane_is_nothing_and_none_is_all(x: Tensor) -> None:
    moments = moments_of(x)
    close(pool(moments), moments)
    close(
        pool(moments, images=None, channels=None),
        pool(moments, images=x.shape[0], channels=x.shape[1]),
    )


@quick
@given(planes())
def test_pooling_in_two_steps_is_pooling_once(x: Tensor) -> None:
    twice = pool(pool(moments_of(x), channels=None), images=None)
    close(twice, pool(moments_of(x), images=None, channels=None))


@quick
@given(planes_and(1))
def test_push_is_exact(case: tuple[Tensor, Affine]) -> None:
    x, affine = case
    close(affine.push(moments_of(x)), moments_of(applied(affine, x)))


@quick
@given(planes_and(2))
def test_then_composes(case: tuple[Tensor, Affine, Affine]) -> None:
    x, inner, outer = case
    close(applied(inner.then(outer), x), applied(outer, applied(inner, x)))
    close(inner.then(outer).push(moments_of(x)), outer.push(inner.push(moments_of(x))))


@quick
@given(planes_and(3))
def test_then_is_associative_and_has_a_neutral_map(case: tuple[Any, ...]) -> None:
    _, a, b, c = case
    close(a.then(b).then(c), a.then(b.then(c)))
    neutral = Affine(torch.ones_like(a.scale), torch.zeros_like(a.shift))
    close(a.then(neutral), a)
    close(neutral.then(a), a)


@quick
@given(planes(), st.sampled_from([1e-5, 1e-3, 1.0]))
def test_standardize_gives_mean_zero_and_variance_one(x: Tensor, eps: float) -> None:
    moments = moments_of(x)
    if moments.count == 1:
        with pytest.raises(UserError, match="single number"):
            standardize(moments, eps)
        return
    mean, var, _ = standardize(moments, eps).push(moments)
    close(mean, torch.zeros_like(mean))
    close(var, moments.var / (moments.var + eps))


@quick
@given(planes(), st.sampled_from([1e-6, 1e-3, 1.0]))
def test_divide_by_rms_gives_a_mean_square_of_one(x: Tensor, eps: float) -> None:
    affine = divide_by_rms(moments_of(x), eps)
    square = x.square().mean((2, 3))
    close(applied(affine, x).square().mean((2, 3)), square / (square + eps))
    assert (affine.shift == 0).all()


@quick
@given(planes_and(3), st.floats(0, 1))
def test_blend_mixes_outputs(case: tuple[Tensor, Affine, Affine, Affine], gate: float) -> None:
    x, first, second, outer = case
    g = torch.full((x.shape[1],), gate, dtype=torch.float64)
    both = blend(g, first, second)
    close(applied(both, x), gate * applied(first, x) + (1 - gate) * applied(second, x))
    close(both.then(outer), blend(g, first.then(outer), second.then(outer)))
    close(blend(torch.ones_like(g), first, second), first)
    close(blend(torch.zeros_like(g), first, second), second)


@quick
@given(planes())
def test_mixture_of_one_hot_weights_takes_means_and_variances_from_different_parts(
    x: Tensor,
) -> None:
    parts = [moments_of(x), pool(moments_of(x), channels=None)]
    first, second = torch.eye(2, dtype=torch.float64)
    mixed = mixture((first, second), parts)
    close((mixed.mean, mixed.var), (parts[0].mean, parts[1].var))
    assert mixed.count == parts[1].count


@each("block", [{"images": 4}, {"channels": 5}])
def test_a_block_that_does_not_divide_lists_those_that_do(block: dict[str, int]) -> None:
    moments = Moments(torch.zeros(6, 6), torch.ones(6, 6), 9)
    with pytest.raises(UserError, match="1, 2, 3, 6"):
        pool(moments, **block)
