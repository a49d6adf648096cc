"""Which batch norms of a network are followed by a ReLU alone, and how that ReLU is taken away.

torch.fx runs the network's code on symbols and writes down every call, so that it does not matter
where the ReLU is. It is

- a layer of a Sequential, as in VGG, MobileNetV2, MNASNet, ShuffleNetV2, RegNet, DenseNet and most of
  timm: an Identity takes its place;
- one `self.relu` for several places, or F.relu in the middle of `forward`, as in ResNet, ResNeXt, Wide
  ResNet, Inception-v3, GoogLeNet and the end of DenseNet: the module that calls it becomes of a
  subclass whose `forward` leaves that call out and is else as it was at that moment, flags included.

What timm's BatchNormAct2d holds, as in its DenseNet, ResNetV2 and DPN, needs no search: see `carried` in
`convert`. Where the code cannot be run on symbols its parts are looked at one by one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import fx, nn

from normbench.norms.convert.calls import Trace, plain, traced, without_floor
from normbench.norms.convert.rewritten import rewritten


@dataclass
class Followers:
    """What was found, and the changes that take the ReLUs away; nothing is changed before `remove`.

    norms: those that are followed by a ReLU alone, which can be taken away.
    blind: the classes whose code could not be run on symbols, or not be written anew.
    """

    norms: set[nn.Module] = field(default_factory=set)
    layers: dict[nn.Module, nn.Module] = field(default_factory=dict)  # a ReLU, what takes its place
    classes: dict[nn.Module, type] = field(default_factory=dict)  # of modules with a new `forward`
    blind: list[str] = field(default_factory=list)

    def remove(self, model: nn.Module) -> None:
        """Takes the ReLUs away. Whoever called them inside `forward` becomes of a subclass."""
        for parent in list(model.modules()):
            for key, child in list(parent._modules.items()):
                if child in self.layers:
                    setattr(parent, key, self.layers[child].train(child.training))
        for module, changed in self.classes.items():
            module.__class__ = changed


def followers(model: nn.Module, norms: set[nn.Module]) -> Followers:
    """The batch norms among `norms` whose every call is followed by a ReLU alone.

    In training and in evaluation, and only where that ReLU can be taken away: as a layer that is
    called nowhere else, or by a new `forward` of the module that calls it. The latter needs code
    that is the same in both modes and takes no optional arguments.
    """
    opened = {
        module
        for module in model.modules()
        if isinstance(module, nn.Sequential)
        or (module not in norms and not norms.isdisjoint(module.modules()))
    }
    found = Followers()
    modes = {module: module.training for module in model.modules()}
    try:
        for traces in regions(model, opened, found.blind):
            Region(traces, norms, opened, model).into(found)
    finally:
        for module, training in modes.items():
            module.training = training
    return found


def regions(root: nn.Module, opened: set[nn.Module], blind: list[str]) -> Iterator[list[Trace]]:
    """The largest parts of a network that run on symbols: the calls of each in both modes."""
    if root not in opened:
        return
    if (both := traced(root, opened)) is not None:
        yield both
        return
    if not isinstance(root, nn.ModuleList | nn.ModuleDict):  # which have no `forward`
        blind.append(type(root).__name__)
    for child in root.children():
        yield from regions(child, opened, blind)


class Region:
    """A part of a network with its calls in both modes, and which of its ReLUs can be taken away."""

    def __init__(
        self,
        traces: list[Trace],
        norms: set[nn.Module],
        opened: set[nn.Module],
        model: nn.Module,
    ) -> None:
        self.traces, self.opened = traces, opened
        self.sites: dict[nn.Module, list[tuple[Trace, fx.Node]]] = {}  # norm -> its ReLUs
        alone: set[nn.Module] = set()
        for trace in traces:
            for node in trace.calls.nodes:
                if (norm := trace.module(node)) in norms:
                    assert norm is not None
                    after = trace.follower(node)
                    if after is None:
                        alone.add(norm)
                    else:
                        self.sites.setdefault(norm, []).append((trace, after))
        for norm in alone:
            self.sites.pop(norm, None)
        self.calls = Counter(
            module for t in traces for node in t.calls.nodes if (module := t.module(node))
        )
        root = traces[0].root
        inside, everywhere = places(root), places(model)
        self.foreign = {m for m in inside if inside[m] != everywhere[m]}  # also used elsewhere
        self.bodies: dict[nn.Module, Body | None] = {}

    def into(self, found: Followers) -> None:
        """Adds what can be done to `found`."""
        while True:
            layers = self.layers()
            stuck = [
                norm
                for norm, sites in self.sites.items()
                if not all(trace.module(n) in layers or self.body(trace, n) for trace, n in sites)
            ]
            if not stuck:
                break
            for norm in stuck:
                sites = self.sites.pop(norm)
                found.blind += [type(trace.owner[node]).__name__ for trace, node in sites]
        found.layers |= {layer: without_floor(layer) for layer in layers}
        cut: dict[nn.Module, set[int]] = {}
        found.norms |= set(self.sites)
        for sites in self.sites.values():
            for trace, node in sites:
                if trace.module(node) not in layers:
                    owner = trace.owner[node]
                    position = trace.own(owner, self.opened).index(node)
                    cut.setdefault(owner, set()).add(position)
        for owner, positions in cut.items():
            body = self.bodies[owner]
            assert body is not None
            found.classes[owner] = body.subclass(positions)

    def layers(self) -> set[nn.Module]:
        """The ReLU layers whose every call follows a norm of `sites`."""
        used = Counter(t.module(node) for sites in self.sites.values() for t, node in sites)
        return {
            layer
            for layer, count in used.items()
            if layer is not None and self.calls[layer] == count and layer not in self.foreign
        }

    def body(self, trace: Trace, node: fx.Node) -> Body | None:
        """The `forward` that calls `node`, if it can be written anew."""
        owner = trace.owner[node]
        if owner not in self.bodies:
            self.bodies[owner] = None
            both = traced(owner, None) if plain(owner) else None
            if both is not None and len({str(one.calls) for one in both}) == 1:
                body = Body(owner, both[0], self.opened)
                if all(body.agrees(one) for one in self.traces):
                    self.bodies[owner] = body
        return self.bodies[owner]


@dataclass
class Body:
    """The `forward` of one module, as calls of its children, of functions and of methods."""

    owner: nn.Module
    trace: Trace
    opened: set[nn.Module]

    def agrees(self, whole: Trace) -> bool:
        """Whether the module does just this, once or never, where the whole network calls it."""
        there = [whole.target(node) for node in whole.own(self.owner, self.opened)]
        return there in ([], [self.trace.target(node) for node in self.own()])

    def own(self) -> list[fx.Node]:
        return self.trace.own(self.owner, self.opened)

    def subclass(self, positions: set[int]) -> type:
        """The module's class with a `forward` that leaves out the floors of these own calls."""
        own = self.own()
        for node in (own[position] for position in positions):
            cap = self.trace.cap(node)
            (source,) = node.all_input_nodes
            if cap != math.inf:
                with self.trace.calls.inserting_before(node):
                    source = self.trace.calls.call_function(torch.clamp, (source,), {"max": cap})
            node.replace_all_uses_with(source)
            self.trace.calls.erase_node(node)
        return rewritten(self.owner, self.trace.calls)


def places(root: nn.Module) -> Counter[nn.Module]:
    """In how many places each module is a child."""
    return Counter(
        child
        for module in root.modules()
        for child in module._modules.values()
        if child is not None
    )
