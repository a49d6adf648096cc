"""Another norm in the place of every BatchNorm2d of networks that are not ours."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from normbench import convert_norms, create_norm
from normbench.errors import UserError
from normbench.norms import NORMS, norm_class

from ..cases import each
from .table import close, gradients


def timm_model() -> nn.Module:
    """A network whose batch norms carry their activation."""
    timm = pytest.importorskip("timm")
    return timm.create_model("test_efficientnet", pretrained=False, num_classes=10)


def vgg() -> nn.Module:
    model = models.vgg11_bn(weights=None, init_weights=False)
    model.classifier = nn.Linear(512 * 7 * 7, 10)  # a hundredth of the parameters
    return model


NETWORKS = [
    pytest.param(lambda: models.resnet18(weights=None, num_classes=10), 20, id="resnet18"),
    pytest.param(lambda: models.mobilenet_v2(weights=None, num_classes=10), 52, id="mobilenet_v2"),
    pytest.param(vgg, 8, id="vgg11_bn"),
    pytest.param(timm_model, None, id="timm"),
]


def batch(n: int = 4) -> Tensor:
    return torch.randn(n, 3, 48, 48, generator=torch.Generator().manual_seed(0)).double()


LIVED = {"weight": 0.5, "bias": -0.5, "running_mean": -0.5, "running_var": 0.5}  # least values


def lived(make: Callable[[], nn.Module]) -> nn.Module:
    """The network in float64 and without dropout, whose batch norms have moved from the start."""
    torch.manual_seed(0)
    model = make().double()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = 1e-3, 0.3
            state = module.state_dict()
            for key, low in LIVED.items():
                nn.init.uniform_(state[key], low, low + 1)
    return model


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@each("activation", ["none", "relu"])
@pytest.mark.parametrize(("make", "count"), NETWORKS)
def test_bn_by_bn_computes_what_the_network_did(
    make: Callable[[], nn.Module],
    count: int | None,
    activation: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = lived(make)
    count = count or len(batch_norms(model))
    converted = convert_norms(copy.deepcopy(model), "bn", activation=activation)
    captured = capsys.readouterr()
    assert f"replaced {count} BatchNorm2d by bn" in captured.err
    assert captured.out == ""
    assert batch_norms(converted) == []
    for training in (False, True, False):  # the third sees the statistics that the second moved
        results: list[list[Tensor]] = []
        for net in (model.train(training), converted.train(training)):
            y = net(batch(2))
            results.append([y, *gradients(y, [next(net.parameters())])])
        close(results[0], results[1], tolerance=1e-5)


@each("name", ["frn", "gn"])
@pytest.mark.parametrize(("make", "count"), NETWORKS)
def test_another_norm_trains(make: Callable[[], nn.Module], count: int | None, name: str) -> None:
    options = {"channels_per_group": 4} if name == "gn" else {"learned_eps": True}
    model = convert_norms(make(), name, **options)
    assert batch_norms(model) == []
    ours = [module for module in model.modules() if type(module) is norm_class(name)]
    assert count is None or len(ours) == count
    y = model(batch(2).float())
    y.square().sum().backward()
    assert y.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_carried_activations_stay() -> None:
    timm_layers = pytest.importorskip("timm.layers")
    old = timm_layers.BatchNormAct2d(6, act_layer=nn.SiLU).double()
    model = convert_norms(nn.Sequential(old), "gn", groups=2)
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64)
    close(model(x), nn.functional.silu(nn.functional.group_norm(x, 2)))


def test_nothing_to_replace_is_refused() -> None:
    with pytest.raises(UserError, match="found no BatchNorm2d in Sequential") as refusal:
        convert_norms(nn.Sequential(nn.Conv2d(3, 6, 1), nn.GroupNorm(2, 6)), "frn")
    assert "\n" not in str(refusal.value)


def test_a_wrong_name_or_option_is_refused() -> None:
    with pytest.raises(UserError, match="no norm is called"):
        convert_norms(nn.Sequential(nn.BatchNorm2d(6)), "bnn")
    with pytest.raises(TypeError, match="no option 'group'"):
        convert_norms(nn.Sequential(nn.BatchNorm2d(6)), "gn", group=2)


@each("name", NORMS)
def test_mode_and_dtype_of_each_layer_are_kept(name: str) -> None:
    model = nn.Sequential(nn.BatchNorm2d(32).double(), nn.BatchNorm2d(32).bfloat16().eval())
    convert_norms(model, name)
    first, second = model
    assert (first.training, second.training) == (True, False)
    for layer, dtype in ((first, torch.float64), (second, torch.bfloat16)):
        tensors = [t for t in layer.state_dict().values() if t.is_floating_point()]
        assert {t.dtype for t in tensors} <= {dtype}


@each("name", NORMS)
def test_weight_and_bias_are_taken_over(name: str) -> None:
    old = nn.BatchNorm2d(32)
    nn.init.uniform_(old.weight)
    nn.init.uniform_(old.bias)
    new = convert_norms(copy.deepcopy(old), name)
    inherited = new.from_batch_norm(old.state_dict(), old.eps)
    assert inherited.keys() >= new.state_dict().keys() & {"bias"}
    for key in inherited.keys() & {"weight", "bias"}:
        assert torch.equal(new.state_dict()[key], old.state_dict()[key])


def test_a_model_that_is_itself_a_batch_norm() -> None:
    norm = convert_norms(nn.BatchNorm2d(6), "frn", activation="tlu", eps=1e-3)
    assert type(norm) is type(create_norm("frn", 6))
    assert (norm.activation, norm.eps) == ("tlu", 1e-3)


class Twice(nn.Module):
    """One layer in two places of one module, and in a third of its child."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.second = nn.BatchNorm2d(6)
        self.inside = nn.Sequential(self.first, nn.BatchNorm2d(6))


