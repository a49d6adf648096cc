"""Every norm of planes as it is played from its record, against eager in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from normbench import ops
from normbench.norms import PlaneNorm
from normbench.norms.base import without_tracking
from normbench.norms.batch import BatchNorm
from normbench.ops import played

from .table import CHANNELS, PLANE_ROWS, Row, gradients, images, perturbed

pytest.importorskip("numba")
ROWS = [row for row in PLANE_ROWS if row.norm != "custom"]


def seen(norm: nn.Module, x: Tensor, backend: str) -> list[Tensor]:
    """Output and gradients of three passes, and the buffers after them."""
    found = []
    with ops.use(backend):
        for k in range(3):
            x = (x.detach() + 0.1 * k).requires_grad_()
            y = norm(x)
            found += [y.detach(), *gradients(y, [x, *norm.parameters()], seed=k)]
    return found + [b.clone() for b in norm.buffers()]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("activation", ["relu", "tlu", "prelu"])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_played_is_what_eager_computes(
    row: Row, activation: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if activation not in row.activations:
        pytest.skip("no such activation")
    monkeypatch.setattr(played, "_programs", {})
    norm = perturbed(row.create(activation=activation, images=2)).train(training)
    x = images()
    exact = seen(copy.deepcopy(norm), x, "eager")
    ours = seen(copy.deepcopy(norm).float(), x.float(), "cpu")
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=2e-4, atol=2e-5)
    assert all(played._programs.values()), "recorded"
    assert len(played._programs) == 1


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("row", [row for row in ROWS if row.per_image], ids=str)
def test_image_by_image_is_what_eager_computes(
    row: Row, training: bool, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large inputs, on two threads; the frozen norm of a first layer too."""
    monkeypatch.setattr(played, "_programs", {})
    monkeypatch.setattr(played, "CACHE", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    norm = perturbed(row.create(activation="tlu")).train(training)
    x = images(n=37, height=16, width=25).contiguous(memory_format=layout)
    exact = seen(copy.deepcopy(norm), x, "eager")
    ours = seen(copy.deepcopy(norm).float(), x.float(), "cpu")
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=5e-4, atol=5e-4)
    program = next(iter(played._programs.values()))
    by_image = vars(type(norm)).get("is_pure") == "image"
    assert (program is not None and program.apart is not None) == by_image
    y = norm.float().requires_grad_(False)(x.float())
    torch.testing.assert_close(y.double(), norm.double()(x), rtol=5e-4, atol=5e-4)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_only_norms_of_single_images_say_so(row: Row) -> None:
    said = vars(type(row.create())).get("is_pure")
    assert said in ("batch", "image")
    assert said == "batch" or row.per_image


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_without_tracking_no_buffer_moves(row: Row) -> None:
    norm = row.create(images=2).float()
    x = images(dtype=torch.float32)
    norm(x)
    before = [b.clone() for b in norm.buffers()]
    with without_tracking():
        norm(x)
    if row.norm != "brn":  # whose warm-up counts on
        torch.testing.assert_close(list(norm.buffers()), before)


def test_an_attribute_that_changes_changes_the_result() -> None:
    norm = next(row for row in ROWS if row.name == "bn").create().float()
    x = images(dtype=torch.float32)
    first = norm(x)
    norm.eps = 3.0
    with ops.use("eager"):
        expected = copy.deepcopy(norm)(x)
    torch.testing.assert_close(norm(x), expected)
    assert (first - expected).abs().max() > 0.1


def test_a_class_derived_from_a_pure_one_is_not_recorded() -> None:
    tracked = []

    class Watched(BatchNorm):
        def track(self, pooled):  # type: ignore[no-untyped-def]
            tracked.append(1)
            super().track(pooled)

    norm = Watched(CHANNELS)
    for _ in range(3):
        norm(images(dtype=torch.float32))
    assert len(tracked) == 3


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_one_image(row: Row) -> None:
    norm = perturbed(row.create(activation="relu")).float()
    x = images(n=1, dtype=torch.float32)
    found = [seen(copy.deepcopy(norm), x, backend) for backend in ("cpu", "eager")]
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


def test_a_mix_of_ones_own_is_not_recorded_unless_it_is_pure() -> None:
    calls = []

    class Counting(PlaneNorm):
        def mix(self, moments):  # type: ignore[no-untyped-def]
            calls.append(moments.count)
            return moments.mean * 0 + 1, moments.mean * 0

    norm = Counting(CHANNELS)
    norm.weight = None
    for _ in range(3):
        norm(images(dtype=torch.float32))
    assert len(calls) == 3
