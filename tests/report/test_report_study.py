"""Records laid over cells: what is shared, missing, failed, foreign, and never averaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from normbench.report.experiment import load
from normbench.report.facts import facts
from normbench.report.runs import read_runs, runs_csv
from normbench.report.study import Section, sections
from normbench.report.tables import accuracy, difference, tables

from .conftest import rewrite, settings_of, write_study

METRIC = "median_last5_top1_percent"


def first(results: Path, seeds: int | None = None) -> Section:
    return sections(load("quick"), read_runs([results / "runs"]), seeds)[0]


def folder(results: Path, name: str) -> Path:
    """The folder of a run, by how its name begins."""
    return next(path for path in sorted(results.rglob("*")) if path.name.startswith(name))


def row(section: Section, norm: str) -> list[str]:
    found = accuracy(load("quick"), section, METRIC)
    return next(line for line in found.rows if line[0] == norm)


def test_a_whole_study_has_every_cell_and_nothing_missing(quick: Path) -> None:
    section = first(quick)
    assert section.seeds == [0, 1, 2]
    assert section.missing() == []
    assert section.failed() == []
    assert section.foreign == []
    assert all(len(cell.runs) == 3 for cell in section.cells)


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
    section = sections(load("gn_table2"), read_runs([tmp_path]), None)[0]
    assert not any(cell.shared for cell in section.cells)
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
    section = sections(load("quick"), [], 2)[0]
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
    assert [run.record.error for run in section.failed()] == ["the machine was switched off"]


def settings_with(settings: object, seed: int, **more: int) -> object:
    import dataclasses

    return dataclasses.replace(settings, seed=seed, study="quick", **more)  # type: ignore[type-var]


def test_another_protocol_or_length_is_a_section_of_its_own(quick: Path) -> None:
    write_study(quick, load("quick"), seeds=2, epochs=7)
    found = sections(load("quick"), read_runs([quick]), None)
    assert [section.context["epochs"] for section in found] == [5, 7]
    assert all(not section.missing() for section in found)


def test_differences_are_paired_by_seed(quick: Path) -> None:
    section, experiment = first(quick), load("quick")
    table = difference(experiment, section, METRIC)
    by_seed = {
        norm: next(c for c in section.cells if c.values["norm"] == norm and c.values["batch"] == 2)
        for norm in ("bn", "sn")
    }
    ours, theirs = (by_seed[norm].results(METRIC) for norm in ("sn", "bn"))
    mean = sum(ours[s] - theirs[s] for s in range(3)) / 3
    shown = next(line for line in table.rows if line[0] == "sn")[4]
    assert shown.startswith(f"+{mean:.2f} ± ")
    assert "bn" not in [line[0] for line in table.rows]


@pytest.mark.parametrize(
    "name", ["gn_table3_groups", "rbn_table4", "sn_evaluation", "frn_table5", "sn_table"]
)
def test_every_study_with_a_baseline_has_differences(tmp_path: Path, name: str) -> None:
    write_study(tmp_path / "results", load(name), seeds=2)
    section = sections(load(name), read_runs([tmp_path]), None)[0]
    assert section.missing() == []
    found = tables(load(name), section, "final_top1_percent")
    assert any(table.title.startswith("Difference to") for table in found)


def test_runs_csv_holds_nothing_of_the_machine_or_the_time(quick: Path) -> None:
    before = runs_csv(read_runs([quick]))
    assert before.count("\n") == 1 + 72
    for path in quick.rglob("record.json"):
        record = json.loads(path.read_text())
        record |= {
            "train_seconds": 1.0,
            "device": "another",
            "git_commit": "x",
            "versions": {"a": "b"},
        }
        record["peak_memory_mib"] = record["images_per_second"] = 3.0
        path.write_text(json.dumps(record))
    assert runs_csv(read_runs([quick])) == before
    assert runs_csv(reversed(read_runs([quick]))) == before
