"""Order, crop, flip and normalization, each against its definition written with slices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normbench.data import Batcher, EpochPlan, draw_plan, normalize, stream
from normbench.data.augment import PAD, pack

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def some_pixels(images: int = 12, height: int = 32, width: int = 32) -> torch.Tensor:
    chance = torch.Generator().manual_seed(1)
    shape = (images, 3, height, width)
    return torch.randint(0, 256, shape, generator=chance, dtype=torch.uint8)


def by_definition(pixels: torch.Tensor, plan: EpochPlan, position: int) -> torch.Tensor:
    """uint8 [3, H, W]: pad with the mean colour, cut the window, mirror."""
    image = pixels[plan.order[position]]
    height, width = image.shape[1:]
    padded = torch.empty(3, height + 2 * PAD, width + 2 * PAD, dtype=torch.uint8)
    padded[:] = torch.tensor([round(255 * m) for m in MEAN], dtype=torch.uint8)[:, None, None]
    padded[:, PAD : PAD + height, PAD : PAD + width] = image
    top, left = int(plan.top[position]), int(plan.left[position])
    crop = padded[:, top : top + height, left : left + width]
    return crop.flip(2) if plan.flip[position] else crop


@given(
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 500),
    size=st.integers(1, 12),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
)
@settings(max_examples=40, deadline=None)
def test_every_batch_is_the_definition(
    seed: int, epoch: int, size: int, height: int, width: int
) -> None:
    pixels, labels = some_pixels(12, height, width), torch.arange(12)
    plan = draw_plan(12, seed, epoch)
    batches = Batcher(pixels, labels, MEAN, STD).epoch(plan)
    for step in range(batches.steps(size)):
        images, found = batches.batch(step, size)
        positions = range(step * size, (step + 1) * size)
        want = torch.stack([by_definition(pixels, plan, p) for p in positions])
        assert torch.equal(images, normalize(want, MEAN, STD))
        assert torch.equal(found, plan.order[step * size : (step + 1) * size])


def test_corners_cover_all_of_the_margin_and_flips_are_a_coin() -> None:
    plan = draw_plan(20_000, 0, 0)
    for corner in (plan.top, plan.left):
        counts = corner.bincount(minlength=9)
        assert len(counts) == 9
        assert (counts - 20_000 / 9).abs().max() < 250  # over 5 standard deviations
    assert abs(plan.flip.double().mean() - 0.5) < 0.02
    assert torch.equal(plan.order.sort().values, torch.arange(20_000))


def test_the_plan_depends_on_seed_and_epoch_only() -> None:
    first = draw_plan(100, 3, 7)
    again, other_epoch, other_seed = (
        draw_plan(100, 3, 7),
        draw_plan(100, 3, 8),
        draw_plan(100, 4, 7),
    )
    for name in ("order", "top", "left", "flip"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other_epoch, name))
        assert not torch.equal(getattr(first, name), getattr(other_seed, name))


def test_order_and_augmentation_come_from_their_own_streams() -> None:
    plan = draw_plan(100, 3, 7)
    assert torch.equal(plan.order, torch.randperm(100, generator=stream(3, "order", 7)))
    chance = stream(3, "augmentation", 7)
    corners = torch.randint(0, 9, (2, 100), generator=chance)
    assert torch.equal(torch.stack([plan.top, plan.left]), corners)
    assert torch.equal(plan.flip, torch.randint(0, 2, (100,), generator=chance))


def test_without_augmentation_the_order_stays() -> None:
    full, plain = draw_plan(100, 3, 7), draw_plan(100, 3, 7, augment=False)
    assert torch.equal(full.order, plain.order)
    assert not plain.flip.any()
    assert (plain.top == PAD).all() and (plain.left == PAD).all()


def test_all_batch_sizes_show_the_same_images_the_same_way() -> None:
    batches = Batcher(some_pixels(), torch.arange(12), MEAN, STD).epoch(draw_plan(12, 0, 0))
    at_once, labels = batches.batch(0, 12)
    for size in (1, 2, 3, 4, 6):
        pairs = [batches.batch(step, size) for step in range(batches.steps(size))]
        assert torch.equal(torch.cat([images for images, _ in pairs]), at_once)
        assert torch.equal(torch.cat([found for _, found in pairs]), labels)


def test_without_augmentation_images_are_as_they_are() -> None:
    pixels = some_pixels()
    plan = draw_plan(12, 5, 0, augment=False)
    images, _ = Batcher(pixels, torch.arange(12), MEAN, STD).epoch(plan).batch(0, 12)
    assert torch.equal(images, normalize(pixels[plan.order], MEAN, STD))


def test_the_last_partial_batch_is_dropped() -> None:
    batches = Batcher(some_pixels(), torch.arange(12), MEAN, STD).epoch(draw_plan(12, 0, 0))
    assert batches.steps(5) == 2
    for step in (-1, 2):
        with pytest.raises(IndexError, match="of 2 steps of 5 images"):
            batches.batch(step, 5)


def test_normalize_is_its_formula() -> None:
    pixels = some_pixels()
    mean, std = (torch.tensor(c, dtype=torch.float64).view(3, 1, 1) for c in (MEAN, STD))
    want = (pixels.double() / 255 - mean) / std
    torch.testing.assert_close(normalize(pixels, MEAN, STD).double(), want, rtol=0, atol=1e-6)
    assert normalize(pixels, MEAN, STD).is_contiguous()


def test_the_margin_is_zero_after_normalization_to_within_rounding() -> None:
    plan = EpochPlan(*(torch.tensor([v]) for v in (0, 0, 0, 0)))  # the upper left corner
    images, _ = Batcher(some_pixels(1), torch.zeros(1).long(), MEAN, STD).epoch(plan).batch(0, 1)
    half_a_byte = 0.5 / 255 / torch.tensor(STD).view(3, 1, 1)
    assert (images[0, :, :4].abs() <= half_a_byte * 1.001).all()
    assert (images[0, :, :, :4].abs() <= half_a_byte * 1.001).all()


def test_memory_format() -> None:
    pixels, plan = some_pixels(), draw_plan(12, 0, 0)
    usual, _ = Batcher(pixels, torch.arange(12), MEAN, STD).epoch(plan).batch(1, 4)
    batcher = Batcher(pixels, torch.arange(12), MEAN, STD, channels_last=True)
    images, _ = batcher.epoch(plan).batch(1, 4)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, usual)
    tested = normalize(pixels, MEAN, STD, channels_last=True)
    assert tested.is_contiguous(memory_format=torch.channels_last)


def test_streams_are_independent_and_repeatable() -> None:
    triples = [(s, p, e) for s in (0, 1, 11) for p in ("order", "augmentation") for e in (0, 1, 11)]
    drawn = {
        t: tuple(torch.randint(0, 2**31, (4,), generator=stream(*t)).tolist()) for t in triples
    }
    assert len(set(drawn.values())) == len(triples)
    for triple, numbers in drawn.items():
        again = torch.randint(0, 2**31, (4,), generator=stream(*triple))
        assert tuple(again.tolist()) == numbers


def test_drawing_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    draw_plan(10, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_packing_leaves_the_pixels_alone_and_holds_them_all() -> None:
    pixels = some_pixels(2, 5, 7)
    kept = pixels.clone()
    packed = pack(pixels, MEAN)
    assert torch.equal(pixels, kept)
    assert packed.shape == (2, 5 + 2 * PAD, 7 + 2 * PAD)
    unpacked = torch.stack([packed[:, PAD:-PAD, PAD:-PAD] >> bits & 255 for bits in (0, 8, 16)], 1)
    assert torch.equal(unpacked.to(torch.uint8), pixels)
