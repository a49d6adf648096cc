"""Loading: the embedded set, the authors' layout, and what is said of a wrong name or root."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from normbench.data import packed
from normbench.data.augment import Batcher, draw_plan, normalize
from normbench.data.download import catalogue, sources
from normbench.data.download.catalogue import DATASETS
from normbench.data.info import dataset_info
from normbench.data.prepare import load_dataset
from normbench.errors import FailedError, UserError


@pytest.fixture(scope="module")
def embedded() -> packed.Dataset:
    data = load_dataset("cifar10_5k")
    assert isinstance(data, packed.Dataset)
    return data


def test_embedded_set_has_so_many_of_each_class(embedded: packed.Dataset) -> None:
    for split, per_class in ((embedded.train, 500), (embedded.test, 200)):
        assert split.labels.dtype == torch.int64
        assert split.labels.bincount().tolist() == [per_class] * 10
        assert split.pixels.dtype == torch.uint8
        assert split.pixels.shape == (10 * per_class, 3, 32, 32)
        assert split.pixels.is_contiguous()


def test_embedded_pixels_are_the_authors(embedded: packed.Dataset) -> None:
    """The SHA-256 of all pixels, [N, 3, 32, 32], as they were taken from the authors' files."""
    sums = {
        "train": "f5ea761c9f1430ed4b9e785006b032358f1e95a7a94ef58cb1a7576c76f8fa25",
        "test": "41b0b4b5b09974de20ac9556a2f3cd2d97f2ee810436b4afd0feade6d5f1ba31",
    }
    for name, want in sums.items():
        pixels = getattr(embedded, name).pixels
        assert hashlib.sha256(pixels.numpy().tobytes()).hexdigest() == want


def test_no_image_is_taken_twice(embedded: packed.Dataset) -> None:
    distinct = torch.unique(embedded.train.pixels.flatten(1), dim=0)
    assert len(distinct) == 5_000


def test_colours_are_those_of_the_training_pixels(embedded: packed.Dataset) -> None:
    planes = embedded.train.pixels.transpose(0, 1).flatten(1).double() / 255
    assert planes.mean(1).tolist() == pytest.approx(embedded.mean, abs=6e-5)
    assert planes.std(1).tolist() == pytest.approx(embedded.std, abs=6e-5)


def test_dataset_info_agrees_with_what_is_loaded(embedded: packed.Dataset) -> None:
    sizes = len(embedded.train.labels), len(embedded.test.labels)
    assert dataset_info("cifar10_5k") == (embedded.classes, *sizes, 32)
    assert dataset_info("cifar10") == (10, 50_000, 10_000, 32)
    assert dataset_info("cifar100") == (100, 50_000, 10_000, 32)


