"""dataset.domains: each image in one look, drawn once; the looks by their formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from normbench.data import Dataset, Split, dataset_info, load_dataset
from normbench.data.domains import LOOKS
from normbench.errors import UserError
from normbench.settings.identity import identity
from normbench.settings.parse import parse

EVERY = ["colour", "grey", "edges", "hue"]


def pixels() -> torch.Tensor:
    chance = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (6, 3, 9, 7), generator=chance, dtype=torch.uint8)


def test_the_looks_are_their_formulas() -> None:
    given = pixels()
    red, green, blue = given.double().unbind(1)
    luma = (0.299 * red + 0.587 * green + 0.114 * blue).add(0.5).floor()
    padded = F.pad(luma[:, None], (1, 1, 1, 1), mode="replicate")
    sobel = torch.tensor([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]], dtype=torch.float64)
    slopes = F.conv2d(padded, torch.stack((sobel, sobel.T))[:, None])
    lines = 255 - (slopes.abs().sum(1) / 2).floor().clamp(max=255)
    for name, want in {
        "colour": (red, green, blue),
        "grey": (luma, luma, luma),
        "edges": (lines, lines, lines),
        "hue": (blue, red, green),
    }.items():
        shown = LOOKS[name](given)
        assert shown.dtype == torch.uint8
        assert torch.equal(shown.double(), torch.stack(want, 1)), name
    assert set(LOOKS) == set(EVERY)


def test_each_image_is_in_one_of_them_and_each_has_as_many() -> None:
    plain = load_dataset("cifar10_5k")
    mixed, again = (load_dataset("cifar10_5k", domains=EVERY) for _ in range(2))
    assert isinstance(plain, Dataset) and isinstance(mixed, Dataset) and isinstance(again, Dataset)
    for name in ("train", "test"):
        before, split, same = (getattr(data, name) for data in (plain, mixed, again))
        assert isinstance(split, Split) and split.domain is not None
        assert set(split.domain.bincount().tolist()) == {len(split.labels) // 4}
        assert torch.equal(split.pixels, same.pixels)
        assert torch.equal(split.labels, before.labels)
        for number, look in enumerate(EVERY):
            at = split.domain == number
            assert torch.equal(split.pixels[at], LOOKS[look](before.pixels[at]))
    feed = mixed.on("cpu")
    assert list(feed.test_domains) == EVERY
    assert torch.stack(list(feed.test_domains.values())).sum(0).eq(1).all()
    assert plain.on("cpu").test_domains == {}


def test_images_that_are_held_out_stay_in_their_domain() -> None:
    whole = load_dataset("cifar10_5k", domains=["grey", "edges"])
    parts = load_dataset("cifar10_5k", domains=["grey", "edges"], validation=1000)
    assert isinstance(whole, Dataset) and isinstance(parts, Dataset)
    assert whole.train.domain is not None and parts.test.domain is not None
    for image, domain in zip(parts.test.pixels[:50], parts.test.domain, strict=False):
        (at,) = (whole.train.pixels == image).flatten(1).all(1).nonzero()
        assert whole.train.domain[at] == domain


def test_refused() -> None:
    for wrong in ("grey", ["grey", "grey"], None, ["gray"]):
        for ask in (load_dataset, lambda name, **options: dataset_info(name, options)):
            with pytest.raises(UserError, match=r"dataset\.domains"):
                ask("cifar10_5k", domains=wrong)


def test_only_in_the_identity_when_they_are_used(composed: Callable[..., dict[str, Any]]) -> None:
    none, one, more = (
        parse(composed(f"dataset.domains={some}")) for some in ("[]", "[grey]", "[grey,hue]")
    )
    assert "domains" not in none.dataset.options
    assert len({identity(settings) for settings in (none, one, more)}) == 3


def test_the_gate_of_bin_is_in_the_identity_where_it_is_not_1(
    composed: Callable[..., dict[str, Any]],
) -> None:
    usual, half = (parse(composed("norm=bin", f"norm.gate={gate}")) for gate in (1.0, 0.5))
    assert "gate" not in usual.norm.options
    assert half.norm.options["gate"] == 0.5
