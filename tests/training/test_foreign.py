"""model=torchvision/NAME and model=timm/NAME: built from settings alone, refused in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from normbench.errors import UserError
from normbench.norms import Norm
from normbench.settings.cell import cell_of
from normbench.settings.parse import parse
from normbench.settings.schema import Settings
from normbench.training.foreign import names, original
from normbench.training.network import check, seeded_network

Cell = Callable[..., Settings]
CPU = torch.device("cpu")
SMALL = "torchvision/shufflenet_v2_x0_5"


def model(name: str) -> dict[str, str]:
    return {"name": name, "label": name.replace("/", "_")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": model("torchvision/resnt18")}, "no network 'resnt18', did you mean 'resnet18'"),
        ({"model": model("torchvision/fcn_resnet50")}, "torchvision has no network 'fcn_resnet50'"),
        ({"model": model("torchvision/zzz")}, "it has .*, such as resnet50"),
        ({"model": model("timm/resnet50.a1_in1k")}, "timm has no network .*did you mean 'resnet50"),
        ({"model": model("torchvision/vit_b_16")}, "VisionTransformer has no BatchNorm2d"),
        ({"model": model("timm/convnext_atto")}, "ConvNeXt has no BatchNorm2d"),
        ({"model": model("torchvision/inception_v3")}, "cannot take 32×32 images of cifar10_5k: "),
        ({"model": model(SMALL) | {"depth": 3}}, "has no option 'depth'; it has none"),
        ({"model": model(SMALL), "norm_stages": [1]}, r"norm_stages=\[1\]: .* has no stages"),
        ({"model": model(SMALL), "norm": {"name": "gn", "groups": 5}}, "groups=5 .*24 channels"),
    ],
)
def test_refused(cell: Cell, changes: dict[str, Any], message: str) -> None:
    if changes["model"]["name"].startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(UserError, match=message) as caught:
        check(cell(**changes))
    assert "\n" not in str(caught.value)


def test_without_timm(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"needs timm: pip install normbench\[timm\]$"):
        check(cell(model=model("timm/resnet18")))


@pytest.mark.parametrize("name", [SMALL, "torchvision/regnet_y_400mf", "timm/test_efficientnet"])
@pytest.mark.parametrize("norm", ["bn", "frn"])
def test_accepted_without_a_word(
    cell: Cell, name: str, norm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(name.partition("/")[0])
    check(cell(model=model(name), norm=norm))
    assert capsys.readouterr() == ("", "")


def drawn(net: nn.Module) -> list[torch.Tensor]:
    return [m.weight for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def test_the_weights_depend_on_the_seed_alone(cell: Cell) -> None:
    before, said = torch.random.get_rng_state(), list[str]()
    nets = [
        seeded_network(cell(model=model(SMALL), norm=norm), CPU, said.append)
        for norm in ("bn", "frn")
    ]
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(1)
    again = seeded_network(cell(model=model(SMALL), norm="in", activation="none"), CPU, said.append)
    other = seeded_network(cell(model=model(SMALL), seed=1), CPU)
    assert len(drawn(again)) == 57
    for one, two, three, four in zip(*map(drawn, [*nets, again, other]), strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)
        assert not torch.equal(one, four)
    took = "37 of them with the ReLU that followed"
    assert said[1] == f"{SMALL}: replaced 56 BatchNorm2d by frn, {took}, now tlu"
    assert said[2] == f"{SMALL}: replaced 56 BatchNorm2d by in"


def test_norm_options_and_images_come_from_the_settings(cell: Cell) -> None:
    norm = {"name": "bn", "eps": 0.5}
    net = seeded_network(cell(model=model(SMALL), norm=norm, batch=4, workers=2), CPU)
    found = [module for module in net.modules() if isinstance(module, Norm)]
    assert {(one.images, one.eps) for one in found} == {(4, 0.5)}
    x = torch.randn(8, 3, 32, 32)
    first = net(x)[:4]
    torch.testing.assert_close(first, net(torch.cat([x[:4], 5 * x[4:]]))[:4])


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_one_output_in_training(name: str) -> None:
    with torch.device("meta"):
        y = original(f"torchvision/{name}", classes=3)(torch.empty(2, 3, 128, 128))
    assert y.shape == (2, 3)


def test_no_detection_among_the_names() -> None:
    assert {"resnet50", "vgg16_bn", "inception_v3"} <= set(names("torchvision"))
    assert not {"fasterrcnn_resnet50_fpn", "raft_large", "r3d_18"} & set(names("torchvision"))


@pytest.mark.usefixtures("tiny")
def test_on_the_command_line(normbench: Callable[..., Any], composed: Callable[..., Any]) -> None:
    settings = parse(composed(f"model={SMALL}"))
    assert (settings.model.name, settings.model.options) == (SMALL, {})
    assert settings.model.label == cell_of(settings).folder.parent.name.partition("-")[0]
    assert settings.model.label == "torchvision_shufflenet_v2_x0_5"
    assert parse(composed("model=resnet20")).model.label == "resnet20"
    done = normbench("train", f"model={SMALL}", "epochs=1", "device=cpu", "batch=4", "workers=4")
    assert done.code == 0, done.err
    assert "torchvision_shufflenet_v2_x0_5" in done.out
    sizes = ("batch=4", "workers=4", "epochs=1")
    done = normbench("sweep", f"model={SMALL},resnet8", *sizes, "seeds=1", "--dry-run")
    assert "2 cells: 1 done, 1 new" in done.out, done
    done = normbench("train", "model=tv/resnet18")
    assert done.code == 2
    assert "torchvision/NAME, timm/NAME" in done.err
