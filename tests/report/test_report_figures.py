"""What figures show: looks that are told apart, intervals from three seeds on, axes, names, files."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Drawing
from matplotlib.style import context
from matplotlib.text import Text

from normbench.norms.registry import NORMS, load
from normbench.report import arguments, main, names
from normbench.report import experiment as experiments
from normbench.report.command import compose
from normbench.report.document import Document
from normbench.report.figures import FIGURES, style
from normbench.report.frames import read
from normbench.report.store import compact

from .conftest import write_study


@pytest.fixture(autouse=True)
def as_in_print() -> Iterator[None]:
    with context(style.RULES, after_reset=True):
        yield


def document(results: Path, name: str, *words: str) -> Document:
    """The report of a study, before it is written."""
    request = arguments.parse([f"experiment={name}", *words])
    return compose(experiments.load(name), compact(read([results])), request)


def drawn(figure: str, made: Document) -> tuple[Drawing, str]:
    found = FIGURES[figure](made)
    assert not isinstance(found, str), found
    return found


def lab(colour: str) -> np.ndarray:
    """CIELAB of an sRGB colour (CIE 1976; IEC 61966-2-1), white point D65."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    rows = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(rows) @ linear / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_any_two_norms_differ_in_colour_and_those_with_one_marker_differ_much() -> None:
    assert set(NORMS) <= set(style.NORMS), "a norm lacks its look in figures/style.py"
    for (a, b), (c, d) in itertools.combinations(style.NORMS.values(), 2):
        apart = np.linalg.norm(lab(a) - lab(c))
        assert apart > (30 if b == d else 13), (a, b, c, d)


def test_the_norms_whose_own_activation_is_tlu_are_called_by_it() -> None:
    classes = {name: load(entry.target) for name, entry in NORMS.items()}
    own = {name for name, made in classes.items() if getattr(made, "auto_activation", "") == "tlu"}
    assert own == set(names.TLU)
    assert names.norm("frn", "auto") == "FRN + TLU"
    assert names.norm("gn", "auto", True) == "GN + WS"
    assert names.norm("PairNorm", "auto") == "PairNorm"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("norm.groups", 16, "16 groups"),
        ("batch", 1, "1 image per worker"),
        ("norm.centering", False, "without centering"),
        ("norm.eps", 1e-6, "ε = 10⁻⁶"),
        ("norm_stages", (0, 2, 3), "stages 0, 2 and 3"),
        ("model", "preresnet110", "PreResNet-110"),
        ("model", "timm/resnet18", "timm/resnet18"),
        ("activation", "affine_tlu", "affine TLU"),
    ],
)
def test_settings_in_words(key: str, value: Any, words: str) -> None:
    assert names.setting(key, value) == words


def test_lines_of_one_norm_and_of_a_users_own_are_told_apart() -> None:
    rows = {"BN": "bn", "GN": "gn", "GN + WS": "gn", "Mine": "Mine", "Other": "Other"}
    looks = style.look(rows)
    assert looks["GN"].colour == looks["GN + WS"].colour
    assert looks["GN"].marker != looks["GN + WS"].marker
    assert looks["GN"].dash != looks["GN + WS"].dash
    assert len({look.colour for look in looks.values()}) == 4
    alone = style.look({f"GN, {n} groups": "gn" for n in (16, 8, 4, 2, 1)})
    assert len({look.colour for look in alone.values()}) == 5
    assert len({str(look.dash) for look in alone.values()}) == 5


def test_a_label_of_others_is_no_formula(tmp_path: Path) -> None:
    quick = dataclasses.replace(experiments.load("quick"), points=[{"norm": "bn"}])
    write_study(tmp_path / "results", quick, seeds=1, study="mine")
    for path in tmp_path.rglob("record.json"):
        data = json.loads(path.read_text())
        data["settings"]["norm"]["label"] = "a$\\b_c$"
        path.write_text(json.dumps(data))
    words = [f"results={tmp_path}", f"out={tmp_path / 'out'}", "formats=svg,html"]
    assert main([str(tmp_path / "results"), *words]) == 0


def bars(axes: Any) -> int:
    """The error bars of a panel that have a length."""
    every = [
        segment for box in axes.containers for lines in box[2] for segment in lines.get_segments()
    ]
    return sum(len(one) == 2 and bool(np.isfinite(one).all()) for one in every)


@pytest.mark.parametrize(("seeds", "has"), [(1, False), (2, False), (3, True)])
def test_intervals_are_bars_from_three_seeds_on_and_two_are_points(
    tmp_path: Path, seeds: int, has: bool
) -> None:
    write_study(tmp_path / "results", experiments.load("gn_table2"), seeds=seeds)
    made = document(tmp_path, "gn_table2")
    for figure in ("batch_size", "curves"):
        drawing, caption = drawn(figure, made)
        axes = drawing.axes[0]
        assert (bars(axes) > 0) == has
        hollow = [line for line in axes.get_lines() if line.get_fillstyle() == "none"]
        assert bool(hollow) == (seeds == 2)
        assert ("95 % Student-t" in caption) == has
        said = "seed 0" if seeds == 1 else f"seeds 0 to {seeds - 1}"
        assert f"ResNet-8 on CIFAR-10 (5,000 images), 5 epochs, {said}." in caption


