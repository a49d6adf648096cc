"""Another norm in place of every BatchNorm2d of a network that is not ours."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

from normbench.errors import UserError
from normbench.norms import create_norm, norm_class, options_of


def convert_norms(model: nn.Module, name: str, **options: Any) -> nn.Module:
    """Replaces every BatchNorm2d of a torchvision or timm model by the norm `name`, in place.

    options: as for `create_norm`, activation and images included. The activation that follows a
    BatchNorm2d stays where it is; one inside timm's BatchNormAct2d comes after the new norm.
    Weight, bias and running statistics are taken over where the new norm has them, so that "bn"
    computes what the model did. Train or eval mode, device and dtype of each layer are kept.

    Says on stderr how many were replaced, and returns the model (a new module only where the model
    itself is a BatchNorm2d). Raises UserError where there is none.
    """
    count = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    if count == 0:
        raise UserError(
            f"convert_norms found no BatchNorm2d in {type(model).__name__};"
            " it replaces BatchNorm2d (and timm's BatchNormAct2d) and nothing else"
        )
    if isinstance(model, nn.BatchNorm2d):
        model = converted(model, name, options)
    else:
        layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        replaced: dict[nn.Module | None, nn.Module] = {}  # a layer used twice stays one layer
        for (
            layer
        ) in layers:  # all of them, before the first is set: an error leaves the model whole
            replaced[layer] = converted(layer, name, options)
        for parent in list(model.modules()):
            for key, child in list(parent._modules.items()):  # named_children names each layer once
                if child in replaced:
                    setattr(parent, key, replaced[child])
    print(f"convert_norms: replaced {count} BatchNorm2d by {name}", file=sys.stderr)
    return model


def converted(old: nn.BatchNorm2d, name: str, options: dict[str, Any]) -> nn.Module:
    """The norm in place of one layer, followed by the activation that the layer carried, if any."""
    new = create_norm(name, old.num_features, **inherited(old, name, options), **options)
    new = new.to(device=device_of(old), dtype=dtype_of(old))
    take_over(new, old)
    carried = [m for m in (getattr(old, "drop", None), getattr(old, "act", None)) if m is not None]
    whole = nn.Sequential(new, *carried) if carried else new
    return whole.train(old.training)


@torch.no_grad()
def take_over(new: nn.Module, old: nn.BatchNorm2d) -> None:
    """Weight, bias and running statistics of the old layer, and whether they are trained."""
    ours = dict(new.named_parameters()) | dict(new.named_buffers())
    theirs = dict(old.named_parameters()) | dict(old.named_buffers())
    if "running_mean" in ours and "running_mean" not in theirs:
        raise UserError(
            "a BatchNorm2d with track_running_stats=False has no running statistics to give;"
            " convert_norms can replace it only by a norm without them, such as gn or frn"
        )
    if "running_std" in ours:  # Batch Renorm keeps a deviation, and its warm-up begins now
        ours["running_std"].copy_((theirs["running_var"] + old.eps).sqrt())
        del theirs["num_batches_tracked"]
    for key in ours.keys() & theirs.keys():
        ours[key].copy_(theirs[key])
        if isinstance(ours[key], nn.Parameter):
            ours[key].requires_grad_(theirs[key].requires_grad)


def inherited(old: nn.BatchNorm2d, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """eps and momentum of the old layer, for norms that keep the same running statistics."""
    known = options_of(norm_class(name, options.get("target")))
    if "momentum" not in known or name == "brn":
        return {}
    both = {"eps": old.eps, "momentum": old.momentum}
    if name == "sn" and old.momentum is None:  # it keeps no count for a cumulative mean
        del both["momentum"]
    return {key: value for key, value in both.items() if key in known and key not in options}


def device_of(layer: nn.BatchNorm2d) -> torch.device | None:
    return next((t.device for t in [*layer.parameters(), *layer.buffers()]), None)


def dtype_of(layer: nn.BatchNorm2d) -> torch.dtype | None:
    tensors = [*layer.parameters(), *layer.buffers()]
    return next((t.dtype for t in tensors if t.is_floating_point()), None)
