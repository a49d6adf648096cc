"""The factories as fixtures, and a small network of each kind."""

from __future__ import annotations

import pytest

from .factories import BatchNorms, OddNorms

SMALL = {
    "resnet": {"depth": 8},
    "preresnet": {"depth": 8},
    "wrn": {"depth": 10, "width": 1},
    "vgg": {"hidden": 16},
    "imagenet_resnet": {"depth": 18},
}


@pytest.fixture
def norms() -> BatchNorms:
    return BatchNorms()


@pytest.fixture
def odd_norms() -> OddNorms:
    return OddNorms()


@pytest.fixture(params=SMALL)
def small(request: pytest.FixtureRequest) -> tuple[str, dict[str, int]]:
    """Name and options of a small network of each kind."""
    return request.param, SMALL[request.param]
