"""Batches decoded anew in each epoch by worker processes, which training and testing share.

The pipelines are exact, Pillow's arithmetic as in torchvision on Pillow images. Boxes are drawn in
the parent, by position: how many workers there are, and how the epoch is cut into tasks, changes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from normbench.data.augment import affine, finish
from normbench.data.download.catalogue import IMAGENET_MEAN, IMAGENET_STD
from normbench.data.feed import Batch, EpochBatches
from normbench.data.photos.decode import Decoders, Request, cores, cut
from normbench.data.photos.folder import Photos
from normbench.data.photos.jitter import jittered
from normbench.data.photos.pipelines import (
    Crops,
    centre,
    draw_crops,
    resized_sizes,
    test_batch,
)

CHUNK = 16  # images a worker is given at a time


class StreamedFeed:
    """See `feed.Feed`."""

    def __init__(self, photos: Photos, device: torch.device | str, *, channels_last: bool) -> None:
        self.photos, self.device, self.channels_last = photos, torch.device(device), channels_last
        self.size, self.images = photos.options.size, len(photos.train)
        self.sizes = torch.from_numpy(photos.decoded.index)[:, 1:]
        self.labels = torch.tensor(photos.tree.labels)
        self.train, self.test_ = torch.from_numpy(photos.train), torch.from_numpy(photos.test)
        self.test_domains: dict[str, torch.Tensor] = {}
        self.scale, self.shift = affine(IMAGENET_MEAN, IMAGENET_STD, self.device)
        self.decoders = Decoders(cores())

    def epoch(self, seed: int, epoch: int, *, augment: bool) -> StreamedBatches:
        options = self.photos.options
        pipeline = options.augmentation if augment else "centre"
        jitter = augment and options.color_jitter
        sizes, side = self.sizes[self.train], None
        if pipeline != "inception":
            side = options.side
            sizes = resized_sizes(sizes, side)
        crops = draw_crops(pipeline, sizes, self.size, seed, epoch, jitter)
        return StreamedBatches(self, crops.of(self.train), side)

    def test(self, at_most: int) -> Iterator[Batch]:
        side = self.photos.options.side
        sizes = resized_sizes(self.sizes[self.test_], side)
        crops = centre(sizes, torch.arange(len(sizes)), self.size).of(self.test_)
        return self.batches(crops, side, test_batch(at_most, self.size))

    def batches(self, crops: Crops, side: int | None, size: int, every: int = 1) -> Iterator[Batch]:
        """All of `crops` in batches of `size`, the last one as it comes; or one in `every` of them."""
        starts = range(0, len(crops.order), every * size)
        batches = [crops.at(slice(start, start + size)) for start in starts]
        requests = (
            self.request(batch.at(slice(first, first + CHUNK)), side)
            for batch in batches
            for first in range(0, len(batch.order), CHUNK)
        )
        decoded = self.decoders.map(cut, requests)
        for batch in batches:
            parts = [next(decoded) for _ in range(0, len(batch.order), CHUNK)]
            values = torch.from_numpy(np.concatenate(parts)).to(self.device).permute(0, 3, 1, 2)
            if batch.colour is not None:
                values = jittered(values.float(), batch.colour)
            images = finish(values, self.scale, self.shift, self.channels_last)
            yield images, self.labels[batch.order].to(self.device)

    def request(self, crops: Crops, side: int | None) -> Request:
        """What a worker is told."""
        files = [self.photos.tree.images[i] for i in crops.order.tolist()]
        boxes = torch.stack([crops.left, crops.top, crops.width, crops.height, crops.flip], 1)
        places = [(file.path, file.offset, file.size) for file in files]
        return Request(places, boxes.tolist(), side, self.size)


class StreamedBatches(EpochBatches):
    """See `feed.EpochBatches`: a step that is not the next one begins the stream anew from there."""

    def __init__(self, feed: StreamedFeed, crops: Crops, side: int | None) -> None:
        self.feed, self.crops, self.side = feed, crops, side
        self.next: tuple[int, int] | None = None
        self.coming: Iterator[Batch] = iter(())

    def steps(self, size: int) -> int:
        return len(self.crops.order) // size

    def batch(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        self.check_step(step, size)
        if self.next != (step, size):
            rest = self.crops.at(slice(step * size, self.steps(size) * size))
            self.coming = self.feed.batches(rest, self.side, size, self.stride)
        self.next = step + self.stride, size
        return next(self.coming)
