"""A folder of photographs from its files to batches: both paths, planted faults, one decoding."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from normbench.data import FolderDataset, load_dataset
from normbench.data.augment import normalize
from normbench.data.download.catalogue import IMAGENET_MEAN, IMAGENET_STD
from normbench.data.feed import Feed
from normbench.data.photos import decoded, folder
from normbench.data.photos import root as roots
from normbench.data.photos.decode import Decoders, Fault, Place, cores, decode
from normbench.data.photos.folder import open_photos
from normbench.data.photos.kept import KeptFeed
from normbench.data.photos.pipelines import test_batch
from normbench.data.photos.streamed import StreamedFeed
from normbench.data.photos.tree import read_tree
from normbench.errors import FailedError, UserError
from normbench.settings.content import listing

MakePhotos = Callable[..., Path]
SIZE = 16
test_batch.__test__ = False  # type: ignore[attr-defined]


def load(root: Path, **options: Any) -> FolderDataset:
    data = load_dataset("folder", root=root, **{"size": SIZE, "resize": 20, **options})
    assert isinstance(data, FolderDataset)
    return data


@pytest.fixture
def root(photos: MakePhotos) -> Path:
    """7 + 5 photographs, some upright, some across."""
    photos({"train/a": 4, "val/a": 2}, size=(40, 30))
    return photos({"train/b": 3, "val/b": 3}, size=(26, 50))


def picture(path: Path | str) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def whole_epoch(
    feed: Feed, size: int, epoch: int = 0, augment: bool = True
) -> tuple[Tensor, Tensor]:
    shown = feed.epoch(0, epoch, augment=augment)
    pairs = [shown.batch(step, size) for step in range(shown.steps(size))]
    return torch.cat([images for images, _ in pairs]), torch.cat([labels for _, labels in pairs])


def test_the_test_set_is_the_papers_in_both_paths(root: Path) -> None:
    """Resize, centre crop, normalize, of torchvision on Pillow images; each image once."""
    wanted = []
    for name in ("a/0", "a/1", "b/0", "b/1", "b/2"):
        image = picture(root / "val" / f"{name}.jpg")
        crop = functional.center_crop(functional.resize(image, [20]), [SIZE])
        wanted.append(torch.from_numpy(np.array(crop)).permute(2, 0, 1))
    expected = normalize(torch.stack(wanted), IMAGENET_MEAN, IMAGENET_STD)
    for cache in (True, False):
        batches = list(load(root, cache=cache).on("cpu").test(2))
        assert [len(labels) for _, labels in batches] == [2, 2, 1]
        assert torch.equal(torch.cat([images for images, _ in batches]), expected)
        assert torch.cat([labels for _, labels in batches]).tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("augmentation", ["inception", "basic"])
def test_an_epoch_is_the_same_at_every_batch_size(
    root: Path, cache: bool, augmentation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load(root, cache=cache, augmentation=augmentation)
    feed = data.on("cpu")
    images, labels = whole_epoch(feed, 1)
    assert images.shape == (7, 3, SIZE, SIZE)
    assert sorted(labels.tolist()) == [0, 0, 0, 0, 1, 1, 1]
    few, some = whole_epoch(feed, 3)
    assert torch.equal(few, images[:6])
    assert torch.equal(some, labels[:6])
    monkeypatch.setenv("NORMBENCH_DECODERS", "2")
    again = whole_epoch(load(root, cache=cache, augmentation=augmentation).on("cpu"), 1)[0]
    assert torch.equal(again, images)
    assert not torch.equal(whole_epoch(feed, 1, epoch=1)[0], images)


@pytest.mark.parametrize("cache", [True, False])
def test_colour_jitter_is_of_training_images_and_each_has_its_own(root: Path, cache: bool) -> None:
    plain, jittered = (load(root, cache=cache, color_jitter=j).on("cpu") for j in (False, True))
    for (before, _), (after, _) in zip(plain.test(2), jittered.test(2), strict=True):
        assert torch.equal(before, after)
    assert torch.equal(*(whole_epoch(f, 7, augment=False)[0] for f in (plain, jittered)))
    one_by_one, images = whole_epoch(jittered, 1)[0], whole_epoch(jittered, 7)[0]
    torch.testing.assert_close(one_by_one, images)
    ratio = images.std((1, 2, 3)) / whole_epoch(plain, 7)[0].std((1, 2, 3))
    assert len(set(ratio.tolist())) == 7
    assert (ratio - 1).abs().max() > 0.05


def test_the_two_paths_show_nearly_the_same(root: Path) -> None:
    """Basic crops are equal; random resized ones are of the resized image and of the original."""
    for augmentation, most in (("basic", 0.0), ("inception", 0.5)):
        kept, streamed = (
            whole_epoch(load(root, cache=c, augmentation=augmentation).on("cpu"), 7)[0]
            for c in (True, False)
        )
        away = (kept - streamed).abs().mean()
        assert away <= most, away
        assert (away == 0) == (augmentation == "basic")


def test_a_streamed_crop_is_the_exact_pipeline(root: Path) -> None:
    data = load(root, cache=False)
    shown: Any = data.on("cpu").epoch(0, 0, augment=True)
    images, _ = shown.batch(0, 7)
    fields = zip(images, *(t.tolist() for t in shown.crops.boxes()), strict=True)
    for image, order, top, left, height, width, flip in fields:
        opened = picture(data.photos.tree.images[order].path)
        crop = functional.resized_crop(opened, top, left, height, width, [SIZE, SIZE])
        crop = functional.hflip(crop) if flip else crop
        pixels = torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None]
        assert torch.equal(image[None], normalize(pixels, IMAGENET_MEAN, IMAGENET_STD))


@pytest.mark.parametrize("cache", [True, False])
def test_without_augmentation_training_images_are_test_crops(root: Path, cache: bool) -> None:
    feed = load(root, cache=cache).on("cpu")
    shown = feed.epoch(0, 0, augment=False)
    image = picture(root / "train/b/0.jpg")
    crop = functional.center_crop(functional.resize(image, [20]), [SIZE])
    pixels = torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None]
    wanted = normalize(pixels, IMAGENET_MEAN, IMAGENET_STD)
    assert any(torch.equal(wanted, shown.batch(step, 1)[0]) for step in range(7))


@pytest.mark.parametrize("cache", [True, False])
def test_steps_in_any_order(root: Path, cache: bool) -> None:
    shown = load(root, cache=cache).on("cpu").epoch(0, 0, augment=True)
    in_order = [shown.batch(step, 2)[0] for step in range(3)]
    for step in (2, 0, 1, 1):
        assert torch.equal(shown.batch(step, 2)[0], in_order[step])
    for step in (-1, 3):
        with pytest.raises(IndexError, match="of 3 steps of 2 images"):
            shown.batch(step, 2)


@pytest.mark.parametrize("cache", [True, False])
def test_memory_format(root: Path, cache: bool) -> None:
    data = load(root, cache=cache)
    usual = data.on("cpu").epoch(0, 0, augment=True).batch(0, 4)[0]
    feed = data.on("cpu", channels_last=True)
    images, labels = feed.epoch(0, 0, augment=True).batch(0, 4)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert usual.is_contiguous()
    assert torch.equal(images, usual)


def test_a_tar_gives_the_same(root: Path, tar_of: Callable[[Path], Path]) -> None:
    path = tar_of(root)
    for cache in (True, False):
        one, other = (load(where, cache=cache).on("cpu") for where in (root, path))
        assert torch.equal(whole_epoch(one, 7)[0], whole_epoch(other, 7)[0])


def plant(root: Path) -> None:
    """One of each fault in the class a of train."""
    place = root / "train" / "a"
    (place / "text.jpg").write_text("no image")
    whole = (place / "0.jpg").read_bytes()
    (place / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (1, 1)).save(place / "tiny.png")
    picture(place / "1.jpg").convert("L").save(place / "grey.jpg")
    picture(place / "1.jpg").convert("CMYK").save(place / "cmyk.jpg")


@pytest.mark.parametrize("cache", [True, False])
def test_planted_faults_are_named_and_left_out(
    root: Path, cache: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(root)
    data = load(root, cache=cache)
    said = capsys.readouterr().err
    assert said.startswith("normbench: folder: left out 3 of 17 files (")
    assert said.count("\n") == 1
    assert "train/a/text.jpg: not an image; " in said
    assert "train/a/tiny.png: 1 × 1 pixels; " in said
    assert "train/a/truncated.jpg: " in said
    assert len(data.photos.train) == 9
    images, labels = whole_epoch(data.on("cpu"), 9)
    assert labels.bincount().tolist() == [6, 3]
    assert images.isfinite().all()
    assert sum(len(labels) for _, labels in data.on("cpu").test(3)) == 5
    load(root, cache=cache)
    assert capsys.readouterr().err == said  # also where it was decoded before


def test_many_faults_are_in_a_file(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(8):
        (root / "train" / "a" / f"bad{i}.jpg").write_text("no image")
    data = load(root)
    said = capsys.readouterr().err
    assert said.count("not an image") == folder.FAULTS_NAMED
    assert f"3 more in {data.photos.decoded.folder / 'faults.json'}" in said
    assert "bad7.jpg" in (data.photos.decoded.folder / "faults.json").read_text()


@pytest.mark.parametrize("split", ["train", "val"])
def test_nothing_left_is_refused(root: Path, split: str) -> None:
    for path in (root / split).glob("*/*.jpg"):
        path.write_text("no image")
    what = "class 'a' for training" if split == "train" else "test set"
    message = f"no image of the {what} can be decoded .*{split}/a/0.jpg: not an image"
    with pytest.raises(UserError, match=message):
        load(root)


def test_the_note_of_a_drawn_test_set(
    photos: MakePhotos, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load(photos({"train/a": 10, "train/b": 10}), val_fraction=0.2)
    assert "4 images, 20 % of each class of train, drawn" in capsys.readouterr().err
    assert (len(data.photos.train), len(data.photos.test)) == (16, 4)


def test_decoded_once_and_used_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(root, cache=True)
    monkeypatch.setattr(decoded, "_make", None)  # would fail
    copy = shutil.copytree(root, root.with_name("copy"))  # keeps times: the same by its key
    for again in (load(root, cache=True), load(copy, cache=True)):
        assert again.photos.decoded.folder == first.photos.decoded.folder
    (root / "train/a/0.jpg").write_bytes((root / "train/a/1.jpg").read_bytes())
    listing.cache_clear()
    read_tree.cache_clear()
    with pytest.raises(TypeError):
        load(root, cache=True)
    with pytest.raises(TypeError):
        load(copy, cache=True, resize=24)


def test_those_who_want_it_at_once_make_it_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, real = [], decoded._make

    def count(*given: Any) -> None:
        made.append(1)
        real(*given)

    monkeypatch.setattr(decoded, "_make", count)
    threads = [
        threading.Thread(target=load, args=(root,), kwargs={"cache": True}) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_an_interrupted_decoding_leaves_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        load(root, cache=True)
    left = [path.name for path in (tmp_path / "cache" / "decoded").iterdir()]
    assert [name for name in left if not name.endswith(".lock")] == []


def test_a_disk_that_cannot_be_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(FailedError, match=r"No space left.*NORMBENCH_DATA.*dataset\.cache=false"):
        load(root, cache=True)


def test_auto_keeps_what_fits(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept once stays in use: a run that goes on sees the same pixels."""
    assert load(root).photos.decoded.pixels is not None
    assert isinstance(load(root).on("cpu"), KeptFeed)
    assert not folder.fits(2_000_000_000, 256)
    monkeypatch.setattr(folder, "fits", lambda images, side: False)
    assert load(root).photos.decoded.pixels is not None
    assert load(root, resize=21).photos.decoded.pixels is None
    assert isinstance(load(root, resize=21).on("cpu"), StreamedFeed)
    assert load(root, resize=21, cache=True).photos.decoded.pixels is not None


