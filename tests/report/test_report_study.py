"""Records laid over cells: what is shared, missing, failed, foreign, and never averaged."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from normbench.report.experiment import Experiment, load
from normbench.report.facts import facts
from normbench.report.frames import read
from normbench.report.store import compact
from normbench.report.study import Section, sections
from normbench.report.tables import accuracy, difference, tables
from normbench.settings.identity import NO_RESULT, NO_RESULT_OF_DATASET
from normbench.settings.schema import Settings

from .conftest import rewrite, settings_of, write_study

METRIC = "final_top1_percent"


def found(experiment: Experiment, folder: Path, seeds: int | None = None) -> list[Section]:
    return sections(experiment, compact(read([folder])).runs, seeds, METRIC)


def first(results: Path, seeds: int | None = None) -> Section:
    return found(load("quick"), results / "runs", seeds)[0]


def folder(results: Path, name: str) -> Path:
    """The folder of a run, by how its name begins."""
    return next(path for path in sorted(results.rglob("*")) if path.name.startswith(name))


def row(section: Section, norm: str) -> list[str]:
    return next(line for line in accuracy(load("quick"), section).rows if line[0] == norm)


def test_a_whole_study_has_every_cell_and_nothing_missing(quick: Path) -> None:
    section = first(quick)
    assert section.seeds == [0, 1, 2]
    assert section.missing() == []
    assert section.failed().empty
    assert section.foreign == []
    assert (section.count("ok") == 3).all()


def test_a_norm_without_batch_statistics_runs_once_and_stands_at_every_batch(quick: Path) -> None:
    section = first(quick)
    assert len(set(row(section, "gn")[1:])) == 1
    assert len(set(row(section, "bn")[1:])) == 4
    assert any(
        "run once" in fact and "gn" in fact for fact in facts(load("quick"), section, METRIC)
    )
    assert len(list(quick.rglob("gn-*/record.json"))) == 3


def test_under_the_scaled_protocol_no_cell_is_shared(tmp_path: Path) -> None:
    write_study(tmp_path / "results", load("gn_table2"), seeds=1)
    section = found(load("gn_table2"), tmp_path)[0]
    assert not section.cells["shared"].any()
    assert len(list(tmp_path.rglob("record.json"))) == 10


def test_a_run_that_is_gone_is_named(quick: Path) -> None:
    shutil.rmtree(folder(quick, "rbn-b8x4-s2"))
    shutil.rmtree(folder(quick, "gn-b32x1-s0"))
    section = first(quick)
    assert [(v["norm"], v["batch"], s) for v, s in section.missing()] == [
        ("gn", 32, 0),
        ("rbn", 8, 2),
    ]
    assert "(n = 2)" in row(section, "rbn")[2]
    assert any("Missing: 2 of" in fact for fact in facts(load("quick"), section, METRIC))


def test_nothing_at_all_is_a_report_that_says_so(tmp_path: Path) -> None:
    section = found(load("quick"), tmp_path, 2)[0]
    assert len(section.missing()) == 2 * (5 * 4 + 4)
    assert set(row(section, "bn")[1:]) == {"missing"}
    assert "No run" in " ".join(facts(load("quick"), section, METRIC))


def test_seeds_that_are_asked_for_are_missing_where_they_were_not_run(quick: Path) -> None:
    assert len(first(quick, seeds=4).missing()) == 5 * 4 + 4


def test_diverged_and_failed_runs_are_counted_and_not_averaged(quick: Path) -> None:
    settings = settings_of({"norm": "bn", "protocol": "fixed", "sgd_batch": 32, "batch": 2})
    for seed in (0, 1):
        rewrite(folder(quick, f"bn-b2x16-s{seed}"), settings_with(settings, seed), "diverged")
    rewrite(folder(quick, "bn-b4x8-s1"), settings_with(settings, 1, batch=4, workers=8), "failed")
    section = first(quick)
    assert "(2 of 3 diverged, n = 1)" in row(section, "bn")[4]
    assert "±" not in row(section, "bn")[4]
    assert "1 failed" in row(section, "bn")[3]
    assert list(section.failed()["error"]) == ["the machine was switched off"]


def settings_with(settings: Settings, seed: int, **more: Any) -> Settings:
    return dataclasses.replace(settings, seed=seed, study="quick", **more)


def test_another_protocol_or_length_is_a_section_of_its_own(quick: Path) -> None:
    write_study(quick, load("quick"), seeds=2, epochs=7)
    both = found(load("quick"), quick)
    assert [section.context["epochs"] for section in both] == [5, 7]
    assert all(not section.missing() for section in both)


def test_differences_are_paired_by_seed(quick: Path) -> None:
    section, experiment = first(quick), load("quick")
    table = difference(experiment, section)
    runs = section.runs[section.runs["batch"] == 2].set_index(["norm", "seed"])[METRIC]
    ours, theirs = runs["sn"], runs["bn"]
    mean = sum(ours[s] - theirs[s] for s in range(3)) / 3
    shown = next(line for line in table.rows if line[0] == "sn")[4]
    assert shown.startswith(f"+{mean:.2f} ± ")
    assert "bn" not in [line[0] for line in table.rows]


@pytest.mark.parametrize(
    "name", ["gn_table3_groups", "rbn_table4", "sn_evaluation", "frn_table5", "sn_table"]
)
def test_every_study_with_a_baseline_has_differences(tmp_path: Path, name: str) -> None:
    write_study(tmp_path / "results", load(name), seeds=2)
    section = found(load(name), tmp_path)[0]
    assert section.missing() == []
    titles = [table.title for table in tables(load(name), section)]
    assert any(title.startswith("Difference to") for title in titles)


@pytest.mark.parametrize("key", [*NO_RESULT, *(f"dataset.{key}" for key in NO_RESULT_OF_DATASET)])
def test_seeds_are_averaged_whatever_differs_that_cannot_change_a_result(
    quick: Path, key: str
) -> None:
    """One list, that of the identity; `protocol` and `study` say where a run stands."""
    if key in ("protocol", "study"):
        return
    for number, path in enumerate(sorted(quick.rglob("bn-b2x16-*/record.json"))):
        record = json.loads(path.read_text())
        group, _, option = key.rpartition(".")
        settings = record["settings"][group]["options"] if group else record["settings"]
        settings[option] = ["stages.*"] if key == "recompute" and number else f"value {number}"
        path.write_text(json.dumps(record))
    sections_ = found(load("quick"), quick)
    assert len(sections_) == 1
    assert (sections_[0].count("ok") == 3).all()


def test_a_norm_of_ones_own_that_says_so_stands_at_every_batch(quick: Path) -> None:
    mine = {"name": "custom", "label": "custom", "options": {"target": "my_norms.PairNorm"}}
    for path in quick.rglob("gn-*/record.json"):
        record = json.loads(path.read_text())
        record["settings"]["norm"] = mine
        path.write_text(json.dumps(record))
    points = [{"norm": "bn"}, {"norm": "custom", "norm.target": "my_norms.PairNorm"}]
    experiment = dataclasses.replace(load("quick"), points=points)
    runs = compact(read([quick])).runs
    for says, stands in ((None, 1), (True, 4), (False, 1)):
        per_image: Any = [says if n == "custom" else None for n in runs["norm"]]
        told = runs.assign(per_image=per_image)
        section = sections(experiment, told, None, METRIC)[0]
        assert (section.runs["norm"] == "custom").sum() == 3 * stands
