"""Plot of a backtest as an SVG file: degraded nights and time of publication over the deadline. Pure.

Model: two charts stand above each other on the same axis of deadlines, because a share and a time have no common scale.
The file needs no script and no font, and follows the light or dark scheme of the viewer. Each line has a shape of dots
beside the colour, so that the lines differ without colour too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor

from worker.calendar import WallClock
from worker.foresight.backtest_figures import MINUTE_S, SweepPoint, seconds_of, wall_clock

WIDTH, HEIGHT = 720, 548
LEFT, RIGHT = 76, 24
CHART_HEIGHT = 150
TOPS = (96, 340)
# Distances between two labelled values of an axis; the first distance with at most `TICKS_MAX` values is taken.
SHARE_STEPS = (0.01, 0.02, 0.05, 0.1, 0.25)
TIME_STEPS_S = (10, 30, MINUTE_S, 5 * MINUTE_S, 10 * MINUTE_S, 30 * MINUTE_S, 60 * MINUTE_S)
TICKS_MAX = 5
STYLE = """
svg { --paper: #fbfaf7; --ink: #1c2227; --quiet: #5a646d; --rule: #dcdad3; --first: #8a5800; --last: #1f5fa8; }
@media (prefers-color-scheme: dark) {
  svg { --paper: #13171a; --ink: #e7eaec; --quiet: #a2adb6; --rule: #333b41; --first: #e5b24c; --last: #86b8f3; }
}
.paper { fill: var(--paper); }
text { font: 13px system-ui, sans-serif; fill: var(--ink); }
.head { font-size: 16px; font-weight: 600; }
.quiet { fill: var(--quiet); font-size: 12px; }
.rule { stroke: var(--rule); }
.mark { stroke: var(--quiet); stroke-dasharray: 4 3; }
.first, .last { fill: none; stroke-width: 2; stroke-linejoin: round; }
.first { stroke: var(--first); stroke-dasharray: 7 4; }
.last { stroke: var(--last); }
.dot-first { fill: var(--paper); stroke: var(--first); stroke-width: 2; }
.dot-last { fill: var(--last); }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Line of a chart: name, value for each deadline (None without a value), and class of the style."""

    name: str
    values: Sequence[float | None]
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Chart.

    Attributes:
        title: Text above the chart.
        lines: The lines.
        steps: Distances between two labelled values, the smallest first.
        text: Text of a value.
        includes: Values that the axis shows in any case.
    """

    title: str
    lines: Sequence[Line]
    steps: Sequence[float]
    text: Callable[[float], str]
    includes: Sequence[float] = ()


def plot(points: Sequence[SweepPoint], marks: Mapping[str, WallClock], title: str) -> str:
    """Return the SVG document of a sweep over deadlines.

    Args:
        points: Figures by deadline, at least two, the earliest first.
        marks: Deadlines to mark, by name; a deadline outside the sweep is left out.
        title: Heading of the plot, without markup.
    """
    body = [
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="head" x="{LEFT}" y="32">{title}</text>',
    ]
    for top, chart in zip(TOPS, _charts(points), strict=True):
        body += _chart(chart, top, points)
        body += _marks(marks, top, points)
    body.append(f'<text class="quiet" x="{LEFT}" y="{HEIGHT - 10}">deadline, wall clock of the league</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">\n'
        f"<title>{title}</title>\n<desc>{_words(points)}</desc>\n<style>{STYLE}</style>\n"
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _charts(points: Sequence[SweepPoint]) -> tuple[Chart, Chart]:
    def share(count: Callable[[SweepPoint], int]) -> list[float | None]:
        return [count(point) / max(1, point.figures.nights) for point in points]

    degraded = Chart(
        title="share of degraded nights",
        lines=(
            Line(name="first publication", values=share(lambda p: p.figures.first_degraded), style="first"),
            Line(name="last publication", values=share(lambda p: p.figures.degraded), style="last"),
        ),
        steps=SHARE_STEPS,
        text=lambda value: f"{value:.0%}",
        includes=(0.0,),
    )
    published = Chart(
        title="time of publication",
        lines=(
            Line(
                name="first publication, p50", values=[point.figures.published_p50_s for point in points], style="first"
            ),
            Line(
                name="first publication, p95", values=[point.figures.published_p95_s for point in points], style="last"
            ),
        ),
        steps=TIME_STEPS_S,
        text=lambda value: str(wall_clock(value)),
    )
    return degraded, published


def _chart(chart: Chart, top: float, points: Sequence[SweepPoint]) -> Iterator[str]:
    values = [value for line in chart.lines for value in line.values if value is not None]
    ticks = axis([*values, *chart.includes], chart.steps)
    low, high = ticks[0], ticks[-1]

    def y_of(value: float) -> float:
        return round(top + CHART_HEIGHT * (1 - (value - low) / (high - low)), 1)

    yield f'<text x="{LEFT}" y="{top - 30}">{chart.title}</text>'
    for tick in ticks:
        yield f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(tick)}" y2="{y_of(tick)}"/>'
        yield f'<text class="quiet" x="{LEFT - 8}" y="{y_of(tick) + 4}" text-anchor="end">{chart.text(tick)}</text>'
    for index, point in list(enumerate(points))[::2]:
        x, y = _x_of(index, points), top + CHART_HEIGHT + 18
        yield f'<text class="quiet" x="{x}" y="{y}" text-anchor="middle">{point.deadline}</text>'
    for place, line in enumerate(chart.lines):
        at = LEFT + 200 + place * 190
        yield f'<path class="{line.style}" d="M{at} {top - 34}h34"/>'
        yield f'<circle class="dot-{line.style}" cx="{at + 17}" cy="{top - 34}" r="3.5"/>'
        yield f'<text class="quiet" x="{at + 42}" y="{top - 30}">{line.name}</text>'
        dots = [(_x_of(i, points), y_of(value)) for i, value in enumerate(line.values) if value is not None]
        yield f'<path class="{line.style}" d="M{" L".join(f"{x} {y}" for x, y in dots)}"/>' if dots else ""
        yield from (f'<circle class="dot-{line.style}" cx="{x}" cy="{y}" r="3.5"/>' for x, y in dots)


def axis(values: Sequence[float], steps: Sequence[float]) -> list[float]:
    """Return the labelled values of an axis, evenly spaced around *values*; at least two."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    for step in steps:
        first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
        last = max(last, first + 1)
        if last - first < TICKS_MAX or step == steps[-1]:
            return [tick * step for tick in range(first, last + 1)]
    raise ValueError("an axis needs at least one step")


def _x_of(index: float, points: Sequence[SweepPoint]) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * (index + 0.5) / len(points), 1)


def _marks(marks: Mapping[str, WallClock], top: float, points: Sequence[SweepPoint]) -> Iterator[str]:
    """Yield a vertical line for each marked deadline; the name stands left of the first line, right of the others."""
    first, last = seconds_of(points[0].deadline), seconds_of(points[-1].deadline)
    for place, (deadline, name) in enumerate(sorted((at, name) for name, at in marks.items())):
        share = (seconds_of(deadline) - first) / (last - first)
        if 0 <= share <= 1:
            x, y = _x_of(share * (len(points) - 1), points), top - 14
            side, anchor = (5, "start") if place else (-5, "end")
            yield f'<line class="mark" x1="{x}" x2="{x}" y1="{y}" y2="{top + CHART_HEIGHT}"/>'
            yield f'<text class="quiet" x="{x + side}" y="{y + 4}" text-anchor="{anchor}">{name}</text>'


def _words(points: Sequence[SweepPoint]) -> str:
    """Return the plot in words, for people who do not see the plot."""
    told = []
    for point in points:
        figures = point.figures
        p95 = "no publication" if figures.published_p95_s is None else f"p95 {wall_clock(figures.published_p95_s)}"
        told.append(f"{point.deadline}: {figures.first_degraded} of {figures.nights} nights degraded at first, {p95}")
    return "; ".join(told)
