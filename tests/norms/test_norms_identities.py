"""Norms that are other norms: each identity of output, gradient and running statistics."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from normbench import create_norm

from ..cases import each
from .table import CHANNELS, ROWS, Row, close, gradients, images, perturbed, state_of


def norm(name: str, **options: Any) -> Any:
    return create_norm(name, CHANNELS, **options).double()


def compare(first: Any, second: Any, x: Tensor, tolerance: float = 1e-9) -> None:
    """Equal output, and equal gradient of the input and of weight and bias."""
    sides: list[list[Tensor]] = []
    for module in (first, second):
        leaf = x.detach().requires_grad_()
        y = module(leaf)
        sides.append([y, *gradients(y, [leaf, module.weight, module.bias])])
    close(sides[0], sides[1], tolerance)


def with_state_of(target: nn.Module, source: nn.Module) -> Any:
    """The target with all that it shares with the source, by name."""
    shared = {k: v for k, v in source.state_dict().items() if k in target.state_dict()}
    target.load_state_dict(shared, strict=False)
    return target


GROUPINGS = [
    ("gn", {"groups": 1}, "ln", {}),
    ("gn", {"groups": CHANNELS}, "in", {}),
    ("gn", {"channels_per_group": CHANNELS}, "ln", {}),
    ("gn", {"groups": 2}, "gn", {"channels_per_group": 3}),
    ("gfrn", {"groups": CHANNELS, "eps": 1e-6}, "frn", {}),
    ("gfrn", {"groups": 1}, "lfrn", {}),
    ("sn", {"using": ["in"]}, "in", {}),
    ("sn", {"using": ["ln"]}, "ln", {}),
    ("bn", {"images": 1}, "in", {}),
    ("rbn", {"centering": False, "scaling": False}, "bn", {}),
    ("brn", {"r_max": 1, "d_max": 0, "eps": 1e-5}, "bn", {}),
    ("lrn", {"alpha": 0.0, "k": 1.0}, "none", {}),
]


@pytest.mark.parametrize(("name", "options", "other", "others"), GROUPINGS, ids=str)
def test_one_norm_is_another(
    name: str, options: dict[str, Any], other: str, others: dict[str, Any]
) -> None:
    first: Any = perturbed(norm(name, **options))
    second = with_state_of(norm(other, **others), first)
    if second.weight is None:  # none
        nn.init.ones_(first.weight)
        y, expected = first(images()), second(images())
        close(y, expected)
    else:
        compare(first, second, images())


@each("training", [True, False])
@pytest.mark.parametrize(("gate", "other"), [(1.0, "bn"), (0.0, "in")])
def test_bin_with_a_gate_at_its_end(gate: float, other: str, training: bool) -> None:
    first: Any = perturbed(norm("bin")).train(training)
    nn.init.constant_(first.gate, gate)
    compare(first, with_state_of(norm(other), first).train(training), images())


@each("training", [True, False])
@pytest.mark.parametrize(("part", "other"), [(0, "in"), (1, "ln"), (2, "bn")])
def test_sn_with_all_weight_on_one_part(part: int, other: str, training: bool) -> None:
    first: Any = perturbed(norm("sn")).train(training)
    for logits in (first.mean_weight, first.var_weight):
        nn.init.zeros_(logits)
        logits.data[part] = 100.0
    compare(first, with_state_of(norm(other), first).train(training), images())


def test_sn_takes_its_parts_in_one_order() -> None:
    first = perturbed(norm("sn", using=("bn", "in")))
    compare(first, with_state_of(norm("sn", using=("in", "bn")), first), images())


@each("statistic", ["mean", "std"])
@each("training", [True, False])
def test_rbn_starts_as_sigmoid_one_times_bn(training: bool, statistic: str) -> None:
    rbn, bn = norm("rbn", scaling_statistic=statistic).train(training), norm("bn").train(training)
    factor = torch.sigmoid(torch.tensor(1.0, dtype=torch.float64))
    close(rbn(images()), factor * bn(images()))
    close(rbn.running_mean, bn.running_mean)
    close(rbn.running_var, bn.running_var)


def test_rbns_running_mean_is_of_the_centred_input() -> None:
    rbn = norm("rbn", momentum=1.0)
    nn.init.constant_(rbn.center_weight, 0.5)
    rbn(images())
    close(rbn.running_mean, 1.5 * images().mean((0, 2, 3)))


def test_frn_of_centred_planes_is_in() -> None:
    x = images()
    x = x - x.mean((2, 3), keepdim=True)
    close(norm("frn", eps=1e-5)(x), norm("in", eps=1e-5)(x))


def test_brn_with_the_running_statistics_of_the_batch_is_bn() -> None:
    x = images()
    brn = norm("brn", warmup=False)
    brn.running_mean.copy_(x.mean((0, 2, 3)))
    brn.running_std.copy_((x.var((0, 2, 3), correction=0) + 1e-3).sqrt())
    close(brn(x), norm("bn", eps=1e-3)(x))


def test_brn_within_its_limits_normalizes_as_in_evaluation() -> None:
    brn = perturbed(norm("brn", r_max=100.0, d_max=100.0, warmup=False))
    evaluated = copy.deepcopy(brn).eval()(images())
    close(brn(images()), evaluated)


def test_brn_treats_r_and_d_as_constants() -> None:
    row = next(row for row in ROWS if row.name == "brn-at-once")
    brn, x = perturbed(row.create()), images().requires_grad_()
    y, state = brn(x), state_of(brn)
    before: Any = perturbed(row.create())
    (ours,) = gradients(y, [x])
    (constant,) = gradients(row.formula(x, state_of(before), True, **row.options), [x])
    through = row.formula(x, state_of(before), True, **row.options, constants=False)
    (flowing,) = gradients(through, [x])
    close(ours, constant)
    close(through, y)
    assert (ours - flowing).abs().max() > 1e-2
    assert not torch.equal(state["running_mean"], before.running_mean)


@each("block", [2, 3, 6])
@each("row", ROWS)
def test_images_equals_separate_forwards(row: Row, block: int) -> None:
    """N/k workers of k images: outputs side by side, gradients summed, statistics averaged."""
    together = perturbed(row.create(images=block))
    parts = [copy.deepcopy(together) for _ in range(6 // block)]
    x = images(n=6).requires_grad_()
    y = together(x)
    ys = torch.cat([part(xs) for part, xs in zip(parts, x.split(block), strict=True)])
    close(y, ys)

    own = list(together.parameters())
    theirs = [p for part in parts for p in part.parameters()]
    gx, *parameters = gradients(ys, [x, *theirs])
    summed = [sum(parameters[k :: len(own)]) for k in range(len(own))]
    close(gradients(y, [x, *own]), [gx, *summed])

    for name, buffer in together.named_buffers():
        buffers = torch.stack([part.get_buffer(name) for part in parts])
        close(buffer, buffers.double().mean(0).to(buffer.dtype))
