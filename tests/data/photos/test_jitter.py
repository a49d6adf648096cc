"""Colour jitter as one affine map of RGB against fb.resnet.torch's steps, one image at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.data.photos.jitter import (
    COMPONENTS,
    EIGENVALUES,
    GREY,
    Jitter,
    draw_jitter,
    jittered,
)


def grey(image: Tensor) -> Tensor:
    return sum(w * c for w, c in zip(GREY, image, strict=True)).expand(3, -1, -1)


def step_by_step(image: Tensor, alpha: Tensor, order: Tensor, light: Tensor) -> Tensor:
    """ColorJitter and Lighting as they are written there, of an image [3, H, W] in 0..1."""
    for kind in order.tolist():
        other = [torch.zeros_like(image), grey(image).mean() + 0 * image, grey(image)][kind]
        image = alpha[kind] * image + (1 - alpha[kind]) * other
    rgb = torch.tensor(COMPONENTS) * light.expand(3, 3) * torch.tensor(EIGENVALUES).expand(3, 3)
    return image + rgb.sum(1)[:, None, None]


def test_the_map_is_all_the_steps() -> None:
    count = 50
    images = torch.rand(count, 3, 5, 7, generator=torch.Generator().manual_seed(0)) * 255
    jitter = draw_jitter(count, 3, 1)
    rows = zip(images / 255, jitter.alpha, jitter.order, jitter.light, strict=True)
    expected = torch.stack([step_by_step(*row) for row in rows])
    torch.testing.assert_close(jittered(images, jitter) / 255, expected, rtol=1e-5, atol=1e-5)
    assert len({tuple(o.tolist()) for o in jitter.order}) == 6


def test_what_is_drawn() -> None:
    jitter = draw_jitter(20_000, 0, 0)
    assert (jitter.alpha.min() - 0.6).abs() < 1e-3
    assert (jitter.alpha.max() - 1.4).abs() < 1e-3
    assert (jitter.alpha.mean() - 1).abs() < 1e-2
    assert (jitter.light.std() - 0.1).abs() < 1e-2
    first = jitter.order[:, 0].bincount() / 20_000
    assert (first - 1 / 3).abs().max() < 0.02
    assert not torch.equal(jitter.alpha, draw_jitter(20_000, 0, 1).alpha)
    assert torch.equal(jitter.alpha, draw_jitter(20_000, 0, 0).alpha)


def test_alpha_one_and_no_light_change_nothing() -> None:
    images = torch.rand(4, 3, 3, 3) * 255
    same = Jitter(torch.ones(4, 3), torch.tensor([[0, 1, 2]] * 4), torch.zeros(4, 3))
    torch.testing.assert_close(jittered(images, same), images)