def test_percent_axes_end_at_0_and_100_and_the_caption_of_accuracy_says_so(tmp_path: Path) -> None:
    write_study(tmp_path / "results", experiments.load("gn_table2"), seeds=3)
    for record in (tmp_path / "results").rglob(
        "record.json"
    ):  # most of the chance level, one at 100
        text = record.read_text()
        top = "100.0" if "-s0-" in str(record) else "10.0"
        data = json.loads(text)
        data["final_top1_percent"] = float(top)
        data["curves"]["test_top1_percent"] = [float(top)] * 5
        record.write_text(json.dumps(data))
    for words in ([], ["metric=accuracy"]):
        made = document(tmp_path, "gn_table2", *words)
        for figure in ("batch_size", "curves"):
            drawing, caption = drawn(figure, made)
            assert caption.startswith("Test accuracy" if words else "Test error")
            for axes in drawing.axes:
                low, high = axes.get_ylim()
                assert 0 <= low < high <= 100


def test_panels_are_in_the_order_of_the_axis_and_none_is_empty(tmp_path: Path) -> None:
    write_study(tmp_path / "results", experiments.load("gn_table2"), seeds=1)
    for run in tmp_path.rglob("bn-b32*"):
        shutil.rmtree(run)
    drawing, _ = drawn("curves", document(tmp_path, "gn_table2"))
    titles = [axes.get_title(loc="left") for axes in drawing.axes]
    assert titles == [names.setting("batch", n) for n in (32, 16, 8, 4, 2)]
    assert all(axes.containers for axes in drawing.axes)


def test_a_study_of_one_row_is_one_panel_with_a_line_for_each_column(tmp_path: Path) -> None:
    write_study(tmp_path / "results", experiments.load("gn_table3_groups"), seeds=1)
    drawing, _ = drawn("curves", document(tmp_path, "gn_table3_groups"))
    assert len(drawing.axes) == 1
    labels = [box.get_label() for box in drawing.axes[0].containers]
    assert labels == ["16 groups", "8 groups", "4 groups", "2 groups", "1 group"]


def test_panels_and_width_are_as_asked(quick: Path) -> None:
    widths, titles = {}, {}
    for panels, width in (("both", "page"), ("measured", "column"), ("published", "page")):
        made = document(quick, "quick", f"panels={panels}", f"width={width}")
        drawing, _ = drawn("batch_size", made)
        titles[panels] = [axes.get_title(loc="left").split(",")[0] for axes in drawing.axes]
        widths[width] = drawing.get_figwidth()
    assert titles["both"] == [*titles["measured"], *titles["published"]]
    assert titles["measured"] == ["Measured here"]
    assert widths["column"] == 3.5


def test_no_two_labels_of_lines_meet(quick: Path) -> None:
    drawing, _ = drawn("batch_size", document(quick, "quick"))
    drawing.draw_without_rendering()
    for axes in drawing.axes:
        words = [Text.get_window_extent(text) for text in axes.texts]  # without their leaders
        boxes = sorted((box.y0, box.y1) for box in words)
        assert len(boxes) > 1
        assert all(a[1] <= b[0] + 1 for a, b in itertools.pairwise(boxes))


def test_a_pdf_holds_its_fonts_and_is_the_same_in_another_process(quick: Path) -> None:
    found = []
    for seed in ("1", "2"):
        words = [f"results={quick}", f"out={quick / seed}", "formats=pdf"]
        code = f"from normbench.report import main; main(['experiment=quick', *{words}])"
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
        found.append((quick / seed / "figure_batch_size.pdf").read_bytes())
    assert found[0] == found[1]
    assert b"/FontFile2" in found[0]  # TrueType, embedded
    assert b"/Type3" not in found[0]
    assert b"/Subtype /Image" not in found[0]


def test_a_mixed_folder_is_a_report_for_each_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    for study in ("gn_table1", "rbn_table2"):
        write_study(results, experiments.load(study), seeds=2)
    write_study(results, experiments.load("gn_table1"), seeds=1, study="mine", epochs=3)
    assert main([str(results / "runs"), f"results={results}", "formats=md"]) == 0
    shown = capsys.readouterr().out
    assert "Missing" not in shown
    for study in ("gn_table1", "rbn_table2", "mine"):
        assert (results / study / "table.md").is_file()
    assert "Centering and scaling" in (results / "rbn_table2" / "table.md").read_text()


def test_what_completes_a_study_names_the_axes_and_settings_in_use(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_study(
        results, experiments.load("gn_table2"), seeds=2, sgd_batch=32, protocol="fixed", epochs=7
    )
    shutil.rmtree(next(iter(tmp_path.rglob("bn-b8*-s1-*"))))
    words = ["axes.batch=[8,2]", f"results={results}", "formats=md"]
    main(["experiment=gn_table2", *words])
    said = (results / "gn_table2" / "table.md").read_text()
    command = "normbench sweep experiment=gn_table2 batch=8,2 epochs=7 seeds=2 completes them"
    assert f"Missing: 1 of 6 runs; {command}: norm=bn batch=8 seed=1." in said
