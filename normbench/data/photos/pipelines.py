"""The papers' crops of photographs, drawn for a whole epoch by position, which torchvision's cannot be.

inception: a random part of 8 to 100 % of the area, its aspect between 3/4 and 4/3, resized to the
crop's size, and a random flip (Szegedy et al. 2015, arXiv 1409.4842, section 6; GN, FRN, SN, RBN).
basic: a random crop of the image whose shorter side was resized, and a random flip (Krizhevsky et
al. 2012, section 4.1). centre: the crop in the middle, as all of them test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from normbench.data.augment import stream
from normbench.data.photos.jitter import Jitter, draw_jitter

Pipeline = Literal["inception", "basic", "centre"]
TRIES = 10
AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
TEST_PIXELS = 2**23  # in a batch of test images: 167 images of 224 × 224


@dataclass(frozen=True)
class Crops:
    """What is shown, by position: of image `order[p]` the box (`top`, `left`, `height`, `width`).

    All [N] int64; `flip` is 1 for a mirror. The box is then resized to the network's size. `colour` is
    the jitter of each, if there is any.
    """

    order: Tensor
    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor
    colour: Jitter | None = None

    def at(self, positions: slice) -> Crops:
        """Those at some positions."""
        colour = None if self.colour is None else self.colour.at(positions)
        order, top, left, height, width, flip = (t[positions] for t in self.boxes())
        return Crops(order, top, left, height, width, flip, colour)

    def boxes(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """All but the colour, in their order."""
        return self.order, self.top, self.left, self.height, self.width, self.flip

    def of(self, numbers: Tensor) -> Crops:
        """The same of images that have other `numbers` in a larger set."""
        return replace(self, order=numbers[self.order])


def draw_crops(
    pipeline: Pipeline, sizes: Tensor, crop: int, seed: int, epoch: int, jitter: bool = False
) -> Crops:
    """The crops of epoch `epoch` of the run `seed`, for images of `sizes` [N, 2] (height, width).

    Drawn on the CPU and by position, from the streams of the order and of augmentation: the same
    for every norm, batch size and device.
    """
    count = len(sizes)
    order = torch.randperm(count, generator=stream(seed, "order", epoch))
    if pipeline == "centre":
        return centre(sizes, order, crop)
    chance = stream(seed, "augmentation", epoch)
    flip = torch.randint(0, 2, (count,), generator=chance)
    place = torch.rand(2, count, generator=chance, dtype=torch.float64)
    height, width = sizes[order].unbind(1)
    if pipeline == "inception":
        chances = torch.rand(2, TRIES, count, generator=chance)
        h, w, middle = inception(height, width, chances)
    else:
        h, w = torch.full_like(height, crop), torch.full_like(width, crop)
        middle = torch.zeros(count, dtype=torch.bool)
    top = torch.where(middle, (height - h) // 2, (place[0] * (height - h + 1)).long())
    left = torch.where(middle, (width - w) // 2, (place[1] * (width - w + 1)).long())
    colour = draw_jitter(count, seed, epoch) if jitter else None
    return Crops(order, top, left, h, w, flip, colour)


def inception(height: Tensor, width: Tensor, chance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Height and width of the first of TRIES random boxes that fits into the image.

    Where none does, the largest whose aspect is allowed, and true in the third: it is to lie in the
    middle. `chance` [2, TRIES, N], uniform in 0..1: area, and aspect on a logarithmic scale.
    """
    chance = chance.double()
    area = (AREA[0] + (AREA[1] - AREA[0]) * chance[0]) * (height * width)
    low, high = (math.log(a) for a in ASPECT)
    aspect = (low + (high - low) * chance[1]).exp()
    w, h = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first, none = fits.int().argmax(0, keepdim=True), ~fits.any(0)
    tallest = torch.minimum(height, (width / ASPECT[0]).round().long())
    widest = torch.minimum(width, (height * ASPECT[1]).round().long())
    h, w = h.gather(0, first)[0], w.gather(0, first)[0]
    return torch.where(none, tallest, h), torch.where(none, widest, w), none


def centre(sizes: Tensor, order: Tensor, crop: int) -> Crops:
    """The middle `crop` × `crop` pixels of the images `order`, not mirrored."""
    corner = (
        ((sizes[order] - crop) / 2).round().long()
    )  # halves to even, as torchvision's CenterCrop
    side = torch.full_like(order, crop)
    return Crops(order, corner[:, 0], corner[:, 1], side, side, torch.zeros_like(order))


def test_batch(at_most: int, size: int) -> int:
    """How many test images are shown at a time."""
    return max(1, min(at_most, TEST_PIXELS // size**2))


def resized_sizes(sizes: Tensor, side: int) -> Tensor:
    """[N, 2] after the shorter side was resized to `side`: the arithmetic of `decode.resized`."""
    short, long = sizes.min(1, keepdim=True).values, sizes.max(1, keepdim=True).values
    other = side * long // short
    return torch.where(sizes == short, side, other)
