"""One image, and maps of one pixel: what works, and what is refused with one line."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from normbench import create_norm
from normbench.errors import UserError

from ..cases import each
from .table import CHANNELS, ROWS, Row, close, gradients, images, outcome, perturbed, state_of


def check_refusal(norm: nn.Module, x: torch.Tensor) -> None:
    """A UserError of one line that leaves the state as it was."""
    before = copy.deepcopy(norm.state_dict())
    with pytest.raises(UserError, match="single number") as refusal:
        norm(x)
    assert "\n" not in str(refusal.value)
    close(dict(norm.state_dict()), dict(before), tolerance=0)


@each("row", ROWS)
def test_one_image(row: Row) -> None:
    norm, x = perturbed(row.create()), images(n=1)
    state = state_of(norm)
    close(norm(x), row.reference(x, state, True), row.tolerance)
    close(dict(norm.state_dict()), {key: state[key].detach() for key in norm.state_dict()})


@each("row", ROWS)
@pytest.mark.parametrize(("n", "needed"), [(4, "min_pixels"), (1, "min_pixels_alone")])
def test_maps_of_one_pixel_in_training(row: Row, n: int, needed: str) -> None:
    norm, x = perturbed(row.create()), images(n=n, height=1, width=1)
    if getattr(row, needed) > 1:
        check_refusal(norm, x)
    else:
        assert all(t.isfinite().all() for t in outcome(copy.deepcopy(norm), x))
        state = state_of(norm)
        close(norm(x), row.reference(x, state, True), row.tolerance)


@each("row", [row for row in ROWS if row.min_pixels == 1])
def test_maps_of_one_pixel_in_evaluation(row: Row) -> None:
    norm, x = perturbed(row.create()).eval(), images(n=1, height=1, width=1)
    close(norm(x), row.reference(x, state_of(norm), False), row.tolerance)


@each("row", [row for row in ROWS if row.min_pixels > 1])
def test_maps_of_one_pixel_are_refused_in_evaluation_too(row: Row) -> None:
    check_refusal(row.create().eval(), images(n=4, height=1, width=1))


@each("row", [r for r in ROWS if r.min_pixels < r.min_pixels_alone])
def test_maps_of_one_pixel_are_refused_with_one_image_per_worker(row: Row) -> None:
    check_refusal(row.create(images=1), images(n=4, height=1, width=1))


def test_a_group_of_one_channel_on_one_pixel_is_refused() -> None:
    norm = create_norm("gn", CHANNELS, channels_per_group=1).double()
    check_refusal(norm, images(height=1, width=1))


def test_learned_eps_lets_a_gradient_through_where_frn_leaves_the_sign() -> None:
    x = images(height=1, width=1).requires_grad_()
    fixed = create_norm("frn", CHANNELS).double()
    learned: Any = create_norm("frn", CHANNELS, learned_eps=True, eps_init=1.0).double()
    close(fixed(x), x.sign(), tolerance=1e-2)
    through_fixed, *_ = gradients(fixed(x), [x])
    through_learned, to_eps = gradients(learned(x), [x, learned.eps_learned])
    assert through_learned.abs().median() > 100 * through_fixed.abs().median()
    assert (to_eps != 0).all()


def test_constant_planes_have_finite_gradients() -> None:
    for row in ROWS:
        x = images().mean((2, 3), keepdim=True).expand(-1, -1, 3, 5)
        assert all(t.isfinite().all() for t in outcome(perturbed(row.create()), x)), row


def test_an_input_of_zeros_has_finite_gradients() -> None:
    for row in ROWS:
        x = torch.zeros_like(images())
        assert all(t.isfinite().all() for t in outcome(perturbed(row.create()), x)), row
