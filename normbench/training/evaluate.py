"""Accuracy on the test images, with running or with population statistics of batch norms."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normbench.norms.evaluation import RunningStatistics, norms_with_running_statistics
from normbench.norms.plane import Moments, combine, pool

Average = Callable[[Sequence[Tensor]], None]  # puts means over all ranks in the place of tensors
EVALUATION_BATCH = 500
CUDA_PIXELS = 2**21  # in a batch on CUDA: 2,048 images of 32 × 32; fewer do not fill a GPU


class Accuracy(NamedTuple):
    """Of all images: top-1 and top-5 in percent, mean cross-entropy. No top-5 of 5 classes or fewer."""

    top1_percent: float
    top5_percent: float | None
    loss: float


def evaluation_batch(device: torch.device, size: int) -> int:
    """How many test images of size × size pixels are evaluated at a time, at most.

    On a CPU a fixed number: other batches could round otherwise, and results are kept.
    """
    return max(1, CUDA_PIXELS // size**2) if device.type == "cuda" else EVALUATION_BATCH


@torch.no_grad()
def accuracy(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], right: list[Tensor] | None = None
) -> Accuracy:
    """In evaluation mode, per image: `batches` of images [B, 3, H, W] and labels, of any sizes.

    right: a list that takes, of each batch, which images were recognized, [B] bool.
    """
    model.eval()
    right = [] if right is None else right
    images = 0
    top1 = top5 = loss = torch.zeros(())  # sums on the device, looked at once: a look waits
    for pixels, labels in batches:
        logits = model(pixels).float()
        images += len(labels)
        right.append(logits.argmax(1) == labels)
        top1 = top1 + right[-1].sum()
        if enough := logits.shape[1] > 5:
            top5 = top5 + (logits.topk(5).indices == labels[:, None]).sum()
        loss = loss + F.cross_entropy(logits, labels, reduction="sum")
    percent = 100 * top5.item() / images if enough else None
    return Accuracy(100 * top1.item() / images, percent, loss.item() / images)


@contextlib.contextmanager
def population_statistics(
    model: nn.Module, batches: Iterable[Tensor], average: Average = lambda tensors: None
) -> Iterator[None]:
    """For its duration, the running statistics are the mean over `batches` with frozen weights.

    Ioffe & Szegedy 2015, algorithm 2, lines 7 to 11: E[x] = mean of μ_B, Var[x] = mean of the batch
    variances times m/(m−1); for Switchable Normalization the mean of the biased ones (its authors' code
    adds the variance of the batch means).
    Batches have the shape of training: statistics are pooled per worker. Buffers are put back. Of
    several ranks each sees the images of its own workers; `average` puts means over all in their place.
    """
    tracking = [m for m in model.modules() if getattr(m, "running_mean", None) is not None]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    own = [module.named_buffers(recurse=False) for module in tracking]
    statistics = [{name: b for name, b in some if b.is_floating_point()} for some in own]
    sums = [{name: torch.zeros_like(b) for name, b in some.items()} for some in statistics]
    momenta = [module.momentum for module in tracking]
    model.train()
    try:
        for module in tracking:
            module.momentum = 1.0  # type: ignore[assignment]  # the buffers become the batch's own
        with torch.no_grad():
            count = 0
            for images in batches if tracking else ():
                count += 1
                model(images)
                for of_module, total in zip(statistics, sums, strict=True):
                    for name in total:
                        total[name] += of_module[name]
                restore(model, buffers)  # Batch Renorm's forward uses them: not those of this pass
            for of_module, total in zip(statistics, sums, strict=True):
                for name in total if count else ():
                    of_module[name].copy_(total[name] / count)
            average([buffer for some in statistics for buffer in some.values()])
        yield
    finally:
        for module, momentum in zip(tracking, momenta, strict=True):
            module.momentum = momentum
        restore(model, buffers)


@contextlib.contextmanager
def pooled_statistics(model: nn.Module, batches: Iterable[Tensor]) -> Iterator[None]:
    """For its duration, the running statistics are those of all images of `batches` together.

    The mean, and the biased variance by the second moment about it: population statistics after Wu &
    Johnson 2021 (arXiv 2105.07576). The layers before normalize as in training, each
    worker's images by themselves. Batches have the shape of training. Buffers are put back.
    UserError for a model without running statistics.
    """
    norms = norms_with_running_statistics(model)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    seen: dict[RunningStatistics, tuple[int, Moments]] = {}

    def look(norm: RunningStatistics, given: tuple[Tensor, ...]) -> None:
        var, mean = torch.var_mean(given[0].double(), (2, 3), correction=0)
        of_planes = norm.tracked(Moments(mean, var, given[0][0, 0].numel()))
        mean, var, _ = pool(of_planes, images=None)
        images, before = seen.get(norm, (0, Moments(mean[0], var[0], 0)))
        images += len(mean)
        seen[norm] = images, combine(before, Moments(mean[0], var[0], 0), len(mean) / images)

    hooks = [norm.register_forward_pre_hook(look) for norm in norms]  # type: ignore[attr-defined]
    model.train()
    try:
        with torch.no_grad():
            for images in batches:
                model(images)
                restore(model, buffers)  # Batch Renorm's forward uses them: not those of this pass
            for hook in hooks:
                hook.remove()
            for norm, (_, moments) in seen.items():
                norm.set_running(moments.mean, moments.var)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        restore(model, buffers)


@torch.no_grad()
def restore(model: nn.Module, buffers: dict[str, Tensor]) -> None:
    """Puts the buffers back to the values that were kept."""
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
