"""The figure of `normbench bench growth`; the one thing in this room that needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.style import context
from matplotlib.ticker import LogLocator, NullLocator

from normbench.bench import growth
from normbench.report.figures.style import RULES, look, sheet
from normbench.report.names import norm as name_of


def figure(rows: Sequence[growth.Row], kind: str) -> bytes:
    """A panel an axis: microseconds for an image, both axes by factors; kind: svg or png."""
    with context(RULES, after_reset=True):
        drawing, axes = sheet(1, len(growth.GROWS), 2.3, sharey=False)
        looks = look({norm: norm for norm in growth.NORMS})
        for place, axis in zip(axes[0], growth.GROWS, strict=True):
            for norm in growth.NORMS:
                some = [r for r in rows if r.grows == axis and r.norm == norm]
                x, y = [getattr(r, axis) for r in some], [r.us_per_image for r in some]
                place.plot(x, y, label=name_of(norm), **looks[norm].line)
            place.set_xscale("log", base=2)
            place.set_yscale("log")
            place.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
            place.yaxis.set_minor_locator(NullLocator())
            place.set_xticks(growth.GROWS[axis])
            place.xaxis.set_major_formatter("{x:g}")
            place.yaxis.set_major_formatter("{x:,g}")
            place.xaxis.set_minor_locator(NullLocator())
            fixed = ", ".join(f"{k} {v}" for k, v in growth.BASE.items() if k != axis)
            place.set_title(axis)
            place.set_xlabel(fixed, fontsize=6)
        axes[0][0].set_ylabel("µs for an image")
        axes[0][0].legend()
        out = io.BytesIO()
        drawing.savefig(
            out, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else None
        )
    return out.getvalue()
