"""`create_model`: names, options and their errors; the files of conf/model; the imports."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import normbench.models
from normbench.errors import UserError
from normbench.models import MODELS, create_model

from .factories import BatchNorms

CONF = Path(__file__).parents[2] / "conf" / "model"
DEPTHS = (8, 20, 32, 44, 56, 110)
EXPECTED = {f"{kind}{d}" for kind in ("resnet", "preresnet") for d in DEPTHS}
EXPECTED |= {"wrn28_10", "vgg_a", "resnet18", "resnet34", "resnet50", "resnet101", "resnetv2_50"}


def test_unknown_name(norms: BatchNorms) -> None:
    with pytest.raises(UserError) as error:
        create_model("resnett", norms, classes=2)
    text = str(error.value)
    assert text == (
        "model 'resnett': must be one of resnet, preresnet, wrn, vgg, imagenet_resnet,"
        " imagenet_preresnet, did you mean 'resnet'?"
    )


def test_unknown_option_lists_the_options(norms: BatchNorms) -> None:
    expected = "resnet has no option 'dept': it has depth, zero_init_last, did you mean 'depth'?"
    with pytest.raises(TypeError, match=re.escape(expected)):
        create_model("resnet", norms, classes=2, dept=20)
    with pytest.raises(TypeError, match=r"vgg has no option 'norm_type': it has hidden$"):
        create_model("vgg", norms, classes=2, norm_type="bn")


@pytest.mark.parametrize("name", ["resnet", "preresnet"])
@pytest.mark.parametrize("depth", [0, 2, 3, 18, 21, -4, True, 20.0, "20", None])
def test_bad_depth(name: str, depth: object, norms: BatchNorms) -> None:
    with pytest.raises(UserError) as error:
        create_model(name, norms, classes=2, depth=depth)
    text = str(error.value)
    assert text.startswith(f"depth={depth!r}: ")
    assert "\n" not in text
    assert text.endswith("6n + 2 with n >= 1, such as 8, 20, 32, 44, 56, 110")


@pytest.mark.parametrize("depth", [4, 20, 29, "28"])
def test_bad_depth_of_wrn(depth: object, norms: BatchNorms) -> None:
    with pytest.raises(UserError, match=r"^depth=.*6n \+ 4 with n >= 1, such as 16, 22, 28, 40$"):
        create_model("wrn", norms, classes=2, depth=depth)


@pytest.mark.parametrize(
    ("name", "known"),
    [("imagenet_resnet", "18, 34, 50, 101, 152"), ("imagenet_preresnet", "50, 101, 152")],
)
@pytest.mark.parametrize("depth", [0, 20, 50.0, "50", True, None])
def test_bad_depth_for_imagenet(name: str, known: str, depth: object, norms: BatchNorms) -> None:
    with pytest.raises(UserError) as error:
        create_model(name, norms, classes=2, depth=depth)
    assert str(error.value) == f"depth={depth!r}: must be one of {known}"


@pytest.mark.parametrize("value", [0, -1, 1.5, "10", True])
def test_counts_must_be_positive(value: Any, norms: BatchNorms) -> None:
    for name, option in (("wrn", "width"), ("vgg", "hidden")):
        with pytest.raises(UserError, match=f"^{option}=.*at least 1$"):
            create_model(name, norms, classes=2, **{option: value})
    for name in MODELS:
        with torch.device("meta"), pytest.raises(UserError, match=r"^classes=.*at least 1$"):
            create_model(name, norms, classes=value)


def test_conf_has_a_file_for_each_network() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == EXPECTED


@pytest.mark.parametrize("stem", sorted(EXPECTED))
def test_conf_builds_and_names_every_option(stem: str, norms: BatchNorms) -> None:
    text = (CONF / f"{stem}.yaml").read_text()
    assert re.match(r"# \S.*\. .+ \d{4}, arXiv \d{4}\.\d{4,5}, \S.*\n", text)
    options: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    name = options.pop("name")
    assert options.pop("label") == stem
    assert set(options) == set(inspect.signature(MODELS[name]).parameters) - {"norm", "classes"}
    with torch.device("meta"):
        net = create_model(name, norms, classes=10, **options)
        assert net(torch.empty(2, 3, 32, 32)).shape == (2, 10)


def test_models_never_import_a_norm() -> None:
    files = sorted(Path(normbench.models.__file__).parent.rglob("*.py"))
    assert len(files) >= 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: a relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, (ast.Attribute, ast.Name)):
                word = node.attr if isinstance(node, ast.Attribute) else node.id
                assert not re.search(r"(Batch|Group|Layer|Instance)Norm", word), (file, word)
                continue
            else:
                continue
            for name in names:
                below = ("normbench.models", "normbench.errors")
                assert not name.startswith("normbench") or name.startswith(below), (file, name)
