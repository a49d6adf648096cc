"""`dataset.domains`: small images that are shown in several looks, each image in one of them.

colour  as it is
grey    its luma, 0.299 R + 0.587 G + 0.114 B, in all three channels
edges   dark lines on white: 255 less the mean of Sobel's |horizontal| and |vertical| slope of the luma
hue     its hue turned by a third of the circle: red is shown as green, green as blue, blue as red

Which image is shown in which look is drawn once, the same for every seed, norm and machine; each look
has as many images as another. All is computed in whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from normbench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor


def without_domains(options: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The dataset's own options, and the names of its domains. UserError for what is no such list."""
    names = options.get("domains", ())
    if isinstance(names, str) or not isinstance(names, Sequence) or len(set(names)) < len(names):
        raise UserError(
            f"dataset.domains={names!r}: must be a list of different names of {', '.join(LOOKS)}"
        )
    for name in names:
        if name not in LOOKS:
            raise UserError(
                f"dataset.domains: no domain is called {name!r}; there are {', '.join(LOOKS)}"
                + did_you_mean(str(name), LOOKS)
            )
    return {key: value for key, value in options.items() if key != "domains"}, tuple(names)


def drawn(images: int, domains: int) -> Tensor:
    """Which of so many domains each image is shown in, by position: [images] int64."""
    import torch

    from normbench.data.augment import stream

    return torch.randperm(images, generator=stream(0, "domains", 0)) % domains


def shown(pixels: Tensor, domain: Tensor, names: Sequence[str]) -> Tensor:
    """`pixels` uint8 [N, 3, H, W], each image in the look of its domain, `names[domain[n]]`."""
    found = pixels.clone()
    for number, name in enumerate(names):
        found[domain == number] = LOOKS[name](pixels[domain == number])
    return found


def grey(pixels: Tensor) -> Tensor:
    """The luma of Rec. 601, rounded, in all three channels."""
    return luma(pixels).to(pixels.dtype).expand_as(pixels)


def luma(pixels: Tensor) -> Tensor:
    """[N, 1, H, W] int32, 0..255."""
    red, green, blue = pixels.int().unsqueeze(2).unbind(1)
    return (299 * red + 587 * green + 114 * blue + 500).div(1000, rounding_mode="floor")


def edges(pixels: Tensor) -> Tensor:
    """The lines of an image; at its margin the last row and column go on."""
    padded = margin(margin(luma(pixels)).mT).mT
    smooth = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    across = (smooth[..., 2:] - smooth[..., :-2]).abs()
    smooth = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    down = (smooth[..., 2:, :] - smooth[..., :-2, :]).abs()
    slope = (across + down).div(2, rounding_mode="floor").clamp(max=255)
    return (255 - slope).to(pixels.dtype).expand_as(pixels)


def margin(rows: Tensor) -> Tensor:
    """The first and the last column once more."""
    import torch

    return torch.cat((rows[..., :1], rows, rows[..., -1:]), -1)


def hue(pixels: Tensor) -> Tensor:
    """A turn by 120° is a cycle of the channels."""
    return pixels.roll(1, 1)


LOOKS: dict[str, Callable[[Tensor], Tensor]] = {
    "colour": lambda pixels: pixels,
    "grey": grey,
    "edges": edges,
    "hue": hue,
}
