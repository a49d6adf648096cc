"""Datasets as two splits of bytes and labels, each file checked by its SHA-256 before use."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from normbench.data import sources
from normbench.data.augment import Batcher, Epoch, draw_plan, normalize
from normbench.data.catalogue import Colour, Entry, File, entry
from normbench.data.feed import Batch
from normbench.data.folder import FolderDataset, open_folder
from normbench.data.info import FOLDERS
from normbench.errors import FailedError, UserError


@dataclass(frozen=True)
class Split:
    """`pixels` uint8 [N, 3, H, W] and `labels` int64 [N]."""

    pixels: torch.Tensor
    labels: torch.Tensor

    def to(self, device: torch.device | str) -> Split:
        """The same images and labels on `device`."""
        return Split(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """Both splits; `mean` and `std` per channel (R, G, B) of the training pixels in 0..1."""

    name: str
    classes: int
    mean: Colour
    std: Colour
    train: Split
    test: Split

    def on(
        self,
        device: torch.device | str,
        *,
        channels_last: bool = False,
        dtype: torch.dtype | None = None,
    ) -> PackedFeed:
        """The batches of both splits on `device`; dtype None is float32."""
        return PackedFeed(self, device, channels_last, dtype or torch.float32)


class PackedFeed:
    """See `feed.Feed`: all images on the device, test images normalized once."""

    def __init__(
        self, data: Dataset, device: torch.device | str, channels_last: bool, dtype: torch.dtype
    ) -> None:
        train, test = data.train.to(device), data.test.to(device)
        colours = data.mean, data.std
        self.batcher = Batcher(
            train.pixels, train.labels, *colours, dtype=dtype, channels_last=channels_last
        )
        self.test_images = normalize(test.pixels, *colours, dtype, channels_last)
        self.test_labels = test.labels
        self.images = len(train.labels)

    def epoch(self, seed: int, epoch: int, *, augment: bool) -> Epoch:
        device = self.test_images.device
        return self.batcher.epoch(
            draw_plan(self.images, seed, epoch, augment=augment, device=device)
        )

    def test(self, at_most: int) -> Iterator[Batch]:
        for first in range(0, len(self.test_labels), at_most):
            some = slice(first, first + at_most)
            yield self.test_images[some], self.test_labels[some]


def load_dataset(
    name: str, *, root: Path | str | None = None, source: str | None = None, **options: Any
) -> Dataset | FolderDataset:
    """The dataset `name`, with the options of its file in conf/dataset.

    cifar10_5k is part of the package. `root` holds the authors' folder of binary files of cifar10 or
    cifar100 (fine labels), or is that folder; what is not there is downloaded into it, from
    `source` first where that is given (see `sources.ensure`). Folders of images: see `open_folder`.
    An unknown name or option, or a root that is no folder, is a UserError; a damaged file, or one
    that cannot be had, is a FailedError.
    """
    root = None if root is None else Path(root)
    if name in FOLDERS:
        return open_folder(name, {"root": root and str(root), "source": source, **options})
    known = entry(name)
    for key in options:
        raise UserError(f"dataset={name} has no option {key!r}; it has root, source")
    if known.archive is None and (root is not None or source is not None):
        option, value = ("root", root) if root is not None else ("source", source)
        raise UserError(
            f"dataset.{option}={value}: {name} is part of the package and has no {option}; "
            f"leave dataset.{option} out"
        )
    folder = sources.ensure(name, root=root, source=source)
    train, test = (_read(known, folder, files) for files in (known.train, known.test))
    return Dataset(name, known.classes, known.mean, known.std, train, test)


def _read(known: Entry, folder: Path, files: tuple[File, ...]) -> Split:
    """The images of `files`, in their order."""
    contents = [_checked(known, folder, file) for file in files]
    if known.archive is None:
        return _mosaic(known, contents[0])
    size = known.image_size
    raw = torch.frombuffer(bytearray(b"".join(contents)), dtype=torch.uint8)
    records = raw.view(-1, known.label_bytes + 3 * size * size)
    labels = records[:, known.label_bytes - 1].long()  # CIFAR-100: coarse, then fine
    pixels = records[:, known.label_bytes :].reshape(-1, 3, size, size)
    return Split(pixels.contiguous(), labels)


def _checked(known: Entry, folder: Path, file: File) -> bytes:
    """The bytes of a file whose SHA-256 is right."""
    path = folder / file.name
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != file.sha256:
        way_out = (
            "install normbench again"
            if known.archive is None
            else f"`normbench fetch {known.name} --root {folder}` replaces it"
        )
        raise FailedError(f"{path} is damaged: its SHA-256 is not {file.sha256}; {way_out}")
    return data


def _mosaic(known: Entry, data: bytes) -> Split:
    """Tiles row by row, class by class, the same number of images in each class."""
    size = known.image_size
    try:
        image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except UnidentifiedImageError as error:  # the content is right, so it is Pillow
        raise FailedError(
            f"this Pillow cannot read WebP, so not {known.name}; install one that can"
        ) from error
    rows, columns = image.shape[0] // size, image.shape[1] // size
    tiles = image.reshape(rows, size, columns, size, 3).transpose(0, 2, 4, 1, 3)
    pixels = torch.from_numpy(np.ascontiguousarray(tiles.reshape(-1, 3, size, size)))
    labels = torch.arange(known.classes).repeat_interleave(len(pixels) // known.classes)
    return Split(pixels, labels)
