"""Where the ReLU behind a batch norm goes into the norm, where it stays, and what is said of it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normbench import convert_norms
from normbench.errors import UserError
from normbench.norms import Norm, PlaneNorm

from ..cases import each
from .table import close

C = 4


class Net(nn.Module):
    """`relu` where the pattern has it; `bare` is the same without the ReLUs that can be taken in."""

    taken: tuple[bool, ...] = (True,)  # of norm1, norm2

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(C), nn.BatchNorm2d(C)
        self.relu = nn.ReLU(inplace=True)

    def bare(self, x: Tensor) -> Tensor:
        return self.norm1(x)


class Attribute(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.norm1(x))


class Function(Net):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm1(x), inplace=True)


class TorchFunction(Net):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm1(x))


class Method(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm1(x).relu_()


class Block(Net):
    """One ReLU at three places, as in torchvision's ResNet; the last follows an addition."""

    taken = (True, False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(x))
        return self.relu(self.norm2(y) + x)

    def bare(self, x: Tensor) -> Tensor:
        return F.relu(self.norm2(self.norm1(x)) + x)


class Layers(nn.Sequential):
    taken = (True, False, True)

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm2d(C), nn.ReLU(), nn.BatchNorm2d(C), nn.Tanh())
        self.append(nn.Sequential(nn.BatchNorm2d(C), nn.Identity())).append(nn.ReLU(inplace=True))

    def bare(self, x: Tensor) -> Tensor:
        return self[4](self[3](self[2](self[0](x))))


class SharedLayer(nn.Sequential):
    """One object in two places, both of which follow a norm."""

    taken = (True, True)

    def __init__(self) -> None:
        relu = nn.ReLU()
        super().__init__(nn.BatchNorm2d(C), relu, nn.BatchNorm2d(C), relu)

    def bare(self, x: Tensor) -> Tensor:
        return self[2](self[0](x))


class SharedByBlocks(Net):
    """One object in two modules, of which one has it behind an addition too."""

    taken = (True, True)

    def __init__(self) -> None:
        super().__init__()
        del self.norm2
        self.layers = nn.Sequential(nn.BatchNorm2d(C), self.relu)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.layers(self.relu(self.norm1(x))) + 1)

    def bare(self, x: Tensor) -> Tensor:
        return F.relu(self.layers[0](self.norm1(x)) + 1)


