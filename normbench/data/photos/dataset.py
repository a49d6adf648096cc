"""A dataset that is a folder of photographs, on a device."""

from __future__ import annotations

from dataclasses import dataclass

import torch

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

    def on(
        self, device: torch.device | str, *, channels_last: bool = False
    ) -> KeptFeed | StreamedFeed:
        """The batches of both splits on `device`, float32.

        Where decoded pixels are kept, batches are cropped from these on the device; else worker
        processes decode the files anew in each epoch.
        """
        kind = StreamedFeed if self.photos.decoded.pixels is None else KeptFeed
        return kind(self.photos, device, channels_last=channels_last)
