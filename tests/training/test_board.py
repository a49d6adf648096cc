"""The event file of a run, read back with TensorBoard's own reader."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from normbench.record.record import Record
from normbench.settings.cell import cell_of
from normbench.settings.schema import Settings
from normbench.training.keeper import Keeper

Cell = Callable[..., Settings]
Fit = Callable[[Settings], Record]
CURVES = {
    "loss/train": "train_loss",
    "loss/test": "test_loss",
    "accuracy/train": "train_top1_percent",
    "accuracy/test": "test_top1_percent",
    "run/learning_rate": "lr",
    "run/images_per_second": "images_per_second",
}


def events(settings: Settings) -> EventAccumulator:
    reader = EventAccumulator(
        str(cell_of(settings).folder), size_guidance={"scalars": 0, "histograms": 0}
    )
    reader.Reload()
    return reader


def scalars(reader: EventAccumulator, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in reader.Scalars(tag)}


def test_the_curves_are_those_of_the_record(cell: Cell, fit: Fit) -> None:
    settings = cell(epochs=3)
    record = fit(settings)
    reader = events(settings)
    for tag, key in CURVES.items():
        found = scalars(reader, tag)
        assert list(found) == [1, 2, 3]
        assert list(found.values()) == pytest.approx(record.curves[key], rel=1e-6)
    assert reader.Tags()["histograms"] == []


def test_switchable_weights_have_names(cell: Cell, fit: Fit) -> None:
    settings = cell(norm={"name": "sn", "using": ["bn", "in"]})
    record = fit(settings)
    reader = events(settings)
    for layer, own in record.learned.items():
        for key in ("mean_weight", "var_weight"):
            for part, value in zip(("in", "bn"), own[key], strict=True):
                found = scalars(reader, f"norms/{key}/{layer}/{part}")
                assert found[2] == pytest.approx(value, abs=2e-6)


@pytest.mark.parametrize(
    ("norm", "key"), [("bin", "gate"), ("frn", "tau"), ("rbn", "center_weight")]
)
def test_the_mean_of_what_a_layer_learned(cell: Cell, fit: Fit, norm: str, key: str) -> None:
    settings = cell(norm=norm)
    record = fit(settings)
    reader = events(settings)
    layers = {layer: own[key] for layer, own in record.learned.items() if key in own}
    assert len(layers) >= 7
    for layer, values in layers.items():
        mean = sum(values) / len(values)
        assert scalars(reader, f"norms/{key}/{layer}")[2] == pytest.approx(mean, abs=2e-6)


def test_histograms_on_request(cell: Cell, fit: Fit) -> None:
    settings = cell(norm="bin", epochs=1, histograms=True)
    record = fit(settings)
    tags = events(settings).Tags()["histograms"]
    assert set(tags) == {f"norms/gate/{layer}" for layer in record.learned}


def test_hparams_and_result_in_the_same_file(cell: Cell, fit: Fit) -> None:
    norm = {"name": "frn", "eps": 1e-6, "learned_eps": False}
    settings = cell(norm=norm, epochs=1, seed=5, lr=0.05)
    record = fit(settings)
    folder = cell_of(settings).folder
    assert [p for p in folder.rglob("events.*") if p.parent != folder] == []
    assert len(list(folder.glob("events.*"))) == 1
    reader = events(settings)
    content = reader.PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(content["_hparams_/session_start_info"])
    values = start.session_start_info.hparams
    assert values["norm"].string_value == "frn"
    assert values["norm.eps"].number_value == pytest.approx(1e-6)
    assert values["norm.learned_eps"].bool_value is False
    assert values["epochs"].number_value == 1
    assert values["protocol"].string_value == "scaled"
    assert values["batch"].number_value == settings.batch
    assert values["seed"].number_value == 5
    assert values["lr"].number_value == pytest.approx(0.05)
    assert values["status"].string_value == "ok"
    experiment = HParamsPluginData.FromString(content["_hparams_/experiment"]).experiment
    metrics = {info.name.tag for info in experiment.metric_infos}
    assert "result/final_top1_percent" in metrics
    for tag in metrics:
        expected = getattr(record, tag.removeprefix("result/"))
        assert list(scalars(reader, tag).values()) == pytest.approx([expected])


def test_a_resumed_run_has_each_epoch_once(
    cell: Cell, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch that was lost with its checkpoint is drawn again, not twice."""
    settings = cell(epochs=3)
    save = Keeper.save

    def die(self: Keeper) -> None:
        if len(self.rows) == 2:
            raise KeyboardInterrupt
        save(self)

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "save", die)
        with pytest.raises(KeyboardInterrupt):
            fit(settings)
    record = fit(settings)
    steps = [event.step for event in events(settings).Scalars("loss/train")]
    assert steps == [1, 2, 3]
    found = list(scalars(events(settings), "loss/train").values())
    assert found == pytest.approx(record.curves["train_loss"], rel=1e-6)


def test_divergence_has_no_points(cell: Cell, fit: Fit) -> None:
    settings = cell(norm="none", lr=1e9, warmup=0.0, schedule="constant", epochs=1)
    assert fit(settings).status == "diverged"
    reader = events(settings)
    assert "loss/train" not in reader.Tags()["scalars"]
    content = reader.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["status"].string_value == "diverged"
