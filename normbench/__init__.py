"""normbench: how normalization layers behave when each worker sees only a few images.

from normbench import create_norm, convert_norms
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["convert_norms", "create_norm"]

if TYPE_CHECKING:
    from normbench.norms import create_norm
    from normbench.norms.convert import convert_norms


def __getattr__(name: str) -> Any:  # torch is imported when a norm is asked for, not before
    if name == "create_norm":
        from normbench.norms import create_norm

        return create_norm
    if name == "convert_norms":
        from normbench.norms.convert import convert_norms

        return convert_norms
    raise AttributeError(f"module 'normbench' has no attribute {name!r}")
