"""The calls that a network makes, written down by torch.fx, and which of them are ReLUs."""

from __future__ import annotations

import math
import warnings
from inspect import Parameter, signature
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

CAPS: dict[Any, float] = {  # the largest value that each kind of ReLU lets through
    **dict.fromkeys((nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_"), math.inf),
    **dict.fromkeys((nn.ReLU6, F.relu6), 6.0),
}


def cap_of(module: nn.Module) -> float | None:
    """The largest value that a ReLU lets through; None for any other module."""
    return CAPS.get(type(module))


def without_floor(module: nn.Module) -> nn.Module:
    """What is left of a ReLU whose floor another layer has: nothing, or of a ReLU6 the cap."""
    cap = CAPS[type(module)]
    return nn.Identity() if cap == math.inf else nn.Hardtanh(-math.inf, cap)


class Trace(fx.Tracer):
    """The calls that `root` makes, with the modules whose `forward` makes each.

    opened: the modules to look into (None: the root alone); the others stay one call.
    """

    def __init__(self, root: nn.Module, opened: set[nn.Module] | None) -> None:
        super().__init__()
        self.opened, self.callers = opened, [root]
        self.owner: dict[fx.Node, nn.Module] = {}
        self.names = dict(root.named_modules(remove_duplicate=False))
        given = {  # a default that the code asks about is what it is, not a symbol
            p.name: p.default
            for p in signature(type(root).forward).parameters.values()
            if p.default is not Parameter.empty
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.calls = self.trace(root, concrete_args=given or None)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self.opened is None or m not in self.opened

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        self.callers.append(m)
        try:
            return super().call_module(m, forward, args, kwargs)
        finally:
            self.callers.pop()

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, *args, **kwargs)
        self.owner[node] = self.callers[-2 if kind == "call_module" else -1]
        return node

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.names[str(node.target)] if node.op == "call_module" else None

    def cap(self, node: fx.Node) -> float | None:
        """The largest value that a call of a ReLU lets through; None for any other call."""
        module = self.module(node)
        return CAPS.get(node.target) if module is None else cap_of(module)

    def own(self, owner: nn.Module, opened: set[nn.Module]) -> list[fx.Node]:
        """What `owner` itself calls, in order: functions, methods, and modules not opened."""
        return [
            node
            for node in self.calls.nodes
            if self.owner[node] is owner
            and node.op in ("call_function", "call_method", "call_module")
            and self.module(node) not in opened
        ]

    def target(self, node: fx.Node) -> Any:
        return self.module(node) or node.target

    def follower(self, node: fx.Node) -> fx.Node | None:
        """The call of a ReLU that alone uses what `node` returns."""
        while len(node.users) == 1:
            (node,) = node.users
            if self.cap(node) is not None:
                return node
            if type(self.module(node)) is not nn.Identity:
                return None
        return None


def traced(root: nn.Module, opened: set[nn.Module] | None) -> list[Trace] | None:
    """The calls of `root` in training and in evaluation; None where it does not run on symbols."""
    both = []
    for training in (True, False):
        for module in root.modules():
            module.training = training
        try:
            both.append(Trace(root, opened))
        except Exception:  # code that was not written for symbols may fail in any way
            return None
    return both


def plain(owner: nn.Module) -> bool:
    """Whether `forward` takes the same arguments at every call: none is optional."""
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    parameters = signature(type(owner).forward).parameters.values()
    return all(p.default is Parameter.empty and p.kind in kinds for p in parameters)
