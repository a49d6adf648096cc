"""Claims: contrasts, pooled intervals, verdicts by rule."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from normbench.errors import UserError
from normbench.report.claims.command import run
from normbench.report.claims.contrast import parse_contrast
from normbench.report.claims.estimate import Design, holm
from normbench.report.claims.verdicts import claims, findings, section_of
from normbench.report.experiment import load
from normbench.report.interval import quantile


def grid(cells: int, seeds: int) -> tuple[list[int], list[int]]:
    """Every cell with every seed."""
    return [c for c in range(cells) for _ in range(seeds)], list(range(seeds)) * cells


def test_contrasts() -> None:
    bn, gn = ("norm", "bn"), ("norm", "gn")
    for text, weights in {
        "bn batch=2 - bn batch=32": {(bn, ("batch", 2)): 1, (bn, ("batch", 32)): -1},
        "gn+ws - 0.5*bn - 0.5*gn | batch=2": {
            (gn, ("batch", 2), ("weight_standardization", True)): 1,
            (bn, ("batch", 2)): -0.5,
            (gn, ("batch", 2)): -0.5,
        },
        "slope bn batch=2,8": {(bn, ("batch", 2)): -0.5, (bn, ("batch", 8)): 0.5},
    }.items():
        assert parse_contrast(text).weights == weights, text
    for wrong in ("", "bn batch", "bn batch=2,8", "slope bn batch=2", "2 bn", "bn - "):
        with pytest.raises(UserError, match=r"contrast|list|slope"):
            parse_contrast(wrong)


def test_two_cells_are_the_paired_t_test() -> None:
    """With two cells the model is the t test of the differences at equal seed."""
    first, second = [50.0, 52.0, 51.5, 49.0], [48.0, 51.0, 49.0, 48.5]
    found = Design(*grid(2, 4)).estimate({0: 1, 1: -1}, [*first, *second])
    differences = [a - b for a, b in zip(first, second, strict=True)]
    assert math.isclose(found.value, fmean(differences))
    assert found.half is not None
    assert math.isclose(found.half, quantile(0.975, 3) * stdev(differences) / 2)
    assert found.freedom == 3


def test_intervals_cover_and_families_err_as_often_as_they_say() -> None:
    """95 % ± 1 for 3 and 5 seeds, whatever the seeds' own effect; Holm errs in at most 5 %."""
    draws = 4000
    for seeds in (3, 5):
        noise, design = np.random.default_rng(seeds), Design(*grid(9, seeds))
        covered = wrong = 0
        for _ in range(draws):
            of_seed = np.tile(3 * noise.normal(size=seeds), 9)
            y = list(np.repeat(np.arange(9.0), seeds) + of_seed + noise.normal(size=9 * seeds))
            one = design.estimate({4: 1, 1: -0.5, 7: -0.5}, y)  # truly 4 − 0.5 − 3.5 = 0
            assert one.half is not None
            covered += abs(one.value) <= one.half
            nothing = [a - b // seeds for a, b in zip(y, range(len(y)), strict=True)]
            family = [design.estimate({k: 1, 0: -1}, nothing).p or 0.0 for k in range(1, 5)]
            wrong += min(holm(family)) < 0.05
        assert abs(covered / draws - 0.95) < 0.01, seeds
        assert wrong / draws < 0.055, seeds


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == [0.03, 0.06, 0.06]
    assert holm([]) == []


def test_one_seed_has_no_interval() -> None:
    found = Design(*grid(3, 1)).estimate({0: 1, 1: -1}, [3.0, 1.0, 2.0])
    assert math.isclose(found.value, 2.0)
    assert (found.half, found.p) == (None, None)


def frame(accuracies: dict[tuple[str, int], list[float]]) -> pd.DataFrame:
    """Runs of rbn_table2-like cells of gn_table2: (norm, batch) -> accuracy by seed."""
    rows = [
        {
            "run": f"{norm}-{batch}-{seed}", "study": "gn_table2", "norm": norm, "batch": batch,
            "workers": 32 // batch, "seed": seed, "model": "resnet8", "dataset": "cifar10_5k",
            "protocol": "fixed", "epochs": 20, "status": "ok", "per_image": norm == "gn",
            "median_last5_top1_percent": value, "final_top1_percent": value, "norm_stages": None,
        }
        for (norm, batch), values in accuracies.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_verdicts_follow_the_rule() -> None:
    runs = frame(
        {
            ("bn", 32): [60.0, 61.0, 60.5],
            ("bn", 2): [50.1, 51.0, 50.3],
            ("gn", 32): [55.2, 56.0, 55.6],  # one run stands for every batch
        }
    )
    found = {
        one.claim.contrast.text: one for one in findings("gn_table2", section_of("gn_table2", runs))
    }
    assert found["bn batch=2 - bn batch=32"].verdict == "holds"
    assert found["gn - bn | batch=2"].verdict == "holds"
    assert found["bn batch=8 - bn batch=32"].verdict == "not run"
    assert found["gn - bn | batch=2"].runs == 6
    upside_down = runs.assign(median_last5_top1_percent=100 - runs["median_last5_top1_percent"])
    found = {
        one.claim.contrast.text: one
        for one in findings("gn_table2", section_of("gn_table2", upside_down))
    }
    assert found["gn - bn | batch=2"].verdict == "opposite"
    one_seed = findings("gn_table2", section_of("gn_table2", runs[runs["seed"] == 0]))
    assert {one.verdict for one in one_seed} == {"unclear", "not run"}
    assert {
        one.verdict for one in findings("gn_table2", section_of("gn_table2", runs.iloc[:0]))
    } == {"not run"}


def test_every_claim_has_a_study_and_a_published_difference() -> None:
    assert len(claims()) > 40
    for claim in claims():
        assert load(claim.study).study, claim
        assert claim.published, f"{claim.claim}: nothing was published"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Path(__file__).parents[2] / "results"
    assert run([f"results={results}", f"out={tmp_path}", "study=quick,rbn_table2"]) == 0
    assert "tests of claims: " in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "claims.csv")
    assert set(table["study"]) == {"quick", "rbn_table2"}
    assert set(table["verdict"]) <= {"holds", "opposite", "unclear", "not run"}
    for name in ("claims.md", "claims.html", "figure_claims.svg"):
        assert (tmp_path / name).stat().st_size > 1000
    for wrong in ("study=quik", "studdy=quick"):
        with pytest.raises(UserError, match="did you mean"):
            run([wrong])


def test_intervals_cover_other_seeds_and_other_test_images() -> None:
    """Image i is answered rightly by a run of a cell with a chance of its own, which the cell moves;
    the seed of a run moves all of them. Two cells of the same mean over all images there could be."""
    draws, images = 1500, 300
    for seeds in (3, 5):
        noise, design, covered = np.random.default_rng(seeds), Design(*grid(6, seeds)), 0
        for _ in range(draws):
            chance = noise.uniform(0.1, 0.9, size=(1, 1, images))
            chance = chance + 0.3 * noise.uniform(-0.5, 0.5, size=(6, 1, images))
            chance = chance + 0.02 * noise.normal(size=(6, seeds, 1))
            right = noise.uniform(size=(6, seeds, images)) < chance
            answers = list(right.reshape(6 * seeds, images))
            accuracies = [100 * float(one.mean()) for one in answers]
            found = design.estimate({0: 1, 3: -1}, accuracies, answers)
            alone = design.estimate({0: 1, 3: -1}, accuracies)
            assert found.half is not None
            assert alone.half is not None
            assert found.images is not None
            assert alone.images is None
            covered += abs(found.value) <= found.half
        assert abs(covered / draws - 0.95) < 0.015, (seeds, covered / draws)
    one_less: list[NDArray[np.bool_] | None] = [*answers[:-1], None]
    assert design.estimate({0: 1, 3: -1}, accuracies, one_less).images is not None
    assert design.estimate({0: 1, 5: -1}, accuracies, one_less).images is None