class Dense(Net):
    """The norm at the end of a Sequential, the ReLU in the code around it, as in DenseNet."""

    taken = (True, True)

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(self.norm1, nn.Conv2d(C, C, 1), self.norm2)
        self.middle = nn.Sequential(nn.ReLU(), nn.Conv2d(C, C, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.features[2](self.features[1](F.relu(self.features[0](x))))
        return self.middle(y)

    def bare(self, x: Tensor) -> Tensor:
        return self.middle[1](self.features(x))


class Flag(Net):
    """Code that asks the object."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        return y if self.relu.inplace else 2 * y


class UsedTwice(Net):
    taken = (False,)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        return F.relu(y) + y


class CalledTwice(Net):
    taken = (False,)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm1(x)) + self.norm1(-x)


class InTrainingAlone(Net):
    taken = (False,)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        return F.relu(y) if self.training else y


class BehindDropout(Net):
    taken = (False,)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.dropout(self.norm1(x), 0.0))


class OtherActivation(Net):
    taken = (False,)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm1(x))


class OtherCodeInTraining(Net):
    """The code around the ReLU is not the same in both modes: it cannot be written anew."""

    taken = (False,)
    named = "OtherCodeInTraining"

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        return 2 * y if self.training else y


class OptionalArgument(Net):
    taken = (False,)
    named = "OptionalArgument"

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        return F.relu(self.norm1(x)) + (x if shortcut is None else shortcut)


class Asks(Net):
    """Code that depends on numbers, around a part that does not."""

    taken = (False, True)
    named = "Asks"

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(self.norm2, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        return self.part(y) if y.sum() > 0 else y

    def bare(self, x: Tensor) -> Tensor:
        return self.norm2(F.relu(self.norm1(x)))


TAKEN = [
    Attribute, Function, TorchFunction, Method, Block, Layers, SharedLayer, SharedByBlocks, Dense,
    Flag, Asks,
]  # fmt: skip
KEPT = [
    UsedTwice, CalledTwice, InTrainingAlone, BehindDropout, OtherActivation, OtherCodeInTraining,
    OptionalArgument,
]  # fmt: skip
Make = Callable[[], Any]


def lived(make: Make) -> Any:
    torch.manual_seed(0)
    net = make().double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
    return net


def images() -> Tensor:
    return torch.randn(3, C, 5, 5, generator=torch.Generator().manual_seed(1)).double()


def norms(net: nn.Module) -> list[Norm]:
    return [module for module in net.modules() if isinstance(module, Norm)]


@each("make", TAKEN + KEPT)
def test_relu_computes_what_the_network_did(make: Make) -> None:
    net = lived(make)
    fused = convert_norms(copy.deepcopy(net), "bn", activation="relu")
    for training in (False, True, False):
        close(fused.train(training)(images()), net.train(training)(images()), tolerance=1e-12)


@each("make", TAKEN + KEPT)
def test_which_norms_get_the_activation(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    net = convert_norms(lived(make).eval(), "frn", activation="auto")
    expected = ["tlu" if taken else "none" for taken in make.taken]
    assert [norm.activation for norm in norms(net)][: len(expected)] == expected
    count, said = sum(make.taken), capsys.readouterr().err
    assert (f", {count} of them with the ReLU that followed, now tlu" in said) == (count > 0)
    named = getattr(make, "named", None)
    assert said.endswith(f"; ReLUs stay where they are in {named}\n" if named else "\n")
    assert ("stay" in said) == (named is not None)
    assert not any(module.training for module in net.modules())


@each("make", TAKEN)
def test_the_relu_itself_is_gone(make: Make) -> None:
    """A threshold that no number reaches: what is left is the network without those ReLUs."""
    net = convert_norms(lived(make), "frn", activation="tlu")
    plain = copy.deepcopy(net)
    for norm in norms(net):
        if norm.tau is not None:
            nn.init.constant_(norm.tau, -1e9)
    for norm in norms(plain):
        norm.activation, norm.tau = "none", None
    assert any(isinstance(norm, PlaneNorm) for norm in norms(plain))
    for training in (True, False):
        close(net.train(training)(images()), plain.train(training).bare(images()), tolerance=1e-12)


@each("make", TAKEN + KEPT)
@each("options", [{}, {"activation": "none"}])
def test_none_leaves_every_relu_where_it_is(make: Make, options: dict[str, Any]) -> None:
    net = lived(make)
    converted = convert_norms(copy.deepcopy(net), "bn", **options)
    assert {norm.activation for norm in norms(converted)} == {"none"}
    assert [type(m) for m in converted.modules() if not isinstance(m, Norm)] == [
        type(m) for m in net.modules() if not isinstance(m, nn.BatchNorm2d)
    ]
    close(converted(images()), net(images()), tolerance=1e-12)


class Six(Net):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(self.norm1(9 * x))


class SixLayers(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.BatchNorm2d(C), nn.ReLU6(inplace=True))


@each("make", [Six, SixLayers])
def test_of_relu6_the_cap_stays(make: Make) -> None:
    net = lived(make)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 9.0)
    fused = convert_norms(copy.deepcopy(net), "bn", activation="relu")
    y = net(images())
    assert y.max() == 6
    close(fused(images()), y, tolerance=1e-12)
    for norm in norms(lower := convert_norms(net, "frn", activation="tlu")):
        if norm.tau is not None:
            nn.init.constant_(norm.tau, -2.0)
    y = lower(images())
    assert (y.min(), y.max()) == (-2, 6)


def test_norm_and_activation_in_one_layer_of_timm() -> None:
    layers = pytest.importorskip("timm.layers")
    for act, after in ((nn.ReLU, []), (nn.ReLU6, [nn.Hardtanh]), (nn.SiLU, [nn.SiLU])):
        layer = layers.BatchNormAct2d(C, act_layer=act)
        old = lived(partial(nn.Sequential, layer))
        new = convert_norms(copy.deepcopy(old), "bn", activation="relu")
        assert norms(new)[0].activation == ("none" if act is nn.SiLU else "relu")
        assert [type(m) for m in new[0].children()][1:] == after
        close(new(3 * images()), old(3 * images()), tolerance=1e-12)
    silent = layers.BatchNormAct2d(C, apply_act=False)
    net: Any = convert_norms(nn.Sequential(silent, nn.ReLU()), "frn", activation="auto")
    assert [type(m) for m in net][1:] == [nn.Identity]
    assert net[0].activation == "tlu"


def test_what_is_rewritten_is_still_the_same_kind_of_module() -> None:
    net = convert_norms(nn.Sequential(lived(Block)), "frn", activation="auto")
    block = net[0]
    assert isinstance(block, Block)
    assert type(block).__name__ == "Block"
    close(copy.deepcopy(net)(images()), net(images()))
    assert {key.partition(".")[0] for key in block.state_dict()} == {"norm1", "norm2"}
    loaded = pickle.loads(pickle.dumps(net))
    assert isinstance(loaded[0], Block)
    close(loaded(images()), net(images()))
    close(pickle.loads(pickle.dumps(copy.deepcopy(loaded)))(images()), net(images()))


def test_gradients_reach_the_threshold() -> None:
    net = convert_norms(lived(Block), "frn", activation="auto")
    net(images()).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in net.norm1.parameters())


def test_a_wrong_activation_is_refused_though_no_norm_would_take_it() -> None:
    with pytest.raises(UserError, match="activation='rely' is not one of"):
        convert_norms(nn.Sequential(nn.BatchNorm2d(C)), "bn", activation="rely")


def test_an_error_leaves_the_relus_too() -> None:
    net = lived(Block)
    with pytest.raises(UserError, match="32 do not divide 4"):
        convert_norms(net, "gn", activation="auto")
    assert type(net) is Block
    assert type(net.norm1) is nn.BatchNorm2d
