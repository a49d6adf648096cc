"""dataset.validation: training images that take the place of the test images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from normbench.data import Dataset, dataset_info, load_dataset
from normbench.data.held_out import held_out
from normbench.errors import UserError
from normbench.settings.identity import identity
from normbench.settings.parse import parse


def test_a_permutation_that_is_always_the_same() -> None:
    stay, out = held_out(50, 20)
    assert sorted([*stay.tolist(), *out.tolist()]) == list(range(50))
    assert [len(stay), len(out)] == [30, 20]
    assert out.tolist() == sorted(out.tolist()) != list(range(30, 50))
    torch.manual_seed(1)
    assert torch.equal(held_out(50, 20)[1], out)
    assert set(held_out(50, 5)[1].tolist()) < set(out.tolist())  # fewer are some of them


def test_of_packed_images() -> None:
    """The training images of both parts are those of the whole; the test images are not looked at."""
    whole, parts = load_dataset("cifar10_5k"), load_dataset("cifar10_5k", validation=1000)
    assert isinstance(whole, Dataset) and isinstance(parts, Dataset)
    stay, out = held_out(5000, 1000)
    for part, at in ((parts.train, stay), (parts.test, out)):
        assert torch.equal(part.pixels, whole.train.pixels[at])
        assert torch.equal(part.labels, whole.train.labels[at])
    assert dataset_info("cifar10_5k", {"validation": 1000}) == (10, 4000, 1000, 32)


def shown(batches: Any) -> Tensor:
    return torch.cat([images for images, _ in batches])


def test_of_a_folder(photos: Callable[..., Path]) -> None:
    """The same, by the pixels that its feeds show; then the test images in another order."""
    photos({"train/a": 4, "val/a": 2}, size=(40, 30))
    root = photos({"train/b": 3, "val/b": 3}, size=(26, 50))
    options: dict[str, Any] = {"root": root, "size": 16, "resize": 20}
    whole = load_dataset("folder", **options)
    parts = load_dataset("folder", **options, validation=3)
    _, out = held_out(7, 3)
    assert not isinstance(whole, Dataset) and not isinstance(parts, Dataset)
    assert parts.images == 4
    assert parts.photos.test.tolist() == whole.photos.train[out.numpy()].tolist()
    assert len(shown(parts.on("cpu").test(2))) == 3
    info = dataset_info("folder", {**options, "root": str(root), "validation": 3})
    assert info == (2, 4, 3, 16)
    one, other = (shown(data.on("cpu").test(2)) for data in (whole, whole.with_test_order(0)))
    assert not torch.equal(one, other)
    assert torch.equal(one.flatten(1).sum(1).sort().values, other.flatten(1).sum(1).sort().values)


@pytest.mark.parametrize("count", [5000, -1, True, "many", 0.5])
def test_refused(count: Any) -> None:
    for ask in (load_dataset, lambda name, **options: dataset_info(name, options)):
        with pytest.raises(UserError, match=f"dataset.validation={count!r}: "):
            ask("cifar10_5k", validation=count)


def test_only_in_the_identity_when_it_is_used(composed: Callable[..., dict[str, Any]]) -> None:
    none, some, more = (parse(composed(f"dataset.validation={count}")) for count in (0, 1000, 2000))
    assert "validation" not in none.dataset.options
    assert len({identity(settings) for settings in (none, some, more)}) == 3
