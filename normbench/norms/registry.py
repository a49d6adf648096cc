"""The norms by name: where the class of each lies, and what is true of it before torch is imported."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from normbench.errors import UserError, did_you_mean, in_words, own_place

if TYPE_CHECKING:
    from torch import nn


def without_bn(options: Mapping[str, Any]) -> bool:
    """Whether a switchable norm mixes no statistics of the batch."""
    return "bn" not in options.get("using", ("bn",))


def as_after(options: Mapping[str, Any]) -> bool:
    """What holds for the norm that `after` names: GRN itself treats each image by itself."""
    after = options.get("after")
    return after is None or per_image(after, {})


@dataclass(frozen=True)
class Entry:
    """A norm of ours.

    target: module.Class. per_image: whether it treats each image by itself in training, so that the
    other images of the batch change nothing; where that depends on its options, a function of them.
    """

    target: str
    per_image: bool | Callable[[Mapping[str, Any]], bool] = False


NORMS: dict[str, Entry] = {
    "none": Entry("normbench.norms.none.NoNorm", per_image=True),
    "bn": Entry("normbench.norms.batch.BatchNorm"),
    "ln": Entry("normbench.norms.group.LayerNorm", per_image=True),
    "in": Entry("normbench.norms.group.InstanceNorm", per_image=True),
    "gn": Entry("normbench.norms.group.GroupNorm", per_image=True),
    "frn": Entry("normbench.norms.filter_response.FilterResponseNorm", per_image=True),
    "gfrn": Entry("normbench.norms.filter_response.GroupFilterResponseNorm", per_image=True),
    "lfrn": Entry("normbench.norms.filter_response.LayerFilterResponseNorm", per_image=True),
    "sn": Entry("normbench.norms.switchable.SwitchableNorm", per_image=without_bn),
    "rbn": Entry("normbench.norms.representative.RepresentativeBatchNorm"),
    "bin": Entry("normbench.norms.batch_instance.BatchInstanceNorm"),
    "brn": Entry("normbench.norms.renorm.BatchRenorm"),
    "lrn": Entry("normbench.norms.neighbourhood.LocalResponseNorm", per_image=True),
    "dn": Entry("normbench.norms.neighbourhood.DivisiveNorm", per_image=True),
    "bgn": Entry("normbench.norms.batch_group.BatchGroupNorm"),
    "bcn": Entry("normbench.norms.batch_channel.BatchChannelNorm"),
    "iebn": Entry("normbench.norms.instance_enhanced.InstanceEnhancedBatchNorm"),
    "ibn": Entry("normbench.norms.instance_batch.InstanceAndBatchNorm"),
    "ssn": Entry("normbench.norms.sparse_switchable.SparseSwitchableNorm", per_image=without_bn),
    "mode": Entry("normbench.norms.mode.ModeNorm"),
    "mabn": Entry("normbench.norms.moving_average.MovingAverageBatchNorm"),
    "rms": Entry("normbench.norms.filter_response.RootMeanSquareNorm", per_image=True),
    "grn": Entry("normbench.norms.global_response.GlobalResponseNorm", per_image=as_after),
    "evonorm_s0": Entry("normbench.norms.evonorm.EvoNormS0", per_image=True),
    "evonorm_b0": Entry("normbench.norms.evonorm.EvoNormB0"),
    "dyt": Entry("normbench.norms.dynamic_tanh.DynamicTanh", per_image=True),
    "ln2d": Entry("normbench.norms.position.PositionLayerNorm", per_image=True),
    "pono": Entry("normbench.norms.position.PositionalNorm", per_image=True),
    "iternorm": Entry("normbench.norms.whitening.IterativeNorm"),
    "dbn": Entry("normbench.norms.whitening.DecorrelatedBatchNorm"),
}


def per_image(name: str, options: Mapping[str, Any]) -> bool:
    """Whether the norm treats each image by itself: its result is then the same at every batch size.

    Norms of ours say so in `NORMS`. The class behind name="custom", which is imported, says so by an
    attribute `per_image = True` in its own body; a class derived from it says it anew.
    Raises UserError for an unknown name, or a class that cannot be imported.
    """
    if name == "custom":
        return bool(vars(load(options.get("target"))).get("per_image", False))
    said = entry(name).per_image
    return said(options) if callable(said) else said


def entry(name: str) -> Entry:
    """The row of a norm of ours. UserError for an unknown name."""
    if name not in NORMS:
        raise UserError(
            f"no norm is called {name!r}; there are {', '.join([*NORMS, 'custom'])}"
            + did_you_mean(name, NORMS)
        )
    return NORMS[name]


def norm_class(name: str, target: str | None = None) -> Callable[..., nn.Module]:
    """The class behind a name, or behind module.Class for "custom". UserError where there is none."""
    return load(target if name == "custom" else entry(name).target)


def load(target: Any) -> type[nn.Module]:
    """The class that `module.Class` names, the working folder included in the search.

    Raises UserError where it is not of that form, cannot be imported, or is no torch.nn.Module.
    """
    from torch import nn

    module, _, attribute = str(target or "").rpartition(".")
    if not module or "" in module.split("."):
        raise UserError(f"norm.target={target!r} must be module.Class, such as my_module.MyNorm")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        inside = importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a file may raise anything, sys.exit() too
        own = own_place(error)
        said = in_words(error) if own else str(error)
        raise UserError(f"norm.target={target!r} cannot be imported: {said}") from error
    found = getattr(inside, attribute, None)
    if found is None:
        hint = did_you_mean(attribute, vars(inside))
        raise UserError(
            f"norm.target={target!r} cannot be imported: {module} has no {attribute!r}{hint}"
        )
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"norm.target={target!r} is not a class of torch.nn.Module")
    return found
