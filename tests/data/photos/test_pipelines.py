"""Crops by position against their definitions; resizes on the device against torch's own."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from normbench.data.augment import stream
from normbench.data.photos import resample
from normbench.data.photos.pipelines import (
    ASPECT,
    TRIES,
    Crops,
    Pipeline,
    centre,
    draw_crops,
    inception,
    resized_sizes,
)
from normbench.data.photos.resample import Pixels, weights

SIZES = torch.tensor([[40, 60], [60, 40], [50, 50], [30, 200], [200, 30], [2, 5]])


def by_definition(height: int, width: int, chance: Tensor) -> tuple[int, int, bool]:
    """Szegedy et al. as in torchvision: tries, then the largest allowed box in the middle."""
    low, high = map(math.log, ASPECT)
    for area_, aspect_ in zip(*chance.tolist(), strict=True):
        area = height * width * (0.08 + 0.92 * area_)
        aspect = math.exp(low + (high - low) * aspect_)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return h, w, False
    if width / height < ASPECT[0]:
        return round(width / ASPECT[0]), width, True
    if width / height > ASPECT[1]:
        return height, round(height * ASPECT[1]), True
    return height, width, True


@given(height=st.integers(2, 400), width=st.integers(2, 400), seed=st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_random_resized_boxes(height: int, width: int, seed: int) -> None:
    chance = torch.rand(2, TRIES, 1, generator=torch.Generator().manual_seed(seed))
    found = inception(torch.tensor([height]), torch.tensor([width]), chance)
    assert tuple(int(t) for t in found) == by_definition(height, width, chance[:, :, 0])


def test_where_no_try_fits_the_box_is_in_the_middle() -> None:
    sizes = torch.tensor([[10, 3000]] * 200)
    crops = draw_crops("inception", sizes, 8, 0, 0)
    fallen = crops.width == 13
    assert fallen.sum() > 100
    assert (crops.left[fallen] == (3000 - 13) // 2).all()
    assert (crops.height[fallen] == 10).all()


@pytest.mark.parametrize("pipeline", ["inception", "basic", "centre"])
def test_boxes_lie_in_their_images(pipeline: Pipeline) -> None:
    sizes = resized_sizes(SIZES, 32).repeat(50, 1)
    crops = draw_crops(pipeline, sizes, 28, 3, 1)
    height, width = sizes[crops.order].unbind(1)
    assert (crops.top >= 0).all()
    assert (crops.left >= 0).all()
    assert (crops.top + crops.height <= height).all()
    assert (crops.left + crops.width <= width).all()
    assert (crops.height > 0).all()
    assert crops.order.sort().values.equal(torch.arange(len(sizes)))
    if pipeline != "inception":
        assert (crops.height == 28).all()
        assert (crops.width == 28).all()


def test_basic_crops_reach_every_place_and_flips_are_a_coin() -> None:
    crops = draw_crops("basic", torch.tensor([[10, 12]] * 6000), 8, 0, 0)
    assert torch.allclose(crops.top.bincount() / 6000, torch.tensor(1 / 3), atol=0.03)
    assert torch.allclose(crops.left.bincount() / 6000, torch.tensor(1 / 5), atol=0.03)
    assert abs(crops.flip.double().mean() - 0.5) < 0.03


@pytest.mark.parametrize("pipeline", ["inception", "basic"])
def test_crops_depend_on_seed_and_epoch_only(pipeline: Pipeline) -> None:
    sizes = torch.tensor([[40, 50]] * 60)
    first, again = (draw_crops(pipeline, sizes, 32, 5, 2) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.boxes(), again.boxes(), strict=True))
    for other in (draw_crops(pipeline, sizes, 32, 5, 3), draw_crops(pipeline, sizes, 32, 6, 2)):
        for name in ("order", "top", "left", "flip"):
            assert not torch.equal(getattr(first, name), getattr(other, name))
    order = torch.randperm(60, generator=stream(5, "order", 2))
    assert torch.equal(first.order, order)
    assert torch.equal(draw_crops("centre", sizes, 32, 5, 2).order, order)


def test_centre_is_torchvisions_centre_crop() -> None:
    from torchvision.transforms import functional

    for height, width in ((32, 32), (33, 40), (32, 41), (35, 32), (36, 39)):
        image = torch.arange(height * width).view(1, height, width)
        box = centre(torch.tensor([[height, width]]), torch.tensor([0]), 32)
        top, left = int(box.top), int(box.left)
        wanted = functional.center_crop(image, [32])
        assert torch.equal(image[:, top : top + 32, left : left + 32], wanted)


def stored(sizes: list[tuple[int, int]]) -> tuple[Pixels, list[Tensor]]:
    """Images of these sizes (height, width) in one array, and each as [1, 3, H, W]."""
    chance = torch.Generator().manual_seed(0)
    images = [
        torch.randint(0, 256, (h, w, 3), generator=chance, dtype=torch.uint8) for h, w in sizes
    ]
    flat = torch.cat([image.flatten() for image in images])
    ends = torch.tensor([image.numel() for image in images]).cumsum(0)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), ends[:-1]])
    index = torch.cat([offsets[:, None], torch.tensor(sizes)], 1)
    return Pixels(flat, index), [i.permute(2, 0, 1)[None] for i in images]


WAYS = {"CPU": Pixels.one_by_one, "GPU": Pixels.together}


@pytest.mark.parametrize("way", WAYS)
def test_resized_crops_are_torchs_antialiased_ones(way: str) -> None:
    """To rounding: half a level of 255 from the definition in float64, and half of the rounding after
    the first axis."""
    sizes = [(40, 60), (70, 30), (25, 25), (90, 120)] * 6
    pixels, images = stored(sizes)
    crops = draw_crops("inception", torch.tensor(sizes), 24, 0, 0)
    found = WAYS[way](pixels, crops, 24)
    assert found.dtype == torch.uint8
    fields = zip(*(t.tolist() for t in crops.boxes()), strict=True)
    for crop, (order, top, left, height, width, flip) in zip(found, fields, strict=True):
        box = images[order][:, :, top : top + height, left : left + width].double()
        wanted = F.interpolate(box, (24, 24), mode="bilinear", antialias=True)[0]
        wanted = wanted.flip(2) if flip else wanted
        most = 0.501 if way == "GPU" else 1.01
        torch.testing.assert_close(crop.double(), wanted, rtol=0, atol=most)


@pytest.mark.parametrize("way", WAYS)
def test_crops_without_a_resize_are_slices(way: str) -> None:
    sizes = [(32, 40), (50, 32), (32, 32)] * 4
    pixels, images = stored(sizes)
    crops = draw_crops("basic", torch.tensor(sizes), 32, 0, 0)
    found = WAYS[way](pixels, crops, 32)
    fields = zip(*(t.tolist() for t in crops.boxes()), strict=True)
    for crop, (order, top, left, _, _, flip) in zip(found, fields, strict=True):
        wanted = images[order][0, :, top : top + 32, left : left + 32]
        assert torch.equal(crop, wanted.flip(2) if flip else wanted)


def test_parts_of_a_batch_are_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(40, 60), (70, 30), (25, 25)] * 3
    pixels, _ = stored(sizes)
    crops: Crops = draw_crops("inception", torch.tensor(sizes), 24, 0, 0)
    whole = pixels.together(crops, 24)
    monkeypatch.setattr(resample, "AT_A_TIME", 2 * 70 * 60)
    away = pixels.together(crops, 24).int() - whole.int()
    assert away.abs().max() <= 1


def test_weights_sum_to_one_and_stay_inside() -> None:
    length = torch.tensor([1, 5, 24, 77])
    given_ = weights(length, 77, 24)
    torch.testing.assert_close(given_.sum(2), torch.ones(4, 24))
    for row, own in zip(given_, length.tolist(), strict=True):
        assert not row[:, own:].any()
    torch.testing.assert_close(given_[2, :, :24], torch.eye(24))
