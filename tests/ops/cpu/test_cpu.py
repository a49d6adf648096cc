"""The compiled kernels against the reference in float64 on the same numbers, and when they step aside."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from normbench import ops
from normbench.errors import UserError
from normbench.ops import Planes, cpu, reference

pytest.importorskip("numba")
FIRST, LAST = torch.contiguous_format, torch.channels_last
SHAPES = [
    (2, 16, 1, 1), (1, 1, 1, 1), (1, 3, 2, 2), (3, 17, 5, 7), (1, 64, 8, 8), (2, 65, 4, 3), (1, 130, 3, 3),
    (2, 16, 32, 32), (1, 1, 112, 112), (1, 3, 112, 112), (2, 48, 9, 1), (1, 64, 112, 112),
]  # fmt: skip


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def draw(
    shape: tuple[int, ...], form: torch.memory_format = FIRST, seed: int = 0, offset: float = 0
) -> tuple[Any, ...]:
    """x, g in a memory format and scale, shift, p, q [N, C], bound [C]."""
    made = torch.Generator().manual_seed(seed)
    x, g = (torch.randn(shape, generator=made).to(memory_format=form) for _ in range(2))
    small = [torch.randn(shape[:2], generator=made) for _ in range(4)]
    return x.add_(offset), g, *small, torch.randn(shape[1], generator=made) / 4


def wide(value):
    return value.double() if isinstance(value, Tensor) else value


def all_four(module: Any, *arguments: Any) -> Iterator[Tensor]:
    """The results of the four functions, affine_of_two also without p and q."""
    x, g, scale, shift, p, q, bound = arguments
    yield from module.moments(x)
    yield module.affine(x, scale, shift, bound)
    yield from (r for r in module.sums(x, g, scale, shift, bound) if r is not None)
    yield module.affine_of_two(x, g, scale, shift, bound, (p, q))
    yield module.affine_of_two(x, g, scale, shift, bound, None)


def agree(*arguments: Any) -> None:
    """Every result within rounding of float64, in float32 and with the strides of x."""
    x, _, scale, *_ = arguments
    scale_of_sums = 1 + x[0, 0].numel() * 1e-2
    ours = list(all_four(cpu, *arguments))
    exact = list(all_four(reference, *map(wide, arguments)))
    for a, b in zip(ours, exact, strict=True):
        assert (a.dtype, a.shape) == (torch.float32, b.shape)
        assert a.stride() == (x.stride() if a.dim() == 4 else scale.contiguous().stride())
        torch.testing.assert_close(a.double(), b, rtol=2e-5, atol=1e-5 * scale_of_sums)


@pytest.mark.parametrize("form", [FIRST, LAST], ids=["first", "last"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_kernel_agrees_with_the_reference_in_float64(shape, form):
    *arguments, bound = draw(shape, form)
    assert cpu.serves(arguments[0])
    for low in (None, 0.0, bound):
        agree(*arguments, low)


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 140), st.integers(1, 11), st.integers(1, 11)),
    form=st.sampled_from([FIRST, LAST]),
    low=st.sampled_from([None, 0.0, -0.5, "learned"]),
    seed=st.integers(0, 99),
)
def test_every_kernel_agrees_at_any_shape(shape, form, low, seed):
    *arguments, bound = draw(shape, form, seed)
    agree(*arguments, bound if low == "learned" else low)


@pytest.mark.parametrize("form", [FIRST, LAST], ids=["first", "last"])
@pytest.mark.parametrize("shape", [(2, 16, 32, 32), (1, 64, 112, 112), (2, 3, 5, 5)], ids=str)
def test_an_offset_of_1000_costs_less_than_a_thousandth(shape, form):
    x, *_ = draw(shape, form, offset=1e3)
    mean, var = cpu.moments(x)
    scale = var.rsqrt()
    y = cpu.affine(x, scale, -mean * scale, None)
    exact_mean, exact_var = reference.moments(x.double())
    exact = reference.affine(x.double(), exact_var.rsqrt(), -exact_mean * exact_var.rsqrt(), None)
    torch.testing.assert_close(y.double(), exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize("form", [FIRST, LAST], ids=["first", "last"])
def test_a_pixel_far_from_the_others_does_not_spoil_the_variance(form):
    x, *_ = draw((1, 4, 40, 40), form, offset=1e3)
    x[:, :, 0, 0] = 0  # what a variance shifted by the first pixel would not survive
    _, var = cpu.moments(x)
    torch.testing.assert_close(var.double(), reference.moments(x.double())[1], rtol=1e-6, atol=0)


@pytest.mark.parametrize("form", [FIRST, LAST], ids=["first", "last"])
def test_forward_and_backward_agree_on_which_pixels_are_below_the_floor(form):
    """Also where scale·x + shift rounds to the bound itself, and a fused product would not."""
    x, _, scale, *_ = draw((4, 16, 20, 20), form)
    shift = -(scale * x[:, :, 3, 5])  # the map gives 0 at one pixel exactly, if it rounds twice
    one = torch.ones_like(x)
    above = cpu.affine(x, scale, shift, 0.0) > 0
    kept = cpu.affine_of_two(x, one, scale, shift, 0.0, None)
    sums: Any = cpu.sums(x, one, scale, shift, 0.0)
    assert not above[:, :, 3, 5].any()
    assert torch.equal(kept != 0, above)
    assert torch.equal(sums[0], above.sum((2, 3)).float())
    assert torch.equal(sums[2], (~above).sum((2, 3)).float())


def gradients(backend: str, x: Tensor, weight: Tensor, tau: Tensor, form: torch.memory_format):
    leaves = [t.detach().clone().requires_grad_() for t in (x, weight, tau)]
    with ops.use(backend):
        planes = Planes(leaves[0])
        mean, var = planes.moments()
        scale = (var + mean.square() + 1e-6).rsqrt() * leaves[1]
        y = planes.affine(scale, mean * 0.1, leaves[2])
        g = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
        y.backward(g.to(memory_format=form))
    return y, *(leaf.grad for leaf in leaves)


@pytest.mark.parametrize("of_gradient", [FIRST, LAST], ids=["g-first", "g-last"])
@pytest.mark.parametrize("form", [FIRST, LAST], ids=["first", "last"])
def test_gradients_through_planes(form, of_gradient):
    x, _, scale, *_, tau = draw((3, 20, 9, 7), form)
    ours = gradients("cpu", x, scale[0], tau, of_gradient)
    exact = gradients("eager", x.double(), scale[0].double(), tau.double(), of_gradient)
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=2e-5)
    assert ours[1].stride() == x.stride()


def test_a_gradient_of_equal_numbers_without_memory_of_their_own():
    x, *_ = draw((2, 8, 6, 6))
    x.requires_grad_()
    planes = Planes(x)
    mean, var = planes.moments()
    planes.affine(var.rsqrt(), -mean * var.rsqrt(), 0.0).mean().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("form", [FIRST, LAST], ids=["first", "last"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_divergence_stays_visible(form, bad):
    *arguments, bound = draw((2, 16, 9, 9), form)
    arguments[0][1, 5, 4, 4] = bad
    for low in (None, 0.0, bound):
        _, var, y, *_ = all_four(cpu, *arguments, low)
        _, expected_var, expected, *_ = all_four(reference, *arguments, low)
        assert torch.equal(var.isnan(), expected_var.isnan())
        torch.testing.assert_close(y, expected, equal_nan=True)
        x, g, scale, shift, *_ = arguments
        sum_gx = cpu.sums(x, g, scale, shift, low)[1]
        assert not sum_gx[1, 5].isfinite() or bad == float("inf")


@pytest.mark.parametrize("form", [FIRST, LAST], ids=["first", "last"])
def test_a_floor_that_is_nan_is_seen_in_the_output(form):
    x, _, scale, shift, _, _, bound = draw((2, 16, 9, 9), form)
    bound[3] = float("nan")
    y = cpu.affine(x, scale, shift, bound)
    assert y[:, 3].isnan().all()
    assert y[:, :3].isfinite().all()


@pytest.mark.parametrize("form", [FIRST, LAST], ids=["first", "last"])
@pytest.mark.parametrize("shape", [(8, 64, 16, 16), (6, 3, 120, 120), (40, 17, 13, 13)], ids=str)
def test_the_same_bits_twice_on_any_number_of_threads_and_in_any_batch(shape, form):
    arguments = draw(shape, form)
    once = list(all_four(cpu, *arguments))
    for threads in (2, 1, 3):
        torch.set_num_threads(threads)
        for a, b in zip(once, all_four(cpu, *arguments), strict=True):
            assert torch.equal(a, b)
    *mapped, bound = arguments
    alone = all_four(
        cpu, *(t[:1].clone(memory_format=torch.preserve_format) for t in mapped), bound
    )
    for a, b in zip(once, alone, strict=True):
        assert torch.equal(a[:1], b)


def test_every_thread_of_a_program_may_call_the_kernels():
    from concurrent.futures import ThreadPoolExecutor

    arguments = draw((16, 32, 16, 16))
    expected = list(all_four(cpu, *arguments))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: list(all_four(cpu, *arguments)), range(20)):
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_x_and_g_are_not_modified():
    arguments = draw((2, 20, 8, 8), LAST)
    before = [t.clone() for t in arguments]
    list(all_four(cpu, *arguments))
    assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True))


def test_the_defaults_of_torch_for_new_tensors_do_not_matter():
    arguments = draw((2, 20, 8, 8))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            agree(*arguments)
    finally:
        torch.set_default_dtype(torch.float32)


def test_numbers_per_channel_without_memory_of_their_own():
    x, g, scale, shift, p, q, bound = draw((4, 6, 5, 5))
    agree(x, g, *(t[0].expand(4, 6) for t in (scale, shift, p, q)), bound.bfloat16())


class Tagged(Tensor):
    pass


STEPS_ASIDE = {
    "bfloat16": lambda x: x.bfloat16(),
    "float64": lambda x: x.double(),
    "sliced": lambda x: x[:, :, 1:-1, 1:-1],
    "turned": lambda x: x.transpose(2, 3),
    "expanded": lambda x: x[:, :1].expand(-1, 4, -1, -1),
    "empty": lambda x: x[:0],
    "subclass": lambda x: x.as_subclass(Tagged),
    "meta": lambda x: x.to("meta"),
}


@pytest.mark.filterwarnings("ignore:var_mean")  # of no numbers at all
@pytest.mark.parametrize("kind", STEPS_ASIDE)
def test_what_the_kernels_cannot_do_is_left_to_the_reference(kind):
    x, g, scale, shift, p, q, bound = draw((2, 4, 6, 5))
    x = STEPS_ASIDE[kind](x)
    assert not cpu.serves(x)
    small = [t[: len(x)].to(x.device) for t in (scale, shift, p, q)]
    arguments = x, STEPS_ASIDE[kind](g), *small, bound.to(x.device)
    for a, b in zip(all_four(cpu, *arguments), all_four(reference, *arguments), strict=True):
        assert (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride())
        assert kind == "meta" or torch.equal(a, b)


def test_fake_tensors_and_the_compiler_see_the_reference():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x = torch.randn(2, 3, 4, 4)
        assert not cpu.serves(x)
        assert Planes(x).moments()[0].shape == (2, 3)


def test_the_reference_where_numba_cannot_be_imported(monkeypatch):
    arguments = draw((2, 16, 9, 9))
    expected = list(all_four(reference, *arguments))
    plain = builtins.__import__

    def without_numba(name, *rest):
        if name.split(".")[0] in ("numba", "llvmlite") or "planes" in (rest[2] or ()):
            raise ImportError(name)
        return plain(name, *rest)

    for name in [
        n for n in sys.modules if n.startswith(("normbench.ops.cpu.", "normbench.ops.mix."))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_numba)
    cpu.kernels.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="numba cannot compile .* several times slower"):
            assert cpu.kernels() is None
        assert not cpu.serves(arguments[0])
        for a, b in zip(all_four(cpu, *arguments), expected, strict=True):
            assert torch.equal(a, b)
    finally:
        monkeypatch.undo()
        cpu.kernels.cache_clear()
    assert cpu.serves(arguments[0])


def test_one_thread_where_torch_has_no_openmp(monkeypatch):
    arguments = draw((8, 64, 16, 16))
    expected = list(all_four(cpu, *arguments))
    monkeypatch.setattr(cpu, "_fork", lambda: None)
    for a, b in zip(all_four(cpu, *arguments), expected, strict=True):
        assert torch.equal(a, b)


def python(code: str, **environment: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return run.stdout + run.stderr


def test_numba_is_imported_with_the_first_tensor_on_the_cpu():
    code = (
        "import sys, torch; from normbench.ops import Planes; print('numba' in sys.modules);"
        "Planes(torch.ones(1, 1, 2, 2)).moments(); print('numba' in sys.modules)"
    )
    assert python(code).split() == ["False", "True"]
    assert python(code, NORMBENCH_OPS="eager").split() == ["False", "False"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_can_go_on():
    code = """
import os, torch
from normbench.ops import cpu
x = torch.ones(64, 64, 16, 16)
cpu.moments(x)
child = os.fork()
if child == 0:
    os._exit(0 if cpu.moments(x)[0].eq(1).all() else 1)
print(os.waitpid(child, 0)[1])
"""
    assert python(code).split() == ["0"]


def test_use_holds_until_the_end_of_with_or_for_good():
    before = ops.use.chosen
    with ops.use("eager"):
        assert ops.use.chosen == "eager"
        with ops.use("cpu"):
            assert ops.use.chosen == "cpu"
        assert ops.use.chosen == "eager"
    assert ops.use.chosen == before
    with ops.use(before):
        ops.use("eager")
        assert ops.use.chosen == "eager"
    assert ops.use.chosen == before


def test_an_unknown_backend_is_one_line_for_the_user():
    with pytest.raises(
        UserError, match=r"'eagre' .* auto, eager, cpu, triton, did you mean 'eager'"
    ) as caught:
        ops.use("eagre")
    assert "\n" not in str(caught.value)
    last = python("import normbench.ops", NORMBENCH_OPS="gpu").strip().splitlines()[-1]
    assert last.startswith("normbench.errors.UserError: ")
    assert "gpu" in last
