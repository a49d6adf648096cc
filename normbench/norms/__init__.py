"""The norms of the papers, the algebra that they are written in, and the function that makes them.

A name is imported from its module when it is asked for: what `registry` knows needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normbench.norms.base import BatchStatistics, Norm, PlaneNorm
    from normbench.norms.create import NormFactory, create_norm, norm_layer, options_of
    from normbench.norms.plane import (
        Affine,
        Moments,
        blend,
        divide_by_rms,
        mixture,
        pool,
        standardize,
    )
    from normbench.norms.registry import NORMS, norm_class, per_image
    from normbench.norms.roles import Role

__all__ = [
    "NORMS", "Affine", "BatchStatistics", "Moments", "Norm", "NormFactory", "PlaneNorm", "Role",
    "blend", "create_norm", "divide_by_rms", "mixture", "norm_class", "norm_layer", "options_of", "per_image",
    "pool", "standardize",
]  # fmt: skip

NAMES = {
    "base": "BatchStatistics Norm PlaneNorm",
    "create": "NormFactory create_norm norm_layer options_of",
    "plane": "Affine Moments blend divide_by_rms mixture pool standardize",
    "roles": "Role",
    "registry": "NORMS norm_class per_image",
}
MODULE = {name: module for module, names in NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """A public name, from the module that has it."""
    if name not in MODULE:
        raise AttributeError(f"module 'normbench.norms' has no attribute {name!r}")
    return getattr(importlib.import_module(f"normbench.norms.{MODULE[name]}"), name)
