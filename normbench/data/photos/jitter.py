"""The colour and lighting jitter of fb.resnet.torch, with which GN was trained on ImageNet.

Brightness, contrast and saturation in random order, each a mixture α·image + (1 − α)·other with α
from 1 ± 0.4: other is black, the image's mean grey, or each pixel's grey. Then lighting
(Krizhevsky et al. 2012, section 4.1): a random amount along each principal component of ImageNet's
colours. Values are not clipped, as torchvision's ColorJitter clips them after each of its steps. All
of it together is one affine map of (R, G, B) an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from normbench.data.augment import stream

RANGE = 0.4
GREY = (0.299, 0.587, 0.114)
LIGHT = 0.1  # standard deviation of the lighting, in units of the components below
COMPONENTS = (  # rows R, G, B; columns the principal components of the colours 0..1
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
EIGENVALUES = (0.2175, 0.0188, 0.0045)
BRIGHTNESS, CONTRAST, SATURATION = range(3)


@dataclass(frozen=True)
class Jitter:
    """What is drawn for each image: `alpha` [N, 3] of the three mixtures, `order` [N, 3] in which they
    come, `light` [N, 3]."""

    alpha: Tensor
    order: Tensor
    light: Tensor

    def at(self, positions: slice) -> Jitter:
        return Jitter(*(t[positions] for t in vars(self).values()))


def draw_jitter(count: int, seed: int, epoch: int) -> Jitter:
    """By position, from a stream of its own: the same for every norm, batch size and device."""
    chance = stream(seed, "colour", epoch)
    alpha = 1 + RANGE * (2 * torch.rand(count, 3, generator=chance) - 1)
    order = torch.rand(count, 3, generator=chance).argsort(1)
    return Jitter(alpha, order, LIGHT * torch.randn(count, 3, generator=chance))


def jittered(images: Tensor, jitter: Jitter) -> Tensor:
    """Images [B, 3, H, W] float32 of bytes 0..255, in the same units."""
    here = Jitter(*(t.to(images.device) for t in vars(jitter).values()))
    matrix, shift = maps(here, images.mean((2, 3)).double() / 255)
    shift = 255 * shift[:, :, None, None]
    return torch.einsum("bij,bjhw->bihw", matrix.float(), images) + shift.float()


def maps(jitter: Jitter, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix [B, 3, 3] and shift [B, 3], float64, for images of mean colour `mean` [B, 3], 0..1."""
    grey, one = mean.new_tensor(GREY), torch.eye(3, dtype=mean.dtype, device=mean.device)
    matrix, shift = one.expand(len(mean), 3, 3), torch.zeros_like(mean)
    for kind in jitter.order.unbind(1):
        alpha = jitter.alpha.double().gather(1, kind[:, None])
        rest = 1 - alpha
        now = (matrix @ mean[:, :, None])[:, :, 0] + shift  # the mean colour after the steps so far
        level = now @ grey
        step = alpha[:, :, None] * one
        step = step + (kind == SATURATION)[:, None, None] * rest[:, :, None] * grey.expand(3, 3)
        matrix = step @ matrix
        shift = (step @ shift[:, :, None])[:, :, 0]
        shift = shift + ((kind == CONTRAST) * rest[:, 0] * level)[:, None]
    light = jitter.light.double() * mean.new_tensor(EIGENVALUES)
    return matrix, shift + light @ mean.new_tensor(COMPONENTS).T
