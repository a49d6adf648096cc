"""Subclasses with a `forward` of their own, which can be copied and pickled as the classes of a file can."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import fx, nn


class Reference(str):
    """The name of a module that the code of a `forward` uses: a module cannot be pickled, its name can."""


def rewritten(owner: nn.Module, calls: fx.Graph) -> type[nn.Module]:
    """The class of `owner` with a `forward` that makes these calls."""
    code = calls.python_code("self")
    used = {
        name: Reference(value.__name__) if isinstance(value, ModuleType) else value
        for name, value in code.globals.items()
    }
    return with_forward(type(owner), code.src, used)


def with_forward(cls: type[nn.Module], source: str, used: dict[str, Any]) -> type[nn.Module]:
    """The subclass of `cls` whose `forward` is that of `source`, which uses these names."""
    names = {k: module(v) if isinstance(v, Reference) else v for k, v in used.items()}
    exec(source, names)

    def reduce(self: nn.Module, protocol: Any) -> tuple[Any, ...]:
        return instance, (cls, source, used), dict(vars(self))

    own = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (cls,), {"forward": names["forward"], "__reduce_ex__": reduce, **own})


def instance(cls: type[nn.Module], source: str, used: dict[str, Any]) -> nn.Module:
    """A module of `with_forward` without any state, which whoever unpickles it sets."""
    made = with_forward(cls, source, used)
    return made.__new__(made)


def module(name: str) -> ModuleType:
    return __import__(name, fromlist=["_"])
