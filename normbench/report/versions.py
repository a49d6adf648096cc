"""Versions of a user's own norm: runs of an older source are never taken for those of the present one."""

from __future__ import annotations

import pandas as pd

from normbench.settings.identity import digest_of, source_of

DIGITS = 6  # of the hash of a source, in the name of an older version


def named_by_version(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs, each norm of the user's own called PairNorm where it has the source that its file has
    now, and PairNorm@17423c, after the hash of its source, where it has another.

    A norm of which all runs have one source is called by its name alone. Where the file is not found
    and there are several sources, nothing says which is the present one, and all are told apart.
    Two classes of one name are called by their modules too. The column `source` is dropped.
    """
    if "source" not in runs or "norm.target" not in runs:
        return runs.drop(columns="source", errors="ignore")
    runs = runs.copy()
    own = runs["norm.target"].notna()
    for label in runs.loc[own, "norm"].unique():
        same = own & (runs["norm"] == label)
        targets = runs.loc[same, "norm.target"].unique()
        for target in targets:
            of_target = same & (runs["norm.target"] == target)
            name = str(label) if len(targets) == 1 else str(target)
            names = version_names(name, str(target), runs.loc[of_target, "source"])
            runs.loc[of_target, "norm"] = names
    return runs.drop(columns="source")


def version_names(name: str, target: str, sources: pd.Series[str]) -> pd.Series[str]:
    """What each run is called by its source."""
    hashes = sources.fillna("unknown")
    if hashes.nunique() == 1:
        return hashes.map(lambda _: name)
    text = source_of(target)
    present = None if text is None else digest_of(text)
    return hashes.map(lambda own: name if own == present else f"{name}@{own[:DIGITS]}")