def test_sizes_of_the_files_are_those_of_the_images() -> None:
    for known in (catalogue.CIFAR10, catalogue.CIFAR100):
        record = known.label_bytes + 3 * known.image_size**2
        assert sum(file.size for file in known.train) == known.train_images * record
        assert sum(file.size for file in known.test) == known.test_images * record


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_embedded_file_is_refused(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "embedded"
    shutil.copytree(sources.locate(DATASETS["cifar10_5k"], None), copy)
    path = copy / "test.webp"
    data = bytearray(path.read_bytes())
    if damage == "changed":
        data[len(data) // 2] ^= 1
    path.write_bytes(data[: -1 if damage == "cut" else None])
    if damage == "gone":
        path.unlink()
    monkeypatch.setattr(sources, "locate", lambda known, root: copy)
    with pytest.raises(FailedError, match=r"test\.webp is damaged.*install normbench again"):
        load_dataset("cifar10_5k")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_authors_file_is_as_it_should_be_or_refused(
    tmp_path: Path, small: Any, data: st.DataObject
) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir(exist_ok=True)
    for name, content in small.contents.items():
        (folder / name).write_bytes(content)
    name = data.draw(st.sampled_from(sorted(small.contents)))
    whole = small.contents[name]
    cut = data.draw(st.integers(0, len(whole)))
    wrong = (
        whole[:cut]
        + data.draw(st.binary(max_size=40))
        + whole[cut + data.draw(st.integers(0, 9)) :]
    )
    (folder / name).write_bytes(wrong)
    if wrong == whole:
        load_dataset("cifar10", root=folder)
    else:
        with pytest.raises(FailedError, match="damaged") as error:
            load_dataset("cifar10", root=folder)
        assert "\n" not in str(error.value)


def test_unknown_name() -> None:
    with pytest.raises(UserError, match="unknown dataset 'cifra10', did you mean 'cifar10'") as e:
        load_dataset("cifra10")
    assert "cifar10_5k, cifar10, cifar100" in str(e.value)
    with pytest.raises(UserError, match="unknown dataset 'mnist'"):
        dataset_info("mnist")


@pytest.mark.parametrize("option", [{"root": Path(".")}, {"source": "x.tar.gz"}])
def test_the_embedded_set_takes_no_root_and_no_source(option: dict[str, object]) -> None:
    with pytest.raises(UserError, match="is part of the package"):
        load_dataset("cifar10_5k", **option)  # type: ignore[arg-type]


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    root = tmp_path / "nowhere"
    with pytest.raises(UserError, match=r"dataset\.root=.*nowhere.*leave dataset\.root out"):
        load_dataset("cifar10", root=root)
    assert not root.exists()
    root.write_text("a file")
    with pytest.raises(UserError, match="there is no such folder"):
        load_dataset("cifar10", root=root)


def test_authors_layout(tmp_path: Path, small: Any, site: Any) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name, data in small.contents.items():
        (folder / name).write_bytes(data)
    for root in (tmp_path, folder):
        loaded = load_dataset("cifar10", root=root)
        for split, files in ((loaded.train, small.entry.train), (loaded.test, small.entry.test)):
            records = b"".join(small.contents[file.name] for file in files)
            for i in range(len(split.labels)):
                record = records[3073 * i : 3073 * (i + 1)]
                assert split.labels[i] == record[0]
                assert split.pixels[i].numpy().tobytes() == record[1:]
    assert not site.asked


def test_cifar100_takes_the_fine_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = {"train.bin": bytes([7, 99]) + bytes(3072), "test.bin": bytes([3, 55]) + bytes(3072)}
    files = {
        name: (catalogue.File(name, len(data), hashlib.sha256(data).hexdigest()),)
        for name, data in records.items()
    }
    known = dataclasses.replace(
        catalogue.CIFAR100, train=files["train.bin"], test=files["test.bin"]
    )
    monkeypatch.setitem(DATASETS, "cifar100", known)
    for name, data in records.items():
        (tmp_path / name).write_bytes(data)
    loaded = load_dataset("cifar100", root=tmp_path)
    assert loaded.train.labels.tolist() == [99]
    assert loaded.test.labels.tolist() == [55]


def test_a_damaged_file_is_not_read_and_not_overwritten(
    tmp_path: Path, small: Any, site: Any
) -> None:
    load_dataset("cifar10", root=tmp_path)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(FailedError, match=r"data_batch_3\.bin is damaged.*normbench fetch cifar10"):
        load_dataset("cifar10", root=tmp_path)
    assert not any(path.read_bytes())
    assert len(site.asked) == 1


def test_the_feed_is_the_batcher_and_the_normalized_test_set(embedded: packed.Dataset) -> None:
    feed = embedded.on("cpu", channels_last=True)
    split, colours = embedded.train, (embedded.mean, embedded.std)
    batcher = Batcher(split.pixels, split.labels, *colours, channels_last=True)
    for augment in (True, False):
        wanted = batcher.epoch(draw_plan(5_000, 3, 2, augment=augment))
        shown = feed.epoch(3, 2, augment=augment)
        assert feed.images == 5_000
        assert shown.steps(64) == wanted.steps(64)
        for one, other in zip(shown.batch(7, 64), wanted.batch(7, 64), strict=True):
            assert torch.equal(one, other)
    batches = list(feed.test(700))
    assert [len(labels) for _, labels in batches] == [700, 700, 600]
    images = torch.cat([some for some, _ in batches])
    assert torch.equal(images, normalize(embedded.test.pixels, *colours))
    assert torch.equal(torch.cat([labels for _, labels in batches]), embedded.test.labels)


def test_an_option_that_it_does_not_have() -> None:
    with pytest.raises(UserError, match="dataset=cifar10_5k has no option 'size'"):
        load_dataset("cifar10_5k", size=64)


def test_split_moves_both_tensors(embedded: packed.Dataset) -> None:
    moved = embedded.test.to("meta")
    assert moved.pixels.device.type == moved.labels.device.type == "meta"


def test_fetch_starts_without_torch() -> None:
    code = (
        "import sys, normbench.data.download.fetch\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules), 'imported'"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
