"""CIFAR and the embedded set: every image in memory, each file checked by its SHA-256 before use."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from normbench.data.augment import Batcher, PackedBatches, draw_plan, normalize, stream
from normbench.data.domains import drawn, shown, without_domains
from normbench.data.download import sources
from normbench.data.download.catalogue import Colour, Entry, File, find_entry
from normbench.data.feed import Batch
from normbench.data.held_out import check_validation, held_out
from normbench.errors import FailedError, UserError


@dataclass(frozen=True)
class Split:
    """`pixels` uint8 [N, 3, H, W] and `labels` int64 [N]; `domain` int64 [N], in which of the dataset's
    domains each image is shown, None where it has none."""

    pixels: torch.Tensor
    labels: torch.Tensor
    domain: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> Split:
        """The same images and labels on `device`."""
        domain = None if self.domain is None else self.domain.to(device)
        return Split(self.pixels.to(device), self.labels.to(device), domain)

    def at(self, order: torch.Tensor) -> Split:
        """The images at these positions, in this order."""
        domain = None if self.domain is None else self.domain[order]
        return Split(self.pixels[order], self.labels[order], domain)

    def shown_in(self, domains: Sequence[str]) -> Split:
        """Each image in one of the domains: see `domains`."""
        domain = drawn(len(self.labels), len(domains))
        return replace(self, pixels=shown(self.pixels, domain, domains), domain=domain)


@dataclass(frozen=True)
class Dataset:
    """Both splits; `mean` and `std` per channel (R, G, B) of the training pixels in 0..1, as they were
    before they were shown in `domains`."""

    name: str
    classes: int
    mean: Colour
    std: Colour
    train: Split
    test: Split
    domains: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """How many images there are for training."""
        return len(self.train.labels)

    def in_domains(self, names: tuple[str, ...]) -> Dataset:
        """Each image of both splits in one of these domains; without names as it is."""
        if not names:
            return self
        train, test = self.train.shown_in(names), self.test.shown_in(names)
        return replace(self, train=train, test=test, domains=names)

    def with_validation(self, count: int) -> Dataset:
        """`count` training images in the place of the test images: see `held_out`."""
        check_validation(self.name, count, self.images)
        stay, out = held_out(self.images, count)
        return replace(self, train=self.train.at(stay), test=self.train.at(out))

    def with_test_order(self, seed: int) -> Dataset:
        """The test images in a random order."""
        order = torch.randperm(len(self.test.labels), generator=stream(seed, "test", 0))
        return replace(self, test=self.test.at(order))

    def on(self, device: torch.device | str, *, channels_last: bool = False) -> PackedFeed:
        """The batches of both splits on `device`, float32."""
        return PackedFeed(self, device, channels_last)


class PackedFeed:
    """See `feed.Feed`: all images on the device, test images normalized once."""

    def __init__(self, data: Dataset, device: torch.device | str, channels_last: bool) -> None:
        train, test = data.train.to(device), data.test.to(device)
        colours = data.mean, data.std
        self.batcher = Batcher(train.pixels, train.labels, *colours, channels_last=channels_last)
        self.test_images = normalize(test.pixels, *colours, channels_last)
        self.test_labels = test.labels
        self.images, self.size = data.images, test.pixels.shape[-1]
        self.test_domains: dict[str, torch.Tensor] = {
            name: test.domain == number
            for number, name in enumerate(data.domains)
            if test.domain is not None
        }

    def epoch(self, seed: int, epoch: int, *, augment: bool) -> PackedBatches:
        device = self.test_images.device
        plan = draw_plan(self.images, seed, epoch, augment=augment, device=device)
        return self.batcher.epoch(plan)

    def test(self, at_most: int) -> Iterator[Batch]:
        for first in range(0, len(self.test_labels), at_most):
            batch = slice(first, first + at_most)
            yield self.test_images[batch], self.test_labels[batch]


def load_packed(
    name: str, root: Path | None, source: str | None, options: Mapping[str, Any]
) -> Dataset:
    """The dataset `name` from the package, or from `root`, where its files are brought first.

    See `prepare.load_dataset`. Of the `options` it has `domains`; the first other is a UserError.
    """
    entry = find_entry(name)
    options, domains = without_domains(options)
    for key in options:
        raise UserError(
            f"dataset={name} has no option {key!r}; it has root, source, validation, domains"
        )
    if entry.archive is None and (root is not None or source is not None):
        option, value = ("root", root) if root is not None else ("source", source)
        raise UserError(
            f"dataset.{option}={value}: {name} is part of the package and has no {option}; "
            f"leave dataset.{option} out"
        )
    folder = sources.ensure(name, root=root, source=source)
    train, test = (_read(entry, folder, files) for files in (entry.train, entry.test))
    whole = Dataset(name, entry.classes, entry.mean, entry.std, train, test)
    return whole.in_domains(domains)


def _read(entry: Entry, folder: Path, files: tuple[File, ...]) -> Split:
    """The images of `files`, in their order."""
    contents = [_checked(entry, folder, file) for file in files]
    if entry.archive is None:
        return _mosaic(entry, contents[0])
    size = entry.image_size
    raw = torch.frombuffer(bytearray(b"".join(contents)), dtype=torch.uint8)
    records = raw.view(-1, entry.label_bytes + 3 * size * size)
    labels = records[:, entry.label_bytes - 1].long()  # CIFAR-100: coarse, then fine
    pixels = records[:, entry.label_bytes :].reshape(-1, 3, size, size)
    return Split(pixels.contiguous(), labels)


def _checked(entry: Entry, folder: Path, file: File) -> bytes:
    """The bytes of a file; FailedError if its SHA-256 is wrong."""
    path = folder / file.name
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != file.sha256:
        way_out = (
            "install normbench again"
            if entry.archive is None
            else f"`normbench fetch {entry.name} root={folder}` replaces it"
        )
        raise FailedError(f"{path} is damaged: its SHA-256 is not {file.sha256}; {way_out}")
    return data


def _mosaic(entry: Entry, data: bytes) -> Split:
    """Tiles row by row, class by class, the same number of images in each class."""
    size = entry.image_size
    try:
        image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except UnidentifiedImageError as error:  # the content is right, so it is Pillow
        raise FailedError(
            f"this Pillow cannot read WebP, so not {entry.name}; install one that can"
        ) from error
    rows, columns = image.shape[0] // size, image.shape[1] // size
    tiles = image.reshape(rows, size, columns, size, 3).transpose(0, 2, 4, 1, 3)
    pixels = torch.from_numpy(np.ascontiguousarray(tiles.reshape(-1, 3, size, size)))
    labels = torch.arange(entry.classes).repeat_interleave(len(pixels) // entry.classes)
    return Split(pixels, labels)
