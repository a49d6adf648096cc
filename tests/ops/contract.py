"""What every backend of compiled kernels must do: the four functions of the reference, in its dtype and
strides, the same bits each time, and nothing where they cannot run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from normbench import ops
from normbench.ops import Planes, reference

FIRST, LAST = torch.contiguous_format, torch.channels_last
FORMS = (FIRST, LAST)


def draw(
    shape: tuple[int, ...],
    form: torch.memory_format = FIRST,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    offset: float = 0.0,
    device: str = "cpu",
) -> tuple[Any, ...]:
    """x, g in a memory format and dtype; scale, shift, p, q [N, C] and lower bound [C] in float32."""
    made = torch.Generator().manual_seed(seed)
    x, g = (torch.randn(shape, generator=made).add_(offset * (i == 0)) for i in range(2))
    small = [torch.randn(shape[:2], generator=made) for _ in range(4)]
    small.append(torch.randn(shape[1], generator=made) / 4)
    big = (t.to(device, dtype).contiguous(memory_format=form) for t in (x, g))
    return *big, *(t.to(device) for t in small)


def all_four(module: Any, *arguments: Any) -> Iterator[Tensor]:
    """The results of the four functions, affine_of_two also without p and q."""
    x, g, scale, shift, p, q, bound = arguments
    yield from module.moments(x)
    yield module.affine(x, scale, shift, bound)
    yield from (r for r in module.sums(x, g, scale, shift, bound) if r is not None)
    yield module.affine_of_two(x, g, scale, shift, bound, (p, q))
    yield module.affine_of_two(x, g, scale, shift, bound, None)


def wide(value):
    return value.double() if isinstance(value, Tensor) else value


class Tagged(Tensor):
    pass


STEPS_ASIDE: dict[str, Callable[[Tensor], Tensor]] = {
    "float64": lambda x: x.double(),
    "sliced": lambda x: x[:, :, 1:-1, 1:-1],
    "turned": lambda x: x.transpose(2, 3),
    "expanded": lambda x: x[:, :1].expand(-1, 4, -1, -1),
    "empty": lambda x: x[:0],
    "subclass": lambda x: x.as_subclass(Tagged),
    "meta": lambda x: x.to("meta"),
}


def steps_aside(module: Any, kinds: Mapping[str, Callable[[Tensor], Tensor]] = STEPS_ASIDE) -> None:
    """What the kernels cannot do is what the reference computes, to the bit."""
    for kind, change in kinds.items():
        x, g, *small, bound = draw((2, 4, 6, 5))
        x, g = change(x), change(g)
        assert not module.serves(x), kind
        arguments = x, g, *(t[: len(x)].to(x.device) for t in small), bound.to(x.device)
        pairs = zip(all_four(module, *arguments), all_four(reference, *arguments), strict=True)
        for a, b in pairs:
            assert (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride()), kind
            assert kind == "meta" or torch.equal(a, b), kind


class Contract:
    """To be inherited by a class of tests that names the backend and what it is tested on."""

    name: str
    backend: Any
    device: str = "cpu"
    dtypes: tuple[torch.dtype, ...] = (torch.float32,)
    shapes: Sequence[tuple[int, ...]]

    def draw(self, *arguments: Any, **options: Any) -> tuple[Any, ...]:
        return draw(*arguments, **{"device": self.device, **options})

    def agree(self, x: Tensor, *others: Any, functions: Any = all_four) -> None:
        """Every result within rounding of float64: of x's size in its dtype and strides."""
        assert self.backend.serves(x)
        expected = functions(reference, *map(wide, (x, *others)))
        for a, b in zip(functions(self.backend, x, *others), expected, strict=True):
            image = a.dim() == 4
            assert (a.dtype, a.shape) == (x.dtype if image else torch.float32, b.shape)
            assert a.stride() == (x.stride() if image else (x.shape[1], 1))
            rtol = max(2e-5, torch.finfo(a.dtype).eps)
            atol = 1e-5 * (1 + x[0, 0].numel() * 1e-2)
            torch.testing.assert_close(a.double(), b, rtol=rtol, atol=atol)

    def test_every_function_agrees_with_the_reference_in_float64(self):
        for shape, form, dtype in itertools.product(self.shapes, FORMS, self.dtypes):
            *arguments, bound = self.draw(shape, form, dtype)
            for low in (None, 0.0, bound):
                self.agree(*arguments, low)

    def test_an_offset_of_1000_costs_less_than_a_thousandth(self):
        for shape, form in itertools.product(((2, 3, 5, 5), (1, 2, 56, 56)), FORMS):
            x, *_ = self.draw(shape, form, offset=1e3)
            mean, var = self.backend.moments(x)
            y = self.backend.affine(x, var.rsqrt(), -mean * var.rsqrt(), None)
            mean, var = reference.moments(x.double())
            exact = reference.affine(x.double(), var.rsqrt(), -mean * var.rsqrt(), None)
            torch.testing.assert_close(y.double(), exact, rtol=0, atol=1e-3)

    def test_a_pixel_far_from_the_others_does_not_spoil_the_variance(self):
        for form in FORMS:
            x, *_ = self.draw((1, 4, 40, 40), form, offset=1e3)
            x[:, :, 0, 0] = 0  # what a variance shifted by the first pixel would not survive
            var = self.backend.moments(x)[1].double()
            torch.testing.assert_close(var, reference.moments(x.double())[1], rtol=1e-5, atol=0)

    def test_forward_and_backward_agree_on_which_pixels_are_below_the_lower_bound(self):
        """Decided before rounding, and by the same arithmetic, also next to the bound."""
        for form, dtype in itertools.product(FORMS, self.dtypes):
            x, _, scale, *_ = self.draw((1, 16, 20, 20), form, dtype)
            shift = -(scale * x[:, :, 3, 5].float())  # a map that is about 0 at one pixel
            one = torch.ones_like(x)
            above = self.backend.affine(x.float(), scale, shift, 0.0) > 0
            kept = self.backend.affine_of_two(x, one, scale, shift, 0.0, None)
            sums = self.backend.sums(x, one, scale, shift, 0.0)
            assert torch.equal(kept != 0, above)
            assert torch.equal(sums[0], above.sum((2, 3)).float())
            assert torch.equal(sums[2], (~above).sum((2, 3)).float())

    def gradients(self, backend, x, weight, tau, form):
        leaves = [t.detach().clone().requires_grad_() for t in (x, weight, tau)]
        with ops.use(backend):
            planes = Planes(leaves[0])
            mean, var = planes.moments()
            scale = (var + mean.square() + 1e-6).rsqrt() * leaves[1]
            y = planes.affine(scale, mean * 0.1, leaves[2])
            g = torch.linspace(-1, 1, y.numel(), device=self.device).bfloat16().view(y.shape)
            y.backward(g.to(y.dtype).contiguous(memory_format=form))
        return y, *(leaf.grad for leaf in leaves)

    def test_gradients_through_planes(self):
        for form, of_gradient, dtype in itertools.product(FORMS, FORMS, self.dtypes):
            x, _, scale, *_, tau = self.draw((3, 20, 9, 7), form, dtype)
            ours = self.gradients(self.name, x, scale[0], tau, of_gradient)
            exact = self.gradients(
                "eager", x.double(), scale[0].double(), tau.double(), of_gradient
            )
            for a, b in zip(ours, exact, strict=True):
                rtol = max(1e-4, torch.finfo(a.dtype).eps)
                torch.testing.assert_close(a.double(), b, rtol=rtol, atol=5e-5)
            assert (ours[1].stride(), ours[1].dtype) == (x.stride(), dtype)

    def test_divergence_stays_visible(self):
        for bad, form in itertools.product((float("nan"), float("inf")), FORMS):
            *arguments, bound = self.draw((2, 16, 9, 9), form)
            arguments[0][1, 5, 4, 4] = bad
            for low in (None, 0.0, bound):
                _, var, y, *_ = all_four(self.backend, *arguments, low)
                _, expected_var, expected, *_ = all_four(reference, *arguments, low)
                assert torch.equal(var.isfinite(), expected_var.isfinite())
                torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4, equal_nan=True)
                sum_gx = self.backend.sums(*arguments[:4], low)[1]
                assert not sum_gx[1, 5].isfinite() or bad == float("inf")

    def test_a_lower_bound_that_is_nan_is_seen_in_the_output(self):
        for form in FORMS:
            x, _, scale, shift, _, _, bound = self.draw((2, 16, 9, 9), form)
            bound[3] = float("nan")
            y = self.backend.affine(x, scale, shift, bound)
            assert y[:, 3].isnan().all()
            assert y[:, :3].isfinite().all()

    def test_the_same_bits_twice_and_in_any_batch(self):
        for form in FORMS:
            *mapped, bound = self.draw((3, 17, 13, 13), form)
            once = list(all_four(self.backend, *mapped, bound))
            for a, b in zip(once, all_four(self.backend, *mapped, bound), strict=True):
                assert torch.equal(a, b)
            alone = (t[:1].clone(memory_format=torch.preserve_format) for t in mapped)
            for a, b in zip(once, all_four(self.backend, *alone, bound), strict=True):
                assert torch.equal(a[:1], b)

    def test_x_and_g_are_not_modified(self):
        arguments = self.draw((2, 20, 8, 8), LAST)
        before = [t.clone() for t in arguments]
        list(all_four(self.backend, *arguments))
        assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True))

    def test_numbers_per_channel_or_image_without_memory_of_their_own(self):
        x, g, scale, shift, p, q, bound = self.draw((4, 6, 5, 5))
        of_channels = (t[0].expand(4, 6) for t in (scale, shift, p, q))
        self.agree(x, g, *of_channels, bound.bfloat16())
        self.agree(x, g, *(t[:, :1].expand(4, 6) for t in (scale, shift, p, q)), bound)
        self.agree(x, g, scale[0].expand(4, 6), shift, p, q, bound)

    @pytest.mark.filterwarnings("ignore:var_mean")  # of no numbers at all
    def test_what_the_kernels_cannot_do_is_left_to_the_reference(self):
        steps_aside(self.backend)
