"""What norms learned, summarized over the channels of a layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BINS = 20  # of the histogram, from 0 to 1
COLUMNS = ["count", "mean", "rms", "min", "median", "max", "histogram"]


def summaries(rows: Sequence[tuple[str, str, str, NDArray[np.float64]]]) -> pd.DataFrame:
    """A row for each (run, layer, parameter, values over the channels)."""
    found = pd.DataFrame([row[:3] for row in rows], columns=["run", "layer", "parameter"])
    if not rows:
        return found.reindex(columns=[*found, *COLUMNS])
    found["count"] = [len(values) for *_, values in rows]
    every = pd.Series(np.concatenate([values for *_, values in rows]))
    row = np.repeat(np.arange(len(found)), found["count"])
    grouped, squares = every.groupby(row), (every**2).groupby(row)
    found["mean"], found["rms"] = grouped.mean(), np.sqrt(squares.mean())
    found[["min", "median", "max"]] = grouped.agg(["min", "median", "max"])
    found["histogram"] = histograms(every.to_numpy(), row, found)
    return found


def histograms(values: np.ndarray, row: np.ndarray, found: pd.DataFrame) -> pd.Series[str]:
    """The channels in each bin as words, `0 3 5 …`; missing where a value lies outside of 0 to 1 or
    there is only one."""
    fits = (found["min"] >= 0) & (found["max"] <= 1) & (found["count"] > 1)
    inside = fits.to_numpy()[row]
    bins = np.minimum((values[inside] * BINS).astype(int), BINS - 1)
    counts = np.bincount(row[inside] * BINS + bins, minlength=len(found) * BINS)
    words = [" ".join(map(str, line)) for line in counts.reshape(-1, BINS)[fits.to_numpy()]]
    made = pd.Series(None, index=found.index, dtype=object)
    made[fits] = words
    return made


def pooled(some: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The summaries of rows taken together that are equal in `by`, each channel with the same weight:
    mean, rms, min and max exactly; `median` is the mean of their medians."""
    weights = some["count"].astype(float)
    every = some[by].assign(count=weights, rms=some["rms"].astype(float) ** 2 * weights)
    for key in ("mean", "median"):
        every[key] = some[key].astype(float) * weights
    found = every.groupby(by).sum()
    found = found.div(found.pop("count"), axis=0)
    found["rms"] **= 0.5
    own = some[[*by, "min", "max"]].groupby(by)
    return found.assign(min=own["min"].min(), max=own["max"].max())


def shares(some: pd.DataFrame) -> np.ndarray:
    """The histogram of rows taken together, in percent of their channels, [20]."""
    counts = np.array([[int(n) for n in words.split()] for words in some["histogram"].dropna()])
    total: np.ndarray = counts.sum(axis=0) if len(counts) else np.zeros(BINS)
    percent: np.ndarray = 100 * total / max(total.sum(), 1)
    return percent
