"""Another norm in place of every BatchNorm2d of a network that is not ours."""

from __future__ import annotations

import re
import sys
from collections import Counter
from typing import Any, get_args

import torch
from torch import nn

from normbench.errors import UserError
from normbench.norms import Norm, create_norm, norm_class, options_of
from normbench.norms.activation import Activation
from normbench.norms.convert.calls import cap_of, without_floor
from normbench.norms.convert.followers import Followers, followers
from normbench.norms.create import has_nonlinearity
from normbench.norms.weight_standardization import (
    Weights,
    convolutions_to_standardize,
    standardize_weights,
)

BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm
LEFT_ALONE = re.compile("(Lazy)?BatchNorm[13]d|FrozenBatchNorm")


def convert_norms(
    model: nn.Module, name: str, *, weight_standardization: Weights = False, **options: Any
) -> nn.Module:
    """Replaces every BatchNorm2d of a torchvision or timm model by the norm `name`, in place.

    options: as for `create_norm`, activation and images included. Weight, bias and running
    statistics are taken over where the new norm has them, so that "bn" computes what the model did.
    Train or eval mode, device and dtype of each layer are kept. A model that is itself a
    BatchNorm2d comes back as the new norm, with the activation asked for.

    activation="none", or none given: what follows a BatchNorm2d stays where it is, and what timm's
    BatchNormAct2d holds comes after the new norm.

    Any other activation ("auto": TLU for the FRN family, else ReLU) takes the place of the ReLU that
    alone uses what a BatchNorm2d returns; a norm without such a ReLU behind it gets no activation.
    EvoNorm is there without its own nonlinearity. "relu" computes what the model did, fused.
    `followers` tells where such ReLUs are found. The ReLU
    after an addition follows no norm and stays a ReLU: the FRN paper does not tell, and the networks
    of `normbench.models` differ, whose activation there is the run's. Of a ReLU6 only the floor is
    replaced: the cap stays, min(tlu(y), 6). Other activations (SiLU, Hardswish, ...) stay. Code that
    torch.fx cannot follow, or a caller with optional arguments (timm's DLA), keeps its ReLU: the
    message names it. A model whose `forward` was written anew is copied and pickled with its code.

    A SyncBatchNorm pools over all workers: the new norm gets images=None whatever `images` says, and
    so the whole SGD batch of virtual workers. BatchNorm1d and 3d, frozen batch norms and all other
    norms are left alone.

    weight_standardization=True: the convolutions that are followed by a norm standardize their
    weights too (Qiao et al. 2019); "centred": they centre them, as MABN wants it (Yan et al. 2020). See
    `norms.weight_standardization`.

    Says on stderr how many were replaced, and returns the model. Raises UserError where there is
    nothing to replace, for lazy and quantized batch norms, and for a SyncBatchNorm among several
    processes; the model is then as it was.
    """
    model, words = convert(model, name, weight_standardization=weight_standardization, **options)
    print(f"convert_norms: {words}", file=sys.stderr)
    return model


def convert(
    model: nn.Module, name: str, *, weight_standardization: Weights = False, **options: Any
) -> tuple[nn.Module, str]:
    """`convert_norms` without a word: the model, and what was done to it."""
    refuse(model)
    olds = [module for module in model.modules() if isinstance(module, BatchNorm)]
    wanted = options.pop("activation", "none")
    if wanted != "auto":
        Activation(1, wanted)  # a wrong name is said though no norm may take it
    found = Followers()
    if isinstance(model, BatchNorm):
        found.norms.add(model)
    elif wanted != "none":
        found = followers(model, {old for old in olds if not carried(old)})
    convolutions = convolutions_to_standardize(model) if weight_standardization else []
    # all new norms are made before the first is set: an error leaves the model whole
    news = {old: converted(old, name, wanted, old in found.norms, options) for old in olds}
    if isinstance(model, BatchNorm):
        model = news[model]
    else:
        found.remove(model)
        for parent in list(model.modules()):
            for key, child in list(parent._modules.items()):  # a layer used twice stays one layer
                if isinstance(child, BatchNorm):
                    setattr(parent, key, news[child])
    words = report(model, olds, news, name, found)
    if weight_standardization:
        done = "centre" if weight_standardization == "centred" else "standardize"
        changed = standardize_weights(convolutions, weight_standardization)
        words += f"; {changed} convolutions {done} their weights"
    return model, words


def refuse(model: nn.Module) -> None:
    """UserError for a model with nothing to replace, or with what cannot be replaced."""
    kinds = {type(module) for module in model.modules()}
    for kind in kinds:
        if issubclass(kind, nn.LazyBatchNorm2d):
            raise UserError(
                "convert_norms cannot replace LazyBatchNorm2d, whose channels are not known yet;"
                " run the model once, then convert it"
            )
        if is_quantized(kind):
            raise UserError(
                f"convert_norms cannot replace the norm in a quantized {kind.__name__};"
                " convert the model first, and quantize it afterwards"
            )
    if not any(issubclass(kind, BatchNorm) for kind in kinds):
        raise UserError(
            f"convert_norms found no BatchNorm2d in {type(model).__name__};"
            " it replaces BatchNorm2d (and timm's BatchNormAct2d) and nothing else"
        )
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if (
        distributed
        and torch.distributed.get_world_size() > 1
        and any(issubclass(kind, nn.SyncBatchNorm) for kind in kinds)
    ):
        raise UserError(
            "convert_norms cannot keep the meaning of SyncBatchNorm among several processes:"
            " statistics are pooled within one; use virtual workers, or BatchNorm2d"
        )


