"""What is recorded and played against the same function by eager in float64, and when it steps aside."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.utils.checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from normbench import ops
from normbench.errors import UserError
from normbench.ops import played

pytest.importorskip("numba")
N, C, H, W = 4, 6, 3, 5

UNARY = {
    "negative": lambda v, m: -v,
    "square": lambda v, m: v.square(),
    "cube": lambda v, m: (v / (1 + v.square())) ** 3,
    "one minus": lambda v, m: 1 - v,
    "half": lambda v, m: v / 2 + 0.25,
    "sigmoid": lambda v, m: v.sigmoid(),
    "absolute": lambda v, m: v.abs(),
    "root": lambda v, m: (v.square() + 1).sqrt(),
    "one over root": lambda v, m: (v.square() + 1).rsqrt(),
    "inverse": lambda v, m: 1 / (v.square() + 1),
    "clamped": lambda v, m: v.clamp(-0.5, 0.75),
    "at least": lambda v, m: v.clamp_min(0.125),
    "over images": lambda v, m: v.expand(N, C).mean(0, keepdim=True),
    "over channels": lambda v, m: v.expand(N, C).mean(1, keepdim=True),
    "over groups": lambda v, m: groups(v.expand(N, C)),
    "over blocks": lambda v, m: blocks(v.expand(N, C)),
    "every other": lambda v, m: v.expand(N, C)[::2].mean(0),
    "share": lambda v, m: sum(w * v**k for k, w in enumerate(m.logits.softmax(0).unbind(), 1)),
    "weighted": lambda v, m: m.first * v + m.second,
    "buffer": lambda v, m: v - m.running,
    "constant": lambda v, m: v * torch.ones_like(v) + torch.zeros_like(v),
    "detached": lambda v, m: v * v.detach(),
}  # fmt: skip
BINARY = {
    "sum": lambda a, b: a + b,
    "difference": lambda a, b: a - b,
    "product": lambda a, b: a * b,
    "quotient": lambda a, b: a / (b.square() + 1),
    "stacked": lambda a, b: both(a, *torch.stack([a.mean(), b.mean()]).softmax(0).unbind()),
}


def both(a: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return first * a + second * a.square()


def groups(v: Tensor) -> Tensor:
    return v.reshape(N, 2, 3).sum(2, keepdim=True).expand(N, 2, 3).reshape(N, C)


def blocks(v: Tensor) -> Tensor:
    pooled = v.reshape(2, 2, 3, 2).mean((1, 3), keepdim=True)
    return pooled.expand(2, 2, 3, 2).reshape(N, C)


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        made = torch.Generator().manual_seed(3)
        self.first = nn.Parameter(torch.randn(C, generator=made))
        self.second = nn.Parameter(torch.randn(C, generator=made))
        self.logits = nn.Parameter(torch.randn(3, generator=made))
        self.tau = nn.Parameter(torch.randn(C, generator=made) / 4)
        self.register_buffer("running", torch.randn(C, generator=made))
        self.register_buffer("steps", torch.tensor(0))


def outcome(
    module: Module, between, floor, backend: str, dtype: torch.dtype
) -> list[Tensor | None]:
    """Output, gradients, buffers."""
    module = copy.deepcopy(module).to(dtype)
    made = torch.Generator().manual_seed(4)
    x, g = (torch.randn(N, C, H, W, generator=made).to(dtype) for _ in range(2))
    x.requires_grad_()
    with ops.use(backend):
        low = module.tau if floor == "tau" else floor
        y = ops.mapped(module, lambda moments: between(module, moments), x, low, pure="batch")
    grads = torch.autograd.grad(y, [x, *module.parameters()], g, allow_unused=True)
    return [y.detach(), *grads, *module.buffers()]


def agree(between, floor=None) -> None:
    module = Module()
    ours = outcome(module, between, floor, "cpu", torch.float32)
    exact = outcome(module, between, floor, "eager", torch.float64)
    for a, b in zip(ours, exact, strict=True):
        if b is None:
            assert a is None or not a.any()
        else:
            torch.testing.assert_close(a.double(), b.double(), rtol=2e-4, atol=2e-4)


@pytest.fixture(autouse=True)
def none_recorded(monkeypatch):
    """Functions made here have no state that a key could tell apart."""
    monkeypatch.setattr(played, "_programs", {})


def recorded() -> bool:
    (program,) = played._programs.values()
    return program is not None


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.sampled_from([*UNARY, *BINARY]), st.integers(0, 9), st.integers(0, 9)),
             max_size=8),
    st.sampled_from([None, 0.0, "tau"]),
)  # fmt: skip
def test_any_such_function_agrees_with_eager(steps, floor):
    def between(module, moments):
        mean, var = moments()
        values = [mean, (var + 1e-5).rsqrt()]
        for name, i, j in steps:
            a, b = values[i % len(values)], values[j % len(values)]
            value = UNARY[name](a, module) if name in UNARY else BINARY[name](a, b)
            values.append(value / (1 + value.square()))  # stays of order one
        return values[-1] + values[0], values[-2].expand(N, C)

    played._programs.clear()
    agree(between, floor)


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_each_operation_is_recorded(name):
    def between(module, moments):
        mean, var = moments()
        value = UNARY[name](mean, module) if name in UNARY else BINARY[name](mean, var)
        return value + var, mean * 1.0

    agree(between)
    assert recorded() == (name != "every other")


def test_a_map_without_moments():
    agree(lambda m, moments: (m.first, m.second), "tau")
    assert recorded()


def test_buffers_change_once_a_call_and_not_by_recording():
    def between(module, moments):
        mean, var = moments()
        with torch.no_grad():
            module.running.lerp_(mean.mean(0), 0.25)
            module.steps += 1
            late = 1 / module.steps
        return (var + 1).rsqrt() * late, -mean

    agree(between)
    assert recorded()


@pytest.mark.parametrize(
    "odd",
    [
        lambda m, mean: mean * (1 if mean.sum() > 1e9 else 2),  # control flow by the data
        lambda m, mean: mean.cumsum(0),  # an operation without a row
        lambda m, mean: mean * torch.randn(C),
        lambda m, mean: (mean.double() * 2).float(),
        lambda m, mean: mean + torch.arange(C),
        lambda m, mean: mean.sin_() if not mean.requires_grad else mean.sin(),
    ],
)
def test_what_cannot_be_recorded_runs_as_it_is(odd):
    def between(module, moments):
        mean, var = moments()
        return odd(module, mean) + var, mean * 1.0

    module = Module()
    torch.manual_seed(0)
    ours = outcome(module, between, None, "cpu", torch.float32)
    torch.manual_seed(0)
    eager = outcome(module, between, None, "eager", torch.float32)
    assert not recorded()
    torch.testing.assert_close(ours, eager, rtol=1e-4, atol=1e-4)


def test_a_mistake_comes_through_each_time():
    def between(moments):
        moments()
        raise UserError("no")

    for _ in range(2):
        with pytest.raises(UserError, match="no"):
            ops.mapped(Module(), between, torch.randn(N, C, H, W), None, pure="batch")


def test_recording_leaves_the_module_alone():
    """Also where it fails, and hooks on parameters see nothing of it."""
    module = Module()
    tensors = {**module._parameters, **module._buffers}
    before = {name: (t.clone(), t._version) for name, t in tensors.items()}
    seen = []
    module.first.register_hook(seen.append)
    for odd in (lambda v: v, lambda v: v.cumsum(0)):

        def between(moments, odd=odd):
            module.running.add_(moments()[0].mean(0).detach())
            return odd(module.first * moments()[0]), module.second * moments()[1]

        program_of(module, between)
    assert not seen
    for name, t in {**module._parameters, **module._buffers}.items():
        assert t is tensors[name]
        assert torch.equal(t, before[name][0])
        assert t._version == before[name][1]


def program_of(module, between):
    return played.recorded(module, between, torch.randn(N, C, H, W), None)


def linear(module, moments):
    mean, var = moments()
    return module.first * (var + 1).rsqrt(), module.second * mean


def played_and_eager(module, between=linear, floor=None, x=None):
    """Output and gradients, both ways."""
    x = torch.randn(N, C, H, W, generator=torch.Generator().manual_seed(5)) if x is None else x
    x.requires_grad_()
    for backend in ("cpu", "eager"):
        with ops.use(backend):
            y = ops.mapped(module, lambda moments: between(module, moments), x, floor, pure="batch")
            grads = torch.autograd.grad(
                y.square().sum(), [x, *module.parameters()], allow_unused=True
            )
            yield [y.detach(), *(torch.zeros(()) if g is None else g for g in grads)]


def same(module, *more):
    ours, eager = played_and_eager(module, *more)
    for a, b in zip(ours, eager, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_parameters_of_every_kind_after_one_another():
    """None of which may be played by the record of another, where that would be wrong."""
    strided, expanded, tied, hooked, part = (Module() for _ in range(5))
    strided.first = nn.Parameter(torch.arange(2.0 * C)[::2])
    expanded.first = nn.Parameter(torch.ones(1).expand(C), requires_grad=True)
    tied.second = tied.first
    hooked.first.register_hook(lambda g: g * 2)
    part.first = nn.Parameter(torch.arange(3.0 * C)[C : 2 * C])
    for module in (strided, Module(), expanded, Module(), tied, Module(), hooked, Module(), part):
        same(module)


def test_a_floor_that_also_shapes_the_map():
    module = Module()

    def between(module, moments):
        mean, var = moments()
        return module.tau * mean, var * 1.0

    same(module, between, module.tau)
    assert recorded()


def test_a_floor_that_is_computed():
    module = Module()

    x = torch.randn(N, C, H, W)
    for backend in ("cpu", "eager"):
        with ops.use(backend):
            y = ops.mapped(
                module, lambda moments: linear(module, moments), x, module.tau.abs(), pure=True
            )
            (grad,) = torch.autograd.grad(y.sum(), [module.tau])
            assert grad.abs().sum() > 0


def test_outputs_that_are_views_of_one_storage_or_of_a_parameter():
    def stacked(module, moments):
        mean, var = moments()
        return torch.stack([mean, var + 1]).unbind()

    same(Module(), stacked)
    assert recorded()
    played._programs.clear()
    one = torch.randn(1, C, H, W)
    same(Module(), lambda m, moments: (torch.ones_like(m.first), m.second), None, one)
    assert recorded()


def test_truth_values_and_counters_of_several_numbers_are_not_recorded():
    module = Module()
    module.register_buffer("mask", torch.tensor([True, False] * (C // 2)))
    module.register_buffer("counts", torch.zeros(C, dtype=torch.int64))
    for read in (lambda m: m.mask, lambda m: m.counts, lambda m: m.mask + m.mask):
        played._programs.clear()
        same(module, lambda m, moments, read=read: (moments()[0] * read(m), m.second))
        assert not recorded()


def test_softmax_of_what_is_not_a_row_of_memory():
    module = Module()
    module.register_buffer("table", torch.randn(3, 2))
    for weights in (
        lambda m: m.table[:, 0].softmax(0),
        lambda m: m.logits.softmax(0).sum().expand(3),
    ):
        played._programs.clear()
        same(module, lambda m, moments, w=weights: (moments()[0] * sum(w(m).unbind()), m.second))


def test_names_and_kinds_of_attributes_count():
    module, other = Module(), Module()
    module.a, other.b = 2.0, 2.0

    def between(module, moments):
        return moments()[0] * (3.0 if hasattr(module, "a") else 1.0), module.second

    same(module, between)
    same(other, between)
    assert len(played._programs) == 2
    module.list_inside = ([1],)
    same(module, between)


def test_lerp_is_exact_at_both_ends():
    for weight in (0.0, 0.25, 0.5, 1.0):
        far = torch.nn.Module()
        far.register_buffer("running", torch.full((C,), 1e6))

        def between(moments, far=far, weight=weight):
            mean, var = moments()
            with torch.no_grad():
                far.running.lerp_(mean.mean(0) * 1e-4, weight)
            return var * 1.0, mean * 1.0

        played._programs.clear()
        ops.mapped(far, between, x := torch.randn(N, C, H, W), None, pure="batch")
        expected = torch.full((C,), 1e6).lerp_(x.mean((0, 2, 3)) * 1e-4, weight)
        torch.testing.assert_close(far.running, expected, rtol=1e-6, atol=1e-9)


def test_a_changed_buffer_is_known_to_autograd():
    module = Module()
    version = module.running._version

    def between(moments):
        with torch.no_grad():
            module.running.lerp_(moments()[0].mean(0), 0.5)
        return moments()

    ops.mapped(module, between, torch.randn(N, C, H, W), None, pure="batch")
    assert recorded()
    assert module.running._version > version


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:FutureWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("way", ["trace", "fake", "checkpoint"])
def test_under_tools_of_torch(way):
    module = Module()
    x = torch.randn(N, C, H, W, requires_grad=True)

    def run(x):
        return ops.mapped(module, lambda moments: linear(module, moments), x, 0.0, pure="batch")

    y = run(x)
    if way == "trace":
        module.requires_grad_(False)
        torch.testing.assert_close(torch.jit.trace(run, (x,), check_trace=False)(x), y)
    elif way == "fake":
        with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
            assert run(mode.from_tensor(x)).shape == y.shape
    else:
        played._programs.clear()
        again = torch.utils.checkpoint.checkpoint(run, x, use_reentrant=False)
        torch.testing.assert_close(
            torch.autograd.grad(again.sum(), x), torch.autograd.grad(y.sum(), x)
        )


def test_random_numbers_are_not_touched():
    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    module = Module()
    ops.mapped(module, lambda moments: moments(), torch.ones(N, C, H, W), None, pure="batch")
    assert recorded() and torch.equal(torch.randn(3), expected)


def test_a_weight_changed_between_the_passes_is_an_error_as_in_torch():
    module = Module()

    def between(moments):
        mean, var = moments()
        return module.first * mean, module.second * var

    x = torch.randn(N, C, H, W, requires_grad=True)
    y = ops.mapped(module, between, x, None, pure="batch")
    assert recorded()
    with torch.no_grad():
        module.first.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_two_passes_before_either_backward():
    module = Module()

    def between(moments):
        mean, var = moments()
        return module.first * (var + 1).rsqrt(), -mean

    xs = [torch.randn(N, C, H, W, requires_grad=True) for _ in range(2)]

    def grads(backend):
        with ops.use(backend):
            ys = [ops.mapped(module, between, x, 0.0, pure="batch") for x in xs]
            return [
                torch.autograd.grad(y.square().sum(), [x, module.first])
                for x, y in zip(xs, ys, strict=True)
            ]

    torch.testing.assert_close(grads("cpu"), grads("eager"), rtol=1e-4, atol=1e-4)
    assert recorded()


def test_a_frozen_module_and_a_parameter_of_another_dtype():
    module, x = Module(), torch.randn(N, C, H, W)

    def between(moments):
        mean, var = moments()
        return module.first.float() * (var + 1).rsqrt(), -mean

    before = ops.mapped(module, between, x, None, pure="batch")
    module.requires_grad_(False)
    torch.testing.assert_close(ops.mapped(module, between, x, None, pure="batch"), before.detach())
    module.double()
    torch.testing.assert_close(ops.mapped(module, between, x, None, pure="batch"), before.detach())
    assert [p is not None for p in played._programs.values()] == [True, True, False]
