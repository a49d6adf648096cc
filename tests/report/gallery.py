"""Every figure of every experiment, drawn from invented records, to be looked at:

python -m tests.report.gallery FOLDER [EXPERIMENT...] [key=value of normbench report ...]
"""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

from normbench.report import main as report
from normbench.report.experiment import load, names

from .conftest import write_study

STATES = {"one": (1, 1.0), "two": (2, 1.0), "three": (3, 1.0), "half": (3, 0.5)}


def draw(folder: Path, name: str, state: str, words: list[str]) -> None:
    """The report of a study with some seeds, of which a share of the runs is there."""
    seeds, share = STATES[state]
    results = folder / name / state
    write_study(results, load(name), seeds)
    stream = random.Random(name)
    for run in sorted(path.parent for path in results.rglob("record.json")):
        if stream.random() >= share:
            shutil.rmtree(run)
    report([f"experiment={name}", f"results={results}", f"out={folder / name / state}", *words])


def main(folder: Path, words: list[str]) -> None:
    chosen = [word for word in words if "=" not in word]
    for name in [one for one in chosen if one not in STATES] or names():
        for state in [one for one in chosen if one in STATES] or STATES:
            draw(folder, name, state, ["formats=png", *(word for word in words if "=" in word)])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
