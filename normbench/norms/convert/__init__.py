"""`convert_norms`: every BatchNorm2d of a network replaced by another norm."""

from normbench.norms.convert.convert import convert_norms

__all__ = ["convert_norms"]
