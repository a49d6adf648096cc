"""The compiled kernels against the reference in float64 on the same numbers, and when they step aside."""

from __future__ import annotations

import builtins
import itertools
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normbench import ops
from normbench.errors import UserError
from normbench.ops import Planes, cpu, reference

from ..contract import FORMS, Contract, all_four, draw, steps_aside

pytest.importorskip("numba")
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


class TestCpu(Contract):
    name, backend, shapes = "cpu", cpu, SHAPES

    def test_bfloat16_is_left_to_the_reference(self):
        steps_aside(cpu, {"bfloat16": lambda x: x.bfloat16()})

    def test_a_map_that_gives_the_lower_bound_itself_rounds_twice(self):
        """As the comparison does; a fused product would not."""
        for form in FORMS:
            x, _, scale, *_ = draw((4, 16, 20, 20), form)
            y = cpu.affine(x, scale, -(scale * x[:, :, 3, 5]), 0.0)
            assert not y[:, :, 3, 5].any()

    def test_the_same_bits_on_any_number_of_threads(self):
        for shape, form in itertools.product(((8, 64, 16, 16), (6, 3, 120, 120)), FORMS):
            arguments = draw(shape, form)
            once = list(all_four(cpu, *arguments))
            for threads in (2, 1, 3):
                torch.set_num_threads(threads)
                for a, b in zip(once, all_four(cpu, *arguments), strict=True):
                    assert torch.equal(a, b)


agree = TestCpu().agree


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 140), st.integers(1, 11), st.integers(1, 11)),
    form=st.sampled_from(FORMS),
    low=st.sampled_from([None, 0.0, -0.5, "learned"]),
    seed=st.integers(0, 99),
)
def test_every_kernel_agrees_at_any_shape(shape, form, low, seed):
    *arguments, bound = draw(shape, form, seed=seed)
    agree(*arguments, bound if low == "learned" else low)


def test_a_gradient_of_equal_numbers_without_memory_of_their_own():
    x, *_ = draw((2, 8, 6, 6))
    x.requires_grad_()
    planes = Planes(x)
    mean, var = planes.moments()
    planes.affine(var.rsqrt(), -mean * var.rsqrt(), 0.0).mean().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_every_thread_of_a_program_may_call_the_kernels():
    from concurrent.futures import ThreadPoolExecutor

    arguments = draw((16, 32, 16, 16))
    expected = list(all_four(cpu, *arguments))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: list(all_four(cpu, *arguments)), range(20)):
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_the_defaults_of_torch_for_new_tensors_do_not_matter():
    arguments = draw((2, 20, 8, 8))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            agree(*arguments)
    finally:
        torch.set_default_dtype(torch.float32)


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


def test_numba_is_imported_with_the_first_tensor_that_it_is_for():
    code = """
import sys, torch
from normbench import ops
x = torch.ones(1, 1, 2, 2)
with ops.use("eager"):
    ops.Planes(x).moments()
print("numba" in sys.modules)
ops.Planes(x).moments()
print("numba" in sys.modules)
"""
    assert python(code).split() == ["False", "True"]


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