def test_test_batches_are_smaller_where_images_are_larger() -> None:
    assert [test_batch(500, size) for size in (32, 112, 224, 299, 5000)] == [500, 500, 167, 93, 1]


def test_a_dying_worker_is_a_failure_with_a_way_out() -> None:
    with Decoders(1) as decoders, pytest.raises(FailedError, match="NORMBENCH_DECODERS"):
        list(decoders.map(os._exit, [1]))


def test_results_come_in_the_order_of_the_tasks(root: Path) -> None:
    places = [Place(str(path), 0, path.stat().st_size) for path in sorted(root.glob("*/*/*"))]
    with Decoders(2) as decoders:
        found = [
            image.size for image in decoders.map(decode, places) if not isinstance(image, Fault)
        ]
        assert found == [picture(place.path).size for place in places]
        some = decoders.map(decode, places)
        next(some)
        some.close()  # type: ignore[attr-defined]
        assert len(list(decoders.map(decode, places))) == len(places)
    assert not [p for p in multiprocessing.active_children() if p.is_alive()]


def test_how_many_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMBENCH_DECODERS", "3")
    assert cores() == 3
    monkeypatch.setenv("NORMBENCH_DECODERS", "0")
    with pytest.raises(UserError, match="NORMBENCH_DECODERS=0: must be a whole number"):
        cores()
    monkeypatch.delenv("NORMBENCH_DECODERS")
    assert cores() >= 1


def test_an_own_class_list(photos: MakePhotos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "imagenet100_classes", lambda: ("c", "a"))
    monkeypatch.setitem(roots.OWN_CLASSES, "imagenet100", 2)
    counts = {f"{split}/{c}": 2 for split in ("train", "val") for c in "abc"}
    opened = open_photos("imagenet100", {"root": str(photos(counts)), "size": SIZE})
    assert opened.tree.classes == ("a", "c")
    assert (len(opened.train), len(opened.test)) == (4, 4)


def test_feeds_are_of_the_dataset_that_was_loaded(root: Path) -> None:
    data = load(root)
    assert (data.classes, data.photos.name, data.images) == (2, "folder", 7)
    fewer = dataclasses.replace(data.photos, train=data.photos.train[:3])
    assert FolderDataset(fewer).on("cpu").images == 3
