"""Each claim of claims.csv laid over the runs of its studies: difference, interval, verdict.

The verdicts follow a rule: `holds` where the 95 % interval lies on the paper's side of 0, `opposite`
where it lies on the other side, `unclear` where it contains 0 or there is none, `not run`. Claims
marked primary, before a run, count as holding or opposite only where the p-value, adjusted by Holm for
the primary claims of their study, is below 5 % too; the others are exploratory.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from normbench.errors import UserError
from normbench.report.claims import rows
from normbench.report.claims.contrast import Contrast, parse_contrast
from normbench.report.claims.estimate import Estimated, holm
from normbench.report.claims.measure import Answers, Measured
from normbench.report.evaluations import with_evaluations
from normbench.report.experiment import load
from normbench.report.published import select
from normbench.report.study import Section, sections
from normbench.report.values import token

LEVEL = 0.05
USUAL: dict[str, Any] = {
    "weight_standardization": False,
    "evaluate.statistics": "running",
    "evaluation": "running",
}


@dataclass(frozen=True)
class Claim:
    """A row of claims.csv for one study. published: the paper's difference in points; `where` limits
    the paper's rows to those that have these values too."""

    study: str
    paper: str
    table: str
    claim: str
    contrast: Contrast
    published: float | None
    primary: bool


@dataclass(frozen=True)
class Finding:
    """A claim and what the runs say of it; `p` is adjusted by Holm where the claim is primary."""

    claim: Claim
    verdict: str
    measured: Estimated | None = None
    p: float | None = None
    runs: int = 0


@functools.cache
def claims() -> tuple[Claim, ...]:
    """Every claim, once for each study that can test it."""
    found = []
    for row in rows():
        contrast = parse_contrast(row["contrast"])
        difference = float(row["published"]) if row["published"] else published(row, contrast)
        primary = row["primary"] == "yes"
        found += [
            Claim(study, row["paper"], row["table"], row["claim"], contrast, difference, primary)
            for study in row["study"].split()
        ]
    return tuple(found)


def published(row: Mapping[str, str], contrast: Contrast) -> float | None:
    """The contrast of the paper's own accuracies, from the rows of published.csv of its table."""
    theirs = select({"paper": row["paper"], "table": row["table"], "cell": row["where"]})
    total = 0.0
    for conditions, weight in contrast.weights.items():
        fitting = {r.top1 for r in theirs if set(conditions) <= set(r.cell) and r.top1 is not None}
        if len(fitting) != 1:
            return None
        total += weight * fitting.pop()
    return total


def section_of(study: str, runs: pd.DataFrame, evaluations: pd.DataFrame | None = None) -> Section:
    """The runs of a study, as `load_runs` and `load_evaluations` give them, that its claims are about:
    those of the network, data, length and protocol that most of them have."""
    experiment = load(study)
    if experiment.evaluations and evaluations is not None and len(runs):
        runs = with_evaluations(runs, evaluations, experiment.evaluations)
    return sections(experiment, runs, None, experiment.metric)[0]


def findings(study: str, section: Section, answers: Answers | None = None) -> list[Finding]:
    """What the runs of a study's section say of its claims. answers: as `answers_of` has them."""
    about = [claim for claim in claims() if claim.study == study]
    if section.runs.empty or section.runs[section.metric].isna().all():
        return [Finding(claim, "not run") for claim in about]
    runs = Measured(section, answers or {})
    found = []
    for claim in about:
        weights = weights_of(claim.contrast, section, runs.own)
        if weights is None:
            found.append(Finding(claim, "not run"))
            continue
        measured, used = runs.of(weights), runs.runs["cell"].isin(list(weights))
        found.append(Finding(claim, "", measured, measured.p, int(used.sum())))
    return [judged(one) for one in adjusted(found)]


def adjusted(found: Sequence[Finding]) -> list[Finding]:
    """The p-values of the primary claims, adjusted for their number."""
    family = [one for one in found if one.claim.primary and one.p is not None]
    ps = dict(
        zip(map(id, family), holm([one.p for one in family if one.p is not None]), strict=True)
    )
    return [replace(one, p=ps.get(id(one), one.p)) for one in found]


def judged(one: Finding) -> Finding:
    """The finding with its verdict."""
    if one.measured is None or one.claim.published in (None, 0):
        return one if one.verdict else replace(one, verdict="unclear")
    half, value = one.measured.half, one.measured.value
    clear = half is not None and abs(value) > half and one.p is not None and one.p < LEVEL
    same = (value > 0) == (one.claim.published > 0)
    return replace(one, verdict="unclear" if not clear else "holds" if same else "opposite")


def weights_of(
    contrast: Contrast, section: Section, own: Mapping[int, int]
) -> dict[Hashable, float] | None:
    """The contrast over the cells that were run; None where one of its cells was not.

    own: from a cell with runs to the cell that these are counted under.
    """
    found: dict[Hashable, float] = {}
    for conditions, weight in contrast.weights.items():
        wanted = {**USUAL, **dict(conditions)}
        fitting = {
            own.get(cell)
            for cell, values in section.values().items()
            if all(
                token(values[key] if key in values else section.context.get(key, USUAL.get(key)))
                == token(value)
                for key, value in wanted.items()
            )
        }
        if len(fitting) > 1:
            raise UserError(f"claims.csv: {contrast} fits {len(fitting)} cells of a study")
        if not fitting or None in fitting:
            return None
        cell = fitting.pop()
        found[cell] = found.get(cell, 0.0) + weight
    return found
