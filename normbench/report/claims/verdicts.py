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
from importlib.resources import files
from io import StringIO
from typing import Any

import pandas as pd

from normbench.report.claims.contrast import Contrast, parse_contrast
from normbench.report.claims.estimate import Estimated, Pooled, holm
from normbench.report.published import select

LEVEL = 0.05


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
    text = (files("normbench.report.claims") / "claims.csv").read_text(encoding="utf-8")
    rows = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False).to_dict("records")
    found = []
    for row in rows:
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
    rows = select({"paper": row["paper"], "table": row["table"], "cell": row["where"]})
    total = 0.0
    for conditions, weight in contrast.weights.items():
        fitting = {r.top1 for r in rows if set(conditions) <= set(r.cell) and r.top1 is not None}
        if len(fitting) != 1:
            return None
        total += weight * fitting.pop()
    return total


def findings(study: str, runs: pd.DataFrame, metric: str) -> list[Finding]:
    """What the runs of a study say of its claims. runs: as `load_runs` gives them."""
    about = [claim for claim in claims() if claim.study == study]
    usable = main_section(runs[runs[metric].notna()]) if len(runs) else runs
    if usable.empty:
        return [Finding(claim, "not run") for claim in about]
    cells = cell_keys(usable)
    fit = Pooled(cells, list(usable["seed"]), list(usable[metric]))
    found = []
    for claim in about:
        weights = weights_of(claim.contrast, usable, cells)
        if weights is None:
            found.append(Finding(claim, "not run"))
            continue
        measured = fit.estimate(weights)
        count = sum(cell in weights for cell in cells)
        found.append(Finding(claim, "", measured, measured.p, count))
    return [judged(one) for one in adjusted(found)]


def adjusted(found: Sequence[Finding]) -> list[Finding]:
    """The p-values of the primary claims, adjusted for their number."""
    family = [one for one in found if one.claim.primary and one.p is not None]
    ps = dict(zip(map(id, family), holm([one.p for one in family if one.p is not None]), strict=True))
    return [replace(one, p=ps.get(id(one), one.p)) for one in found]


def judged(one: Finding) -> Finding:
    """The finding with its verdict."""
    if one.measured is None or one.claim.published in (None, 0):
        return one if one.verdict else replace(one, verdict="unclear")
    half, value = one.measured.half, one.measured.value
    clear = half is not None and abs(value) > half and one.p is not None and one.p < LEVEL
    same = (value > 0) == (one.claim.published > 0)  # type: ignore[operator]
    return replace(one, verdict="unclear" if not clear else "holds" if same else "opposite")


def main_section(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of the network, data, length and protocol that most runs have."""
    keys = [key for key in ("model", "dataset", "epochs", "protocol", "precision") if key in runs]
    groups = runs.groupby(keys, dropna=False, sort=False)
    sizes: pd.Series[int] = groups["seed"].transform("size")
    return runs[sizes == sizes.max()]


def cell_keys(runs: pd.DataFrame) -> list[Hashable]:
    """The cell of each run: all its settings but the seed, as text."""
    keys = [key for key in settings_in(runs) if key != "seed"]
    return [tuple(token(value) for value in row) for row in runs[keys].itertuples(index=False)]


def weights_of(
    contrast: Contrast, runs: pd.DataFrame, cells: Sequence[Hashable]
) -> dict[Hashable, float] | None:
    """The contrast over the cells that were run; None where one of its cells was not."""
    found: dict[Hashable, float] = {}
    for conditions, weight in contrast.weights.items():
        fitting = matching(dict(conditions), runs, cells)
        if len(fitting) > 1:
            raise UserError(f"claims.csv: {contrast} fits {len(fitting)} cells; give more keys")
        if not fitting:
            return None
        found[fitting[0]] = found.get(fitting[0], 0.0) + weight
    return found


def matching(
    conditions: dict[str, Any], runs: pd.DataFrame, cells: Sequence[Hashable]
) -> list[Hashable]:
    """The cells that fulfil the conditions, which USUAL ones complete. A norm that treats each image
    by itself was run at one batch for all of the fixed protocol."""
    fits = pd.Series(True, index=runs.index)
    for key, value in {**USUAL, **conditions}.items():
        of_runs = runs[key] if key in runs else pd.Series(None, index=runs.index, dtype=object)
        same = of_runs.map(token) == token(value)
        if key in USUAL:
            same |= of_runs.map(missing) & (value == USUAL[key])
        if key in ("batch", "workers"):
            same |= stands_for_all(runs)
        fits &= same
    return list(dict.fromkeys(cell for cell, fit in zip(cells, fits, strict=True) if fit))
