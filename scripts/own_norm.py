"""A study in one script: a norm of one's own beside BN and GN, a frame, a plot, an evaluation, a file.

python scripts/own_norm.py FOLDER [key=value ...]    words of normbench sweep, such as epochs=1 seeds=1
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl

from normbench import load_curves, load_runs

NORM = '''
from normbench.norms import PlaneNorm, pool, standardize


class PairNorm(PlaneNorm):
    """Each pair of channels of an image has mean 0 and variance 1."""

    traceable = True
    per_image = True

    def mix(self, moments):
        return standardize(pool(moments, channels=2), eps=1e-5)
'''


def normbench(*words: str) -> None:
    """A command, as in a shell."""
    subprocess.run([sys.executable, "-m", "normbench", *words], check=True)


def main(folder: str, *words: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    os.chdir(folder)

    # A norm of one's own is a file; the same command again goes on with what is left.
    Path("my_norms.py").write_text(NORM, encoding="utf-8")
    norms, fixed = "norm=bn,gn,my_norms.PairNorm", ("protocol=fixed", "sgd_batch=32")
    normbench("sweep", norms, "batch=32,2", *fixed, "epochs=5", "study=mine", *words)

    # A row a run; norms that see one image at a time were trained once for both batches.
    runs = load_runs("results/runs/mine")
    table = runs.pivot_table(index="norm", columns="batch", values="final_top1_percent")
    print(table.round(2))

    # A plot of one's own.
    mpl.use("Agg")
    curves = load_curves("results/runs/mine")
    error = 100 - curves.groupby(["epoch", "norm", "batch"])["test_top1_percent"].mean()
    axes = error.unstack(["norm", "batch"]).plot(marker="o", ylabel="test error, %")
    axes.figure.savefig("error.svg")

    # The last BN at 2 images per worker, by other statistics; PairNorm as a file.
    run = {(norm, batch): where for norm, batch, where in runs[["norm", "batch", "folder"]].values}
    normbench("evaluate", run["bn", 2], "statistics=running,example")
    normbench("export", run["PairNorm", 32], "out=pair_norm.pt2")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
