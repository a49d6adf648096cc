"""What the papers claim, each as a contrast of cells, and what the runs here say of it."""

from __future__ import annotations

import csv
from importlib.resources import files
from io import StringIO


def rows() -> list[dict[str, str]]:
    """The rows of claims.csv, as text."""
    text = (files("normbench.report.claims") / "claims.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(StringIO(text)))


def studies() -> list[str]:
    """The studies that test a claim, in the order of claims.csv."""
    return list(dict.fromkeys(study for row in rows() for study in row["study"].split()))
