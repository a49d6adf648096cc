"""The means of channels over images: before each norm, and how far they spread behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from normbench.norms import Norm
from normbench.norms.tracking import wide

TINY = 1e-12  # of a variance, below which it counts as this


@torch.no_grad()
def channel_means(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, dict[str, Tensor]]:
    """What the means of channels are over all images of `batches` [B, 3, H, W], in evaluation mode.

    By layer and name, each [C]. Of every norm: `input_mean` and `input_deviation`, of all pixels of
    a channel of its input; that the first grows beside the second is what Brock et al. 2021 (arXiv
    2101.08692) call mean shift. Of a norm without activation: `mean_deviation`, the deviation over
    images of the mean of a channel of its output, as a share of the deviation of all its pixels;
    after Gao et al. 2021 (CVPR), whose figure compares features behind BN and behind RBN.
    """
    model.eval()
    inputs: dict[str, list[Tensor]] = {}
    outputs: dict[str, list[Tensor]] = {}

    def keep(layer: str, norm: Norm) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def look(module: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> None:
            inputs.setdefault(layer, []).append(moments(given[0]))
            if norm.activation == "none":
                outputs.setdefault(layer, []).append(moments(y))

        return look

    hooks = [
        module.register_forward_hook(keep(layer, module))
        for layer, module in model.named_modules()
        if isinstance(module, Norm)
    ]
    try:
        for images in batches:
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for layer, parts in inputs.items():
        mean, deviation, _ = over_images(parts)
        found[layer] = {"input_mean": mean, "input_deviation": deviation}
        if layer in outputs:
            _, whole, of_means = over_images(outputs[layer])
            found[layer]["mean_deviation"] = of_means / whole.clamp_min(TINY**0.5)
    return found


def moments(x: Tensor) -> Tensor:
    """Mean and biased variance of each plane of [N, C, H, W]: [2, N, C]."""
    var, mean = torch.var_mean(wide(x), (2, 3), correction=0)
    return torch.stack([mean, var])


def over_images(parts: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Of channels, from the `moments` of all images: mean, deviation of all pixels, and deviation of
    the means of images (unbiased)."""
    means, variances = torch.cat(parts, dim=1)
    whole = variances.mean(0) + means.var(0, correction=0)
    return means.mean(0), whole.sqrt(), means.std(0)
