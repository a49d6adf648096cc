"""Datasets as two splits of bytes and labels, each file checked by its SHA-256 before use."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from normbench.data import sources
from normbench.data.catalogue import Colour, Entry, File, dataset_info, entry
from normbench.errors import FailedError, UserError

__all__ = ["Dataset", "Split", "dataset_info", "load_dataset"]


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


def load_dataset(name: str, *, root: Path | None = None, source: str | None = None) -> Dataset:
    """The dataset `name`: cifar10_5k (part of the package), cifar10 or cifar100 (fine labels).

    `root` holds the authors' folder of binary files, or is that folder; files that are not there
    are downloaded into it, from `source` first where that is given (see `sources.ensure`).
    An unknown name or a root that is no folder is a UserError; a damaged file, or one that cannot
    be had, is a FailedError.
    """
    known = entry(name)
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