def test_a_shared_layer_stays_shared(capsys: pytest.CaptureFixture[str]) -> None:
    model = convert_norms(Twice(), "gn", groups=2)
    assert batch_norms(model) == []
    assert model.first is model.second is model.inside[0]
    assert model.inside[1] is not model.first
    assert "replaced 2 BatchNorm2d" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options", "kept"),
    [
        ("bn", {}, {"eps": 0.01, "momentum": 0.2}),
        ("bn", {"eps": 0.5}, {"eps": 0.5, "momentum": 0.2}),
        ("sn", {}, {"eps": 0.01, "momentum": 0.2}),
        ("rbn", {"momentum": 0.3}, {"eps": 0.01, "momentum": 0.3}),
        ("bin", {}, {"eps": 0.01, "momentum": 0.2}),
        ("brn", {}, {"eps": 1e-3, "momentum": 0.01}),
        ("frn", {}, {"eps": 1e-6}),
        ("in", {}, {"eps": 1e-5}),
    ],
    ids=str,
)
def test_eps_and_momentum_go_with_running_statistics(
    name: str, options: dict[str, Any], kept: dict[str, float]
) -> None:
    norm = convert_norms(nn.BatchNorm2d(6, eps=0.01, momentum=0.2), name, **options)
    assert {key: getattr(norm, key) for key in kept} == kept


def test_a_batch_norm_without_weight_or_statistics() -> None:
    x = batch()
    old = nn.BatchNorm2d(3, affine=False).double()
    close(convert_norms(copy.deepcopy(old), "bn")(x), old(x))
    with pytest.raises(UserError, match="track_running_stats=False has no running statistics"):
        convert_norms(nn.BatchNorm2d(3, track_running_stats=False), "bn")
    empty = nn.BatchNorm2d(3, affine=False, track_running_stats=False)
    assert convert_norms(empty, "in").weight.dtype == torch.float32


def test_renorm_takes_the_deviation_and_begins_its_warm_up() -> None:
    old = nn.BatchNorm2d(3).double()
    for _ in range(3):
        old(batch())
    new = convert_norms(copy.deepcopy(old), "brn").eval()
    close(new(batch()), old.eval()(batch()))
    assert new.num_batches_tracked == 0


def test_frozen_weights_stay_frozen() -> None:
    old = nn.BatchNorm2d(3)
    old.weight.requires_grad_(False)
    new = convert_norms(old, "gn", groups=3)
    assert (new.weight.requires_grad, new.bias.requires_grad) == (False, True)


def test_images_per_worker_go_to_every_layer() -> None:
    model = convert_norms(nn.Sequential(nn.BatchNorm2d(3)), "bn", images=2).double()
    bn = nn.BatchNorm2d(3).double()
    close(model(batch()), torch.cat([bn(x) for x in batch().split(2)]))


@each("images", [None, 2])
def test_a_synchronized_batch_norm_pools_over_all_workers(images: int | None) -> None:
    """torch's own computes on GPUs alone; in one process it is a BatchNorm2d."""
    synced = nn.SyncBatchNorm(3).double()
    both = nn.Sequential(nn.BatchNorm2d(3).double(), nn.Identity(), synced, nn.ReLU())
    model = convert_norms(both, "bn", activation="relu", images=images)
    assert [norm.images for norm in (model[0], model[2])] == [images, None]
    assert [norm.activation for norm in (model[0], model[2])] == ["none", "relu"]
    x = batch()
    close(model[2](x), nn.functional.batch_norm(x, None, None, training=True).relu())


def test_a_synchronized_batch_norm_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.SyncBatchNorm(3), nn.BatchNorm1d(3))
    convert_norms(model, "frn")
    said = capsys.readouterr().err
    assert said.endswith(
        "replaced 1 BatchNorm2d and 1 SyncBatchNorm by frn; left alone: 1 BatchNorm1d\n"
    )
    assert type(model[2]) is nn.BatchNorm1d


def test_a_synchronized_batch_norm_among_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(UserError, match="SyncBatchNorm among several processes"):
        convert_norms(nn.Sequential(nn.SyncBatchNorm(3)), "bn")
    convert_norms(nn.Sequential(nn.BatchNorm2d(3)), "bn")


def test_lazy_and_quantized_norms_are_refused() -> None:
    with pytest.raises(UserError, match=r"cannot replace LazyBatchNorm2d.*run the model once"):
        convert_norms(nn.Sequential(nn.BatchNorm2d(3), nn.LazyBatchNorm2d()), "frn")
    with pytest.raises(UserError, match="a quantized BatchNorm2d"):
        convert_norms(nn.Sequential(torch.ao.nn.quantized.BatchNorm2d(3)), "frn")


def test_an_error_leaves_the_model_whole() -> None:
    model = nn.Sequential(nn.BatchNorm2d(64), nn.BatchNorm2d(48))
    with pytest.raises(UserError, match="32 do not divide 48"):
        convert_norms(model, "gn")
    assert all(type(layer) is nn.BatchNorm2d for layer in model)
