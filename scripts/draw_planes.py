"""Draws results/planes.svg: which planes each norm pools, as images × channels × pixels.

python scripts/draw_planes.py [FOLDER]
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

IMAGES, CHANNELS = 4, 6
INK, POOLED, OTHER = "#333333", "#2f7ec1", "#f3f3f3"

# name, what it says, the (images, channels) whose planes share the statistics of plane (0, 0)
PANELS = [
    ("BN", "a worker's images", [(range(4), range(1))]),
    ("BN, two workers", "each its own images", [(range(2), range(1))]),
    ("LN", "all channels", [(range(1), range(6))]),
    ("GN", "a group of channels", [(range(1), range(3))]),
    ("IN, FRN", "one plane\n(FRN: without the mean)", [(range(1), range(1))]),
    ("SN", "a learned mixture\nof IN, LN and BN", [(range(4), range(1)), (range(1), range(6))]),
]


def draw(axes: Axes, name: str, words: str, blocks: list[tuple[range, range]]) -> None:
    """A stack of planes: images to the right, channels upward, pixels inside each plane."""
    pooled = {plane for images, channels in blocks for plane in product(images, channels)}
    for image, channel in product(range(IMAGES), range(CHANNELS)):
        face = POOLED if (image, channel) in pooled else OTHER
        lean = 0.34
        x, y = image * 1.25, channel * 0.62
        corners = np.array([(0, 0), (1, 0), (1 + lean, 0.42), (lean, 0.42)]) + np.array([x, y])
        axes.add_patch(plt.Polygon(corners, facecolor=face, edgecolor=INK, linewidth=0.5))
    axes.set_title(name, fontsize=11, fontweight="bold", color=INK)
    axes.text(2.6, -1.0, words, ha="center", va="top", fontsize=8.5, color=INK, linespacing=1.3)
    axes.set(xlim=(-0.6, 5.4), ylim=(-2.1, 3.9), aspect="equal")
    axes.axis("off")


def main(folder: Path) -> None:
    mpl.rcParams.update({"svg.hashsalt": "normbench", "font.family": "DejaVu Sans"})
    figure, panels = plt.subplots(1, len(PANELS), figsize=(11, 2.5))
    for axes, panel in zip(panels, PANELS, strict=True):
        draw(axes, *panel)
    first = panels[0]
    first.annotate("", (5.0, -0.35), (0, -0.35), arrowprops={"arrowstyle": "->", "color": INK})
    first.annotate("", (-0.35, 3.7), (-0.35, 0), arrowprops={"arrowstyle": "->", "color": INK})
    first.text(2.4, -0.42, "images", ha="center", va="top", fontsize=7.5, color=INK)
    first.text(-0.5, 1.8, "channels", ha="right", va="center", fontsize=7.5, rotation=90, color=INK)
    figure.text(
        0.5, 0.97, "Each tile is a plane: the pixels of one channel of one image. Blue: the planes"
        " that share the statistics of the lower left one.",
        ha="center", va="bottom", fontsize=9, color=INK,
    )  # fmt: skip
    figure.subplots_adjust(left=0.02, right=0.99, top=0.86, bottom=0.02, wspace=0.05)
    folder.mkdir(parents=True, exist_ok=True)
    save = {"bbox_inches": "tight", "facecolor": "white", "pad_inches": 0.08}
    figure.savefig(folder / "planes.svg", metadata={"Date": None}, **save)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "results")
