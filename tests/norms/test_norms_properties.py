"""What every norm promises, whatever it computes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.func import functional_call

from ..cases import each
from .table import (
    PER_IMAGE_ROWS,
    PLANE_ROWS,
    POOLING_ROWS,
    ROWS,
    Row,
    close,
    gradients,
    images,
    outcome,
    perturbed,
)

MODES = each("training", [True, False])


@MODES
@each("row", ROWS)
def test_gradcheck(row: Row, training: bool) -> None:
    norm = perturbed(row.create(activation="relu", **row.gradcheck_options)).train(training)
    names = [name for name, _ in norm.named_parameters()]

    def output(x: Tensor, *parameters: Tensor) -> Tensor:
        return functional_call(norm, dict(zip(names, parameters, strict=True)), (x,))

    x = images(n=3, height=2, width=2).requires_grad_()
    assert torch.autograd.gradcheck(output, (x, *norm.parameters()), fast_mode=True)


def with_another_second_image(x: Tensor) -> Tensor:
    other = x.clone()
    other[1] = 3 * other[1].flip(-1) + 1
    return other


@each("row", PER_IMAGE_ROWS)
def test_an_image_does_not_see_the_others(row: Row) -> None:
    """What the norm declares is what it does; so is the opposite, in the next test."""
    norm, x = perturbed(row.create()).float(), images(dtype=torch.float32)
    y, changed = norm(x), norm(with_another_second_image(x))
    assert torch.equal(y[0], changed[0])
    assert not torch.equal(y[1], changed[1])


@each("row", POOLING_ROWS)
def test_an_image_sees_its_worker_in_training_and_nothing_else(row: Row) -> None:
    norm, x = perturbed(row.create(images=2)).float(), images(dtype=torch.float32)
    other = with_another_second_image(x)
    y, gx, *_ = outcome(copy.deepcopy(norm), x)
    changed, changed_gx, *_ = outcome(copy.deepcopy(norm), other)
    # Batch Renorm within its limits sees the others in its gradient only
    assert max((y[0] - changed[0]).abs().max(), (gx[0] - changed_gx[0]).abs().max()) > 1e-3
    assert torch.equal(y[2:], changed[2:])
    assert torch.equal(gx[2:], changed_gx[2:])
    norm.eval()
    assert torch.equal(norm(x)[0], norm(other)[0])


@each("row", ROWS)
def test_evaluation_keeps_the_state_and_takes_any_number_of_images(row: Row) -> None:
    norm = perturbed(row.create(images=2)).eval()
    before = copy.deepcopy(norm.state_dict())
    y = norm(images(n=5))
    close(torch.cat([norm(x[None]) for x in images(n=5)]), y)
    close(dict(norm.state_dict()), dict(before), tolerance=0)


@MODES
@each("row", ROWS)
def test_the_input_is_not_modified(row: Row, training: bool) -> None:
    norm = perturbed(row.create(activation="auto")).train(training)
    x = images()
    version = x._version
    outcome(norm, x)
    with torch.no_grad():
        norm(x)
    assert x._version == version
    assert torch.equal(x, images())


@MODES
@each("row", ROWS)
def test_without_gradients_the_output_and_the_new_statistics_are_the_same(
    row: Row, training: bool
) -> None:
    norm = perturbed(row.create(activation="relu")).train(training)
    other = copy.deepcopy(norm)
    with torch.no_grad():
        y = norm(images())
    close(y, other(images()).detach(), tolerance=0)
    assert all(not buffer.requires_grad for buffer in other.buffers())
    close(dict(norm.state_dict()), dict(other.state_dict()), tolerance=0)


@MODES
@each("row", ROWS)
def test_frozen_parameters_and_a_frozen_input(row: Row, training: bool) -> None:
    norm = perturbed(row.create(activation="relu")).train(training)
    _, gx, *of_parameters = outcome(copy.deepcopy(norm), images())
    y = copy.deepcopy(norm)(images())
    if of_parameters:
        y.sum().backward()  # the input takes no gradient
    norm.requires_grad_(False)
    x = images().requires_grad_()
    close(gradients(norm(x), [x]), [gx])


def shuffle_of_each_plane(x: Tensor) -> Tensor:
    """An order of the pixels of each plane, drawn for each."""
    n, c, h, w = x.shape
    return torch.rand(n, c, h * w, generator=torch.Generator().manual_seed(3)).argsort(-1)


@MODES
@each("row", PLANE_ROWS)
def test_a_plane_norm_commutes_with_shuffles_of_the_pixels_of_planes(
    row: Row, training: bool
) -> None:
    norm, x = perturbed(row.create()).train(training), images()
    order = shuffle_of_each_plane(x)

    def shuffled(t: Tensor) -> Tensor:
        return t.flatten(2).gather(-1, order).view_as(t)

    close(copy.deepcopy(norm)(shuffled(x)), shuffled(copy.deepcopy(norm)(x)))


@MODES
@each("row", ROWS)
def test_plane_norms_and_no_others_are_affine_on_each_plane(row: Row, training: bool) -> None:
    x = images().flatten(2)
    y = perturbed(row.create()).train(training)(images()).flatten(2)
    slope = (y[..., 1] - y[..., 0]) / (x[..., 1] - x[..., 0])
    shift = y[..., 0] - slope * x[..., 0]
    line = slope[..., None] * x + shift[..., None]
    if row.plane:
        close(y, line, tolerance=1e-7)
    else:
        assert (y - line).abs().max() > 1e-6
