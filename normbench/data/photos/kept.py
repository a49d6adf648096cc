"""Batches from decoded images that are kept: memory-mapped, or on the GPU where they fit.

Their shorter side has `dataset.resize` pixels. Test crops and the basic pipeline are thereby exact;
a random resized crop is taken from the resized image, where the exact pipeline takes it from the
original: a small one is less sharp, and of an image that is no larger it is the same to one level
of 255 (torch's rounding against Pillow's).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from normbench.data.augment import affine, finish
from normbench.data.download.catalogue import IMAGENET_MEAN, IMAGENET_STD
from normbench.data.feed import Batch, EpochBatches
from normbench.data.photos.folder import Photos
from normbench.data.photos.jitter import jittered
from normbench.data.photos.pipelines import Crops, centre, draw_crops, test_batch
from normbench.data.photos.resample import Pixels


class KeptFeed:
    """See `feed.Feed`. Batches lie on `device`; crops are made where the decoded images lie."""

    def __init__(self, photos: Photos, device: torch.device | str, *, channels_last: bool) -> None:
        self.photos, self.device, self.channels_last = photos, torch.device(device), channels_last
        self.size, self.images = photos.options.size, len(photos.train)
        index = torch.from_numpy(photos.decoded.index)
        self.sizes = index[:, 1:]
        count, file = int(3 * self.sizes.prod(1).sum()), str(photos.decoded.pixels)
        stored = torch.from_file(file, shared=False, size=count, dtype=torch.uint8)
        self.pixels = Pixels(stored.to(self.home(count)), index)
        self.labels = torch.tensor(photos.tree.labels)
        self.train, self.test_ = torch.from_numpy(photos.train), torch.from_numpy(photos.test)
        self.test_domains: dict[str, torch.Tensor] = {}
        self.scale, self.shift = affine(IMAGENET_MEAN, IMAGENET_STD, self.device)

    def home(self, needed: int) -> torch.device:
        """The device, if so many bytes take at most half of what is free there; else the CPU."""
        if self.device.type == "cuda" and needed > torch.cuda.mem_get_info(self.device)[0] // 2:
            return torch.device("cpu")
        return self.device

    def epoch(self, seed: int, epoch: int, *, augment: bool) -> KeptBatches:
        options = self.photos.options
        pipeline = options.augmentation if augment else "centre"
        jitter = augment and options.color_jitter
        crops = draw_crops(pipeline, self.sizes[self.train], self.size, seed, epoch, jitter)
        return KeptBatches(self, crops.of(self.train))

    def test(self, at_most: int) -> Iterator[Batch]:
        size = test_batch(at_most, self.size)
        crops = centre(self.sizes, self.test_, self.size)
        for first in range(0, len(self.test_), size):
            yield self.show(crops.at(slice(first, first + size)))

    def show(self, crops: Crops) -> Batch:
        values = self.pixels.crop(crops, self.size).to(self.device)
        if crops.colour is not None:
            values = jittered(values.float(), crops.colour)
        images = finish(values, self.scale, self.shift, self.channels_last)
        return images, self.labels[crops.order].to(self.device)


class KeptBatches(EpochBatches):
    """See `feed.EpochBatches`."""

    def __init__(self, feed: KeptFeed, crops: Crops) -> None:
        self.feed, self.crops = feed, crops

    def steps(self, size: int) -> int:
        return len(self.crops.order) // size

    def batch(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        self.check_step(step, size)
        return self.feed.show(self.crops.at(slice(step * size, (step + 1) * size)))
