"""The two passes over the pixels against plain torch autograd, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from normbench.ops import Planes

N, C, H, W = 3, 4, 3, 5
FLOORS = ["none", "relu", "threshold"]
SHAPES = {"plane": (N, C), "channel": (C,)}

Map = Callable[[Tensor, Tensor, Tensor, Any], Tensor]


def close(actual: Any, expected: Any, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def floor_of(kind: str) -> Any:
    return {"none": None, "relu": 0.0, "threshold": 0.3 * random(C, seed=5).detach()}[kind]


def plain_affine(x: Tensor, scale: Tensor, shift: Tensor, floor: Any) -> Tensor:
    y = scale[..., None, None] * x + shift[..., None, None]
    if floor is None:
        return y
    low = floor[:, None, None] if isinstance(floor, Tensor) else torch.tensor(floor).to(y)
    return torch.where(y > low, y, low)


def plain(x: Tensor, a: Tensor, b: Tensor, floor: Any) -> Tensor:
    """A map that depends on the moments of all planes, as a mix does."""
    var, mean = torch.var_mean(x, (2, 3), correction=0)
    return plain_affine(x, *mixed(mean, var, a, b), floor)


def fused(x: Tensor, a: Tensor, b: Tensor, floor: Any) -> Tensor:
    planes = Planes(x)
    return planes.affine(*mixed(*planes.moments(), a, b), floor)


def fixed(x: Tensor, a: Tensor, b: Tensor, floor: Any) -> Tensor:
    """A map that is known without moments, as in the evaluation of BN."""
    return Planes(x).affine(a, b, floor)


def mixed(mean: Tensor, var: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    scale = a / (var + 0.1 * mean.mean(0).square() + 0.2).sqrt()
    return scale, b - mean.sin() * scale + var.mean(1, keepdim=True)


def results(function: Map, x: Tensor, a: Tensor, b: Tensor, floor: Any) -> list[Tensor]:
    """Output and the gradients of all that takes one."""
    leaves = [t for t in (x, a, b, floor) if isinstance(t, Tensor) and t.requires_grad]
    y = function(x, a, b, floor)
    g = random(*y.shape, seed=9).detach()
    return [y.detach(), *torch.autograd.grad(y, leaves, g)]


@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("ours", "torchs"), [(fused, plain), (fixed, plain_affine)])
def test_value_and_gradients(ours: Map, torchs: Map, shape: str, floor: str) -> None:
    low = floor_of(floor)
    if isinstance(low, Tensor):
        low.requires_grad_()
    case = random(N, C, H, W), random(*SHAPES[shape], seed=1), random(*SHAPES[shape], seed=2), low
    close(results(ours, *case), results(torchs, *case))


@pytest.mark.parametrize("taking", ["x", "a", "b", "floor", "a b", "x floor"])
@pytest.mark.parametrize(("ours", "torchs"), [(fused, plain), (fixed, plain_affine)])
def test_gradients_of_some_inputs_only(ours: Map, torchs: Map, taking: str) -> None:
    case = {
        "x": random(N, C, H, W).detach(),
        "a": random(N, C, seed=1).detach(),
        "b": random(C, seed=2).detach(),
        "floor": floor_of("threshold"),
    }
    for name in taking.split():
        case[name].requires_grad_()
    close(results(ours, *case.values()), results(torchs, *case.values()))


def test_moments() -> None:
    x = random(N, C, H, W)
    mean, var = Planes(x).moments()
    close(mean, x.mean((2, 3)))
    close(var, (x - x.mean((2, 3), keepdim=True)).square().mean((2, 3)))


@pytest.mark.parametrize("weigh", [(1, 0), (0, 1), (1, 1)], ids=["mean", "var", "both"])
def test_moments_beside_the_map_add_their_gradient(weigh: tuple[int, int]) -> None:
    """A penalty on the statistics themselves."""

    def penalty(mean: Tensor, var: Tensor) -> Tensor:
        return weigh[0] * mean.square().sum() + weigh[1] * var.log().sum()

    x, a, b = random(N, C, H, W), random(C, seed=1), random(C, seed=2)
    planes = Planes(x)
    mean, var = planes.moments()
    y = planes.affine(*mixed(mean, var, a, b), 0.0)
    ours = torch.autograd.grad(y.square().sum() + penalty(mean, var), [x, a, b])
    var, mean = torch.var_mean(x, (2, 3), correction=0)
    y = plain(x, a, b, 0.0)
    close(ours, torch.autograd.grad(y.square().sum() + penalty(mean, var), [x, a, b]))


@pytest.mark.parametrize("floor", [0.0, torch.zeros(C, dtype=torch.float64)], ids=["relu", "tlu"])
@pytest.mark.parametrize("moments", [True, False])
def test_at_a_tie_the_gradient_goes_to_the_floor(floor: Any, moments: bool) -> None:
    x = torch.zeros(N, C, H, W, dtype=torch.float64, requires_grad=True)
    one, zero = torch.ones(C, dtype=torch.float64), torch.zeros(C, dtype=torch.float64)
    if isinstance(floor, Tensor):
        floor = floor.clone().requires_grad_()
    planes = Planes(x)
    if moments:
        planes.moments()
    planes.affine(one, zero, floor).sum().backward()
    assert (x.grad == 0).all()
    if isinstance(floor, Tensor):
        assert (floor.grad == N * H * W).all()


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, :, ::2, 1::2],
        lambda x: x.transpose(0, 1),
        lambda x: x.transpose(2, 3),
        lambda x: x[:1].expand(3, -1, -1, -1),
        lambda x: x.contiguous(memory_format=torch.channels_last),
    ],
    ids=["steps", "images-channels", "height-width", "expanded", "channels_last"],
)
@pytest.mark.parametrize("floor", FLOORS)
def test_any_strides(view: Callable[[Tensor], Tensor], floor: str) -> None:
    x = random(4, 4, 6, 8)

    def of(function: Map) -> Map:
        return lambda x, a, b, low: function(view(x), a, b, low)

    case = x, random(4, seed=1), random(4, seed=2), floor_of(floor)
    close(results(of(fused), *case), results(of(plain), *case))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_numbers_of_planes_are_float32_at_least(dtype: torch.dtype) -> None:
    x = (random(N, C, H, W) + 3).to(dtype).detach().requires_grad_()
    planes = Planes(x)
    mean, var = planes.moments()
    assert mean.dtype == var.dtype == torch.float32
    close(mean.double(), x.double().mean((2, 3)), 1e-6)
    y = planes.affine(torch.rsqrt(var), -mean * torch.rsqrt(var), 0.0)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("function", [fused, fixed])
def test_results_of_its_size_have_its_layout(
    function: Map, floor: str, layout: torch.memory_format
) -> None:
    """Also where the gradient comes in the other layout."""
    x = random(N, C, H, W).detach().contiguous(memory_format=layout).requires_grad_()
    y = function(x, random(C, seed=1), random(C, seed=2), floor_of(floor))
    for incoming in (torch.contiguous_format, torch.channels_last):
        g = torch.ones(y.shape, dtype=y.dtype).contiguous(memory_format=incoming)
        (gx,) = torch.autograd.grad(y, x, g, retain_graph=True)
        assert y.is_contiguous(memory_format=layout)
        assert gx.is_contiguous(memory_format=layout)


def test_a_gradient_of_stride_zero() -> None:
    """As that of a sum is."""
    x, a, b = random(N, C, H, W), random(C, seed=1), random(C, seed=2)
    gradients = [torch.autograd.grad(f(x, a, b, 0.0).sum(), [x, a, b]) for f in (fused, plain)]
    close(gradients[0], gradients[1])


def test_a_second_derivative() -> None:
    inputs = random(N, C, H, W), random(C, seed=1), random(C, seed=2)
    found = []
    for function in (fused, plain):
        (gx,) = torch.autograd.grad(
            function(*inputs, 0.0).square().sum(), inputs[0], create_graph=True
        )
        found.append(torch.autograd.grad(gx.square().sum(), inputs))
    close(found[0], found[1])


def test_x_is_not_modified() -> None:
    x = random(N, C, H, W)
    version = x._version
    fused(x, random(C, seed=1), random(C, seed=2), 0.0).sum().backward()
    assert x._version == version
    assert torch.equal(x, random(N, C, H, W))
