"""Every choice in conf/ composes, parses, and is a network that can run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from normbench.data.photos.root import OWN_CLASSES
from normbench.errors import UserError
from normbench.norms import NORMS
from normbench.settings.parse import parse
from normbench.training.network import check

Composed = Callable[..., dict[str, Any]]


def names(group: str) -> list[str]:
    found = (entry.name for entry in (files("normbench.conf") / group).iterdir())
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def test_a_file_for_every_norm() -> None:
    assert set(names("norm")) == {*NORMS, "custom"}


@pytest.mark.parametrize("norm", [name for name in names("norm") if name != "custom"])
def test_norms(composed: Composed, norm: str) -> None:
    settings = parse(composed(f"norm={norm}"))
    assert settings.norm.label == norm
    check(settings)


DEEP = ("resnet56", "resnet101", "resnet110", "preresnet56", "preresnet110", "resnetv2_50")
MODELS = [
    pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in names("model")
]


@pytest.mark.parametrize("model", MODELS)
def test_models(composed: Composed, model: str) -> None:
    settings = parse(composed(f"model={model}"))
    assert settings.model.label == model
    check(settings)


@pytest.mark.parametrize("dataset", names("dataset"))
def test_datasets(composed: Composed, dataset: str) -> None:
    settings = parse(composed(f"dataset={dataset}"))
    assert settings.dataset.label == dataset
    if dataset in OWN_CLASSES:
        with pytest.raises(UserError, match=f"dataset={dataset} needs dataset.root=…"):
            check(settings)
    else:
        check(settings)


@pytest.mark.parametrize("recipe", names("recipe"))
def test_recipes(composed: Composed, recipe: str) -> None:
    """Each on a network and images of the kind it was made for; 256 images a step, or BIN's 128."""
    settings = parse(composed(f"recipe={recipe}", "dataset=imagenette", "model=resnet18"))
    assert settings.peak_lr == pytest.approx(0.1)
    assert settings.weight_decay == 1e-4
    check(settings)


@pytest.mark.parametrize("scale", ["imagenet", "imagenette"])
@pytest.mark.parametrize("norm", ["bn", "gn", "frn"])
def test_scales_for_photographs(composed: Composed, scale: str, norm: str) -> None:
    """GN has the paper's 32 groups there; a paper's own recipe takes the place of the common one."""
    own = "dataset=imagenette" if scale == "imagenet" else "batch=32"
    settings = parse(composed(f"scale={scale}", own, f"norm={norm}"))
    assert settings.schedule == "cosine"
    assert settings.norm.options.get("groups", 32) == 32
    check(settings)
    assert parse(composed(f"scale={scale}", own, "recipe=gn")).schedule == "step"


def said(group: str, name: str) -> dict[str, Any]:
    """The keys that a file of conf/ sets, with their values; those of a group as `dataset.size`."""
    data = yaml.safe_load((files("normbench.conf") / group / f"{name}.yaml").read_text("utf-8"))
    found: dict[str, Any] = {}
    for key, value in data.items():
        nested = isinstance(value, dict) and key not in ("report", "axes")
        found |= {f"{key}.{k}": v for k, v in value.items()} if nested else {key: value}
    found.pop("defaults", None)
    return found


def at(data: dict[str, Any], key: str) -> Any:
    group, _, option = key.rpartition(".")
    return (data[group] if group else data)[option]


QUICK = ("embedded", "imagenette")  # of the scales, where each takes seconds
SCALES = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names("scale")
]


@pytest.mark.parametrize("scale", SCALES)
def test_what_is_named_wins(composed: Composed, scale: str) -> None:
    """Every field of a recipe over a scale's, every field of an experiment over both; below them
    every field of the scale, over those of the recipe that it takes itself."""
    of_scale = said("scale", scale)
    alone = composed(f"scale={scale}")
    assert {key: at(alone, key) for key in of_scale} == of_scale
    for recipe in names("recipe"):
        of_recipe = said("recipe", recipe)
        both = composed(f"recipe={recipe}", f"scale={scale}", "dataset=imagenette")
        assert {key: at(both, key) for key in of_recipe} == of_recipe
        rest = {key: value for key, value in of_scale.items() if key not in of_recipe}
        assert {key: at(both, key) for key in rest} == rest


@pytest.mark.parametrize("experiment", names("experiment"))
def test_an_experiment_keeps_its_own_keys(composed: Composed, experiment: str) -> None:
    own = said("experiment", experiment)
    data = composed(f"experiment={experiment}", "scale=imagenette", "recipe=gn")
    assert {key: at(data, key) for key in own} == own
    assert at(composed(f"experiment={experiment}", "epochs=7"), "epochs") == 7


def test_a_papers_recipe_is_its_protocol_too(composed: Composed) -> None:
    """The embedded scale's fixed protocol is a default below it."""
    settings = parse(composed("scale=embedded", "recipe=bin"))
    assert (settings.protocol, settings.batch, settings.workers) == ("scaled", 128, 1)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A norm of one's own in the working folder."""
    (tmp_path / "own_norm_of_a_test.py").write_text(
        "from normbench.norms import PlaneNorm, standardize\n"
        "class Mine(PlaneNorm):\n"
        "    def __init__(self, channels, *, activation='none', images=None, eps: float = 1.0):\n"
        "        super().__init__(channels, activation=activation, images=images)\n"
        "        self.eps = eps\n"
        "    def mix(self, moments):\n"
        "        return standardize(moments, self.eps)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("own_norm_of_a_test", None)


@pytest.mark.usefixtures("own")
def test_custom(composed: Composed) -> None:
    target = "norm.target=own_norm_of_a_test.Mine"
    settings = parse(composed("norm=custom", target, "+norm.options.eps=0.5"))
    assert settings.norm.options == {"target": "own_norm_of_a_test.Mine", "eps": 0.5}
    check(settings)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("+norm.options.epsilon=0.5", "has no option 'epsilon', did you mean 'eps'"),
        ("+norm.options.eps=tiny", r"norm\.eps='tiny': must be a number"),
    ],
)
def test_custom_options_are_checked(composed: Composed, word: str, message: str) -> None:
    settings = parse(composed("norm=custom", "norm.target=own_norm_of_a_test.Mine", word))
    with pytest.raises(UserError, match=message):
        check(settings)


def test_labels_follow_the_options(composed: Composed) -> None:
    deeper = parse(composed("model=resnet20", "model.depth=32"))
    assert deeper.model.label == "resnet32"


@pytest.mark.parametrize("group", ["norm", "model", "dataset"])
def test_each_file_begins_with_what_it_is(group: str) -> None:
    for name in names(group):
        text = (files("normbench.conf") / group / f"{name}.yaml").read_text(encoding="utf-8")
        what, _, source = text.splitlines()[0].removeprefix("# ").partition(". ")
        assert text.startswith("# "), name
        assert what, name
        assert source or (group, name) in {("norm", "none"), ("norm", "custom")}, name