def is_quantized(kind: type[nn.Module]) -> bool:
    """Whether it is a batch norm, or holds one, that is quantized or being prepared for it."""
    name, module = kind.__name__.lower(), kind.__module__
    ours = module.startswith("torch.ao.nn.") and (".quantized." in module or ".qat." in module)
    return ours and ("bn" in name or "batchnorm" in name)


def converted(
    old: BatchNorm, name: str, activation: str, followed: bool, options: dict[str, Any]
) -> nn.Module:
    """The norm in place of one layer, followed by what the layer carried, if anything.

    followed: whether the ReLU behind the layer is replaced by the norm's own activation.
    """
    after = carried(old)
    if activation != "none" and [cap_of(module) is not None for module in after] == [True]:
        followed, after = True, [without_floor(after[0])]
    if isinstance(old, nn.SyncBatchNorm):
        options = options | {"images": None}
    if activation != "none" and has_nonlinearity(norm_class(name, options.get("target"))):
        options = {"nonlinear": followed} | options
    new = create_norm(
        name,
        old.num_features,
        activation=activation if followed else "none",
        **inherited(old, name, options),
        **options,
    )
    new = new.to(device=device_of(old), dtype=dtype_of(old))
    take_over(new, old)
    after = [module for module in after if not isinstance(module, nn.Identity)]
    whole = nn.Sequential(new, *after) if after else new
    return whole.train(old.training)


def carried(old: BatchNorm) -> list[nn.Module]:
    """Dropout and activation inside timm's BatchNormAct2d."""
    inside = (getattr(old, "drop", None), getattr(old, "act", None))
    return [m for m in inside if isinstance(m, nn.Module) and not isinstance(m, nn.Identity)]


def report(
    model: nn.Module,
    olds: list[BatchNorm],
    news: dict[BatchNorm, nn.Module],
    name: str,
    found: Followers,
) -> str:
    """What was replaced by what, in one line."""
    synced = sum(isinstance(old, nn.SyncBatchNorm) for old in olds)
    words = f"replaced {len(olds) - synced} BatchNorm2d"
    words += f" and {synced} SyncBatchNorm" if synced else ""
    words += f" by {name}"
    norms = [new[0] if isinstance(new, nn.Sequential) else new for new in news.values()]
    fused = [a for norm in norms if (a := getattr(norm, "activation", "none")) != "none"]
    if fused and model not in news.values():
        words += f", {len(fused)} of them with the ReLU that followed, now {fused[0]}"
    if found.blind:
        words += f"; ReLUs stay where they are in {', '.join(sorted(set(found.blind)))}"
    kinds = Counter(type(module).__name__ for module in model.modules())
    left = [f"{count} {kind}" for kind, count in kinds.items() if LEFT_ALONE.match(kind)]
    words += f"; left alone: {', '.join(left)}" if left else ""
    return words


@torch.no_grad()
def take_over(new: nn.Module, old: BatchNorm) -> None:
    """Weight, bias and running statistics of the old layer, and whether they are trained."""
    ours = dict(new.named_parameters()) | dict(new.named_buffers())
    theirs = dict(old.named_parameters()) | dict(old.named_buffers())
    if "running_mean" not in theirs and any(name.startswith("running_") for name in ours):
        raise UserError(
            "a BatchNorm2d with track_running_stats=False has no running statistics to give;"
            " convert_norms can replace it only by a norm without them, such as gn or frn"
        )
    if isinstance(new, Norm):
        theirs = new.from_batch_norm(theirs, old.eps)
    for key in ours.keys() & theirs.keys():
        ours[key].copy_(theirs[key])
        if isinstance(ours[key], nn.Parameter):
            ours[key].requires_grad_(theirs[key].requires_grad)


def inherited(old: BatchNorm, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """eps and momentum of the old layer, for norms with running statistics whose own are torch's."""
    known = options_of(norm_class(name, options.get("target")))
    if "momentum" not in known:
        return {}
    usual = nn.BatchNorm2d(1)
    both = {key: getattr(old, key) for key in ("eps", "momentum") if key not in options}
    if type(None) not in get_args(known["momentum"].annotation) and old.momentum is None:
        both.pop("momentum", None)  # it keeps no count for a cumulative mean
    same = {key for key in both if key in known and known[key].default == getattr(usual, key)}
    return {key: both[key] for key in same}


def device_of(layer: BatchNorm) -> torch.device | None:
    return next((t.device for t in [*layer.parameters(), *layer.buffers()]), None)


def dtype_of(layer: BatchNorm) -> torch.dtype | None:
    tensors = [*layer.parameters(), *layer.buffers()]
    return next((t.dtype for t in tensors if t.is_floating_point()), None)
