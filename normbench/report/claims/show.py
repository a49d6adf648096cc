"""The table and the figure of the claims, as every format of a report takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from normbench.report.claims.verdicts import Finding
from normbench.report.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

VERDICTS = {"holds": "#0072B2", "opposite": "#D55E00", "unclear": "#777777"}
HEADER = ["study", "claim", "source", "contrast", "published", "here", "could show", "p", "verdict"]
NOTE = (
    "Differences in points of top-1 accuracy; ± is half of the 95 % interval, from the deviation that is"
    " pooled over all cells of the study; it is about other seeds, and where that is said also about"
    " other test images. could"
    " show: the smallest true difference that a test at 5 %"
    " with so many runs would find four times in five. p of primary claims (*) is adjusted by Holm for"
    " the primary claims of their study; the other claims are exploratory. holds: the interval lies on"
    " the paper's side of 0; opposite: on the other side; unclear: it contains 0."
)


def table(study: str, found: Sequence[Finding], about: str) -> Table:
    """The claims of one study, a row each. about: a sentence on network, data, length, metric."""
    made = Table(study, HEADER[1:], [row(one)[1:] for one in found], 1)
    measured = next((one.measured for one in found if one.measured), None)
    pooled = ""
    if measured is not None and measured.deviation is not None:
        pooled = f" Pooled deviation {measured.deviation:.2f} points, {measured.freedom} degrees of freedom."
        whole = all(one.measured.images is not None for one in found if one.measured)
        pooled += " The intervals are about other test images too." if whole else ""
    made.note = about + pooled
    made.tidy = [numbers(study, one) for one in found]
    return made


def row(one: Finding) -> list[str]:
    """The cells of a claim's row, with signs and digits as they are shown."""
    claim, m = one.claim, one.measured
    return [
        claim.study,
        claim.claim + (" *" if claim.primary else ""),
        f"{claim.paper}, {claim.table}",
        claim.contrast.text,
        signed(claim.published),
        signed(m.value if m else None) + (f" ± {m.half:.2f}" if m and m.half is not None else ""),
        "" if m is None or m.detectable is None else f"{m.detectable:.2f}",
        "" if one.p is None else f"{one.p:.3f}" if one.p >= 0.001 else "< 0.001",
        one.verdict,
    ]


def signed(value: float | None) -> str:
    """A difference with its sign, empty where there is none."""
    return "" if value is None else f"{value:+.2f}".replace("-", "−")


def numbers(study: str, one: Finding) -> dict[str, object]:
    """A claim's row of claims.csv: numbers in full."""
    m = one.measured
    return {
        "study": study,
        "paper": one.claim.paper,
        "table": one.claim.table,
        "claim": one.claim.claim,
        "contrast": one.claim.contrast.text,
        "primary": one.claim.primary,
        "published": one.claim.published,
        "measured": m and m.value,
        "half_width_95": m and m.half,
        "detectable": m and m.detectable,
        "p": None if one.p is None else round(one.p, 6),
        "deviation": m and m.deviation,
        "freedom": m and m.freedom,
        "images_error": m and m.images,
        "runs": one.runs,
        "verdict": one.verdict,
    }


def draw(found: Sequence[Finding]) -> tuple[Drawing, str]:
    """Published and measured difference of each claim that was tested, with the interval of ours."""
    from matplotlib.figure import Figure as Drawing
    from matplotlib.lines import Line2D

    from normbench.report.figures.style import QUIET, WIDTH

    shown = [one for one in found if one.measured is not None]
    drawing = Drawing(
        figsize=(WIDTH, 1.1 + 0.21 * (len(shown) + len({f.claim.study for f in shown})))
    )
    axes = drawing.subplots()
    at, labels, ticks, last = 0.0, list[str](), list[float](), ""
    for one in shown:
        if one.claim.study != last:
            at += 1.0
            axes.annotate(
                one.claim.study, (0, at - 0.72), xycoords=("axes fraction", "data"),
                xytext=(-4, 0), textcoords="offset points", ha="right", va="center", weight="bold",
            )  # fmt: skip
            last = one.claim.study
        dots(axes, one, at)
        labels.append(one.claim.claim + (" *" if one.claim.primary else ""))
        ticks.append(at)
        at += 1.0
    axes.axvline(0, color=QUIET, linewidth=0.8)
    axes.set_yticks(ticks, labels, fontsize=7)
    axes.set_ylim(at - 0.3, -0.3)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("difference, points of top-1 accuracy")
    keys = [Line2D([], [], color=c, marker="o", label=v) for v, c in VERDICTS.items()]
    keys.append(Line2D([], [], color="black", marker="D", mfc="white", ls="", label="published"))
    axes.legend(handles=keys, ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=7.5)
    return drawing, CAPTION


def dots(axes: Axes, one: Finding, at: float) -> None:
    """One claim: its published difference as a diamond, ours as a dot with its interval."""
    assert one.measured is not None
    colour = VERDICTS[one.verdict]
    axes.errorbar(
        one.measured.value, at, xerr=one.measured.half, fmt="o", color=colour, markersize=3.5,
        capsize=1.5, linewidth=1.1,
    )  # fmt: skip
    if one.claim.published is not None:
        axes.plot(one.claim.published, at, "D", color="black", mfc="white", markersize=3.5)


CAPTION = (
    "Each claim as a difference of cells: published (diamond) and measured here (dot) with its 95 %"
    " interval, by study. * primary claims, whose verdict is corrected for their number."
)
