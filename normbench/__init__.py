"""normbench: how normalization layers behave when each worker sees only a few images.

from normbench import create_norm, norm_layer, convert_norms, load_run    layers and networks, with
torch
from normbench import load_runs, load_curves, load_learned, load_evaluations    results as
pandas frames, without it
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from normbench.source_tree import Finder

__version__ = "0.1.0"
__all__ = [
    "convert_norms",
    "create_norm",
    "load_curves",
    "load_evaluations",
    "load_learned",
    "load_run",
    "load_runs",
    "norm_layer",
]

if TYPE_CHECKING:
    from normbench.norms import create_norm, norm_layer
    from normbench.norms.convert import convert_norms
    from normbench.report.frames import load_curves, load_evaluations, load_learned, load_runs
    from normbench.training.load import load_run

sys.meta_path.append(Finder)

HOMES = {
    "create_norm": "normbench.norms",
    "norm_layer": "normbench.norms",
    "convert_norms": "normbench.norms.convert",
    "load_run": "normbench.training.load",
    **dict.fromkeys(
        ("load_curves", "load_evaluations", "load_learned", "load_runs"), "normbench.report.frames"
    ),
}


def __getattr__(name: str) -> Any:  # torch and pandas are imported when they are needed, not before
    if name not in HOMES:
        raise AttributeError(f"module 'normbench' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
