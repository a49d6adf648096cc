"""A dataset that is a folder of photographs, on a device."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from normbench.data.augment import stream
from normbench.data.held_out import check_validation, held_out
from normbench.data.photos.folder import Photos
from normbench.data.photos.kept import KeptFeed
from normbench.data.photos.streamed import StreamedFeed


@dataclass(frozen=True)
class FolderDataset:
    """What a run trains on: the photographs that can be decoded."""

    photos: Photos

    @property
    def classes(self) -> int:
        """How many classes the folder has."""
        return len(self.photos.tree.classes)

    @property
    def images(self) -> int:
        """How many images there are for training."""
        return len(self.photos.train)

    def with_validation(self, count: int) -> FolderDataset:
        """`count` training images in the place of the test images: see `held_out`."""
        check_validation(self.photos.name, count, self.images)
        stay, out = (part.numpy() for part in held_out(self.images, count))
        train = self.photos.train
        return FolderDataset(replace(self.photos, train=train[stay], test=train[out]))

    def with_test_order(self, seed: int) -> FolderDataset:
        """The test images in a random order."""
        images = torch.from_numpy(self.photos.test)
        order = torch.randperm(len(images), generator=stream(seed, "test", 0))
        return FolderDataset(replace(self.photos, test=images[order].numpy()))

    def on(
        self, device: torch.device | str, *, channels_last: bool = False
    ) -> KeptFeed | StreamedFeed:
        """The batches of both splits on `device`, float32.

        Where decoded pixels are kept, batches are cropped from these on the device; else worker
        processes decode the files anew in each epoch.
        """
        kind = StreamedFeed if self.photos.decoded.pixels is None else KeptFeed
        return kind(self.photos, device, channels_last=channels_last)
