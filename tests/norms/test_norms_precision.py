"""Dtypes, memory formats, autocast, means far from zero, and what is kept for the backward pass."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from normbench import create_norm

from ..cases import each
from .table import ACTIVATIONS, CHANNELS, ROWS, Row, close, gradients, images, outcome, perturbed

LAYOUTS = each("layout", [torch.contiguous_format, torch.channels_last])
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}
DTYPES = each("dtype", ROUNDING)


def check_against_float64(norm: nn.Module, x: Tensor, tolerance: float) -> None:
    """Output and gradients on the same rounded input; dtype and memory format of both."""
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    exact = outcome(copy.deepcopy(norm).double(), x.double())
    actual = outcome(norm, x)
    for tensor in actual[:2]:
        assert tensor.dtype == x.dtype
        assert tensor.is_contiguous(memory_format=layout)
    close([t.double() for t in actual], exact, tolerance)


@DTYPES
@LAYOUTS
@each("row", ROWS)
def test_output_and_gradient_have_the_inputs_dtype_and_layout(
    row: Row, layout: torch.memory_format, dtype: torch.dtype
) -> None:
    norm = perturbed(row.create())
    if dtype != torch.float64:
        norm = norm.float()
    x = images(n=2, dtype=dtype).contiguous(memory_format=layout)
    check_against_float64(norm, x, ROUNDING[dtype])


@LAYOUTS
@each("activation", ACTIVATIONS)
def test_activations_keep_dtype_and_layout(activation: str, layout: torch.memory_format) -> None:
    norm = perturbed(create_norm("bn", CHANNELS, activation=activation))
    x = images(n=2, dtype=torch.bfloat16).contiguous(memory_format=layout)
    for tensor in outcome(norm, x)[:2]:
        assert tensor.dtype == torch.bfloat16
        assert tensor.is_contiguous(memory_format=layout)


@each("row", ROWS)
def test_a_module_in_bfloat16(row: Row) -> None:
    norm = perturbed(row.create(activation="auto")).bfloat16()
    y, *grads = outcome(norm, images(dtype=torch.bfloat16))
    assert all(t.dtype == torch.bfloat16 for t in (y, *grads))
    assert all(t.isfinite().all() for t in (y, *grads))


@each("row", ROWS)
def test_inputs_of_any_strides(row: Row) -> None:
    norm = perturbed(row.create(activation="auto"))
    wide = images(height=6, width=10)
    for x in (wide[:, :, ::2, 1::3], wide.transpose(2, 3), wide[:1].expand(4, -1, -1, -1)):
        one, other = copy.deepcopy(norm), copy.deepcopy(norm)
        close(outcome(one, x), outcome(other, x.clone(memory_format=torch.contiguous_format)))


@each("row", ROWS)
def test_statistics_are_float32_under_autocast(row: Row) -> None:
    conv = nn.Conv2d(3, CHANNELS, 3)
    norm = perturbed(row.create()).float()
    exact = copy.deepcopy(norm).double()
    x = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        between = conv(x) + 4
        y = norm(between)
    state = {k: v.double() for k, v in norm.state_dict().items()}
    y.float().square().sum().backward()
    assert between.dtype == y.dtype == torch.bfloat16
    assert all(t.grad.dtype == torch.float32 for t in (*conv.parameters(), *norm.parameters()))
    # nothing but the last rounding is bfloat16's
    torch.testing.assert_close(y.double(), exact(between.double()), rtol=2**-8, atol=1e-4)
    close(state, {k: v.double() for k, v in exact.state_dict().items()}, tolerance=1e-5)


def far() -> Tensor:
    """float32 whose mean is 1000 times its deviation."""
    random = torch.Generator().manual_seed(0)
    return 1000 + torch.randn(4, CHANNELS, 8, 8, generator=random)


@each("row", ROWS)
def test_a_mean_of_a_thousand_deviations(row: Row) -> None:
    norm = row.create().float()
    exact = copy.deepcopy(norm).double()
    y = exact(far().double())
    # that of a norm that subtracts no mean is itself a thousand
    assert (norm(far()).double() - y).abs().max() < 1e-3 * y.abs().max().sqrt().clamp_min(1)


def test_a_mean_of_a_thousand_deviations_fails_the_naive_variance() -> None:
    def naive(x: Tensor) -> Tensor:
        mean, second = x.mean((2, 3), keepdim=True), x.square().mean((2, 3), keepdim=True)
        return (x - mean) * (second - mean.square()).clamp_min(0).add(1e-5).rsqrt()

    assert (naive(far()).double() - naive(far().double())).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("name", "activation"), [("frn", "tlu"), ("bn", "relu"), ("gn", "none"), ("rbn", "relu")]
)
def test_of_all_tensors_of_its_size_only_the_input_is_kept(name: str, activation: str) -> None:
    options = {"groups": 2} if name == "gn" else {}
    norm = create_norm(name, CHANNELS, activation=activation, **options)
    x = images(n=8, height=8, width=9, dtype=torch.float32).requires_grad_()
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = norm(x)
    large = {t.untyped_storage().data_ptr() for t in kept if t.numel() >= x.numel()}
    assert large == {x.untyped_storage().data_ptr()}
    assert y.untyped_storage().data_ptr() not in large


def test_a_backward_pass_twice_over_one_graph() -> None:
    norm, x = perturbed(create_norm("bn", CHANNELS, activation="relu")).double(), images()
    x = x.requires_grad_()
    y = norm(x)
    first = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
    close(torch.autograd.grad(y.square().sum(), x), first, tolerance=0)


def test_a_checkpointed_norm_has_the_same_gradient() -> None:
    norm, x = create_norm("gn", CHANNELS, groups=2, activation="relu").double(), images()
    x = x.requires_grad_()
    (expected,) = gradients(norm(x), [x])
    again = torch.utils.checkpoint.checkpoint(norm, x, use_reentrant=False)
    close(gradients(again, [x]), [expected])
