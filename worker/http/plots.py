"""View model of the page of distributions: one small plot for each feature. Pure.

A plot is an SVG without script and without style attributes: bars for tonight, a stepped line for the nights before,
both as shares of the values in the bins of the catalogue. The colours come from the style of the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.features.distributions import Distribution, bin_names, shares
from worker.finding_text import FindingModel, shown, worst

WIDTH, HEIGHT = 240.0, 72.0
# Share of a bin's width that the bar of the bin takes.
BAR_SHARE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Bar of a bin, in units of the plot: left edge, top edge, width, height."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Plot of a feature.

    Attributes:
        distribution: The feature with figures.
        bars: Bars of tonight, one for each bin with a value.
        outline: Path of the stepped line of the nights before; empty without such nights.
        edges: (position, text) of the labelled edges of the bins.
        words: Description for people who do not see the plot.
        level: Highest severity of a finding about the feature; empty without a finding.
        findings: Findings about the feature.
    """

    distribution: Distribution
    bars: Sequence[Bar]
    outline: str
    edges: Sequence[tuple[float, str]]
    words: str
    level: str
    findings: Sequence[FindingModel]


def plot_of(distribution: Distribution) -> Plot:
    """Return the plot of a feature; tonight and the nights before have one scale."""
    tonight, usual = shares(distribution.tonight.bins), shares(distribution.usual_bins)
    highest = max([*tonight, *usual], default=0.0) or 1.0
    return Plot(
        distribution=distribution,
        bars=_bars(tonight, highest),
        outline=_outline(usual, highest),
        edges=_edges(distribution.tonight.bin_edges),
        words=_words(distribution, tonight, usual),
        level=worst(distribution.findings),
        findings=shown(distribution.findings) or (),
    )


def _bars(values: Sequence[float], highest: float) -> list[Bar]:
    width = WIDTH / max(1, len(values))
    gap = width * (1 - BAR_SHARE) / 2
    return [
        Bar(
            x=round(index * width + gap, 2),
            y=round(HEIGHT * (1 - share / highest), 2),
            width=round(width * BAR_SHARE, 2),
            height=round(HEIGHT * share / highest, 2),
        )
        for index, share in enumerate(values)
        if share > 0
    ]


def _outline(values: Sequence[float], highest: float) -> str:
    if not values:
        return ""
    width = WIDTH / len(values)
    tops = [round(HEIGHT * (1 - share / highest), 2) for share in values]
    steps = "".join(f"V{top}H{round((index + 1) * width, 2)}" for index, top in enumerate(tops))
    return f"M0 {HEIGHT:g}{steps}V{HEIGHT:g}"


def _edges(edges: Sequence[float]) -> list[tuple[float, str]]:
    """Return the first, the middle and the last edge with the position below the plot."""
    chosen = sorted({0, len(edges) // 2, len(edges) - 1}) if edges else []
    return [(round(WIDTH * (index + 1) / (len(edges) + 1), 2), f"{edges[index]:g}") for index in chosen]


def _words(distribution: Distribution, tonight: Sequence[float], usual: Sequence[float]) -> str:
    """Return the distribution in words: where most values lie tonight and on the nights before."""
    names = bin_names(distribution.tonight.bin_edges)
    said = [f"tonight most values lie {_peak(names, tonight)}"] if any(tonight) else ["no value tonight"]
    if any(usual):
        said.append(f"on the {len(distribution.nights)} nights before {_peak(names, usual)}")
    if len(usual) == len(tonight) and any(usual) and any(tonight):
        share, name = max((abs(here - there), name) for here, there, name in zip(tonight, usual, names, strict=True))
        said.append(f"the largest difference is {share:.1%} of the values, {name}")
    return "; ".join(said)


def _peak(names: Sequence[str], values: Sequence[float]) -> str:
    share, name = max(zip(values, names, strict=True), key=lambda pair: pair[0])
    return f"{name} ({share:.1%})"
