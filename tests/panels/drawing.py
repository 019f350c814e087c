"""Draws what Prometheus answered to one row of the dashboard; matplotlib does it, not Grafana."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import matplotlib as mpl
from matplotlib import dates as mdates
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tests.support.panels import Panel, Target, highest

mpl.use("Agg")
COLORS = {
    "green": "#56a64b",
    "red": "#d43f3a",
    "orange": "#f08c2e",
    "yellow": "#e5b80b",
    "blue": "#3f7fd6",
    "purple": "#8b62c9",
    "text": "#5b6270",
    "transparent": "#ffffff00",
}
LINES = ("#3f7fd6", "#f08c2e", "#56a64b", "#8b62c9", "#d43f3a", "#17929b", "#b5651d", "#c2479d", "#5b6270")
COLUMNS, COLUMN_INCHES, LINE_INCHES = 24, 0.62, 0.42
DPI = 80
# Longer without an answer, and a line breaks.
GAP_S = 2.0

Series = tuple[Target, Mapping[str, Any]]


@dataclass(frozen=True)
class Span:
    """What is drawn of the night, Unix seconds; *marks* are lines with a name and a colour."""

    start: float
    end: float
    zone: ZoneInfo
    marks: Sequence[tuple[float, str, str]]

    def local(self, instant: float) -> datetime:
        return datetime.fromtimestamp(instant, self.zone)


def seconds(value: float) -> str:
    if value == 0:
        return "0 s"
    if abs(value) < 1:
        return f"{value * 1000:.3g} ms"
    if abs(value) < 120:
        return f"{value:.3g} s"
    return f"{value / 60:.0f} min" if abs(value) < 7200 else f"{value / 3600:.1f} h"


FORMATS: Mapping[str, Callable[[float], str]] = {
    "s": seconds,
    "dtdurations": seconds,
    "percentunit": lambda value: f"{value:.1%}",
    "bytes": lambda value: f"{value / 2**20:.0f} MiB",
    "ops": lambda value: f"{value:.2g}/s",
}


def shown(panel: Panel, value: float) -> str:
    """A value as the panel's unit has it."""
    plain = f"{value:.{panel.defaults['decimals']}f}" if "decimals" in panel.defaults else f"{value:.3g}"
    unit = FORMATS.get(panel.defaults.get("unit", ""))
    return unit(value) if unit else plain


def mapped(panel: Panel, value: float) -> Mapping[str, str] | None:
    """The text and colour that the panel gives to a value."""
    for mapping in panel.defaults.get("mappings", ()):
        if (found := mapping["options"].get(f"{value:g}")) is not None:
            return dict(found)
    return None


def threshold_color(panel: Panel, value: float) -> str:
    color = "text"
    for step in panel.defaults.get("thresholds", {}).get("steps", ()):
        if step["value"] is None or value >= step["value"]:
            color = step["color"]
    return COLORS[color]


def picture(
    panels: Sequence[Panel], parts: Sequence[tuple[str, Mapping[str, Sequence[Series]], Span]], path: Path
) -> None:
    """Draw the panels of a row where the dashboard has them, once for each of *parts*: title, answers, span."""
    places = [panel.raw["gridPos"] for panel in panels]
    top = min(place["y"] for place in places)
    height = max(place["y"] + place["h"] for place in places) - top
    each = height * LINE_INCHES + 0.45
    figure = plt.figure(figsize=(COLUMNS * COLUMN_INCHES, each * len(parts)), dpi=DPI, facecolor="white")
    for number, (title, answers, span) in enumerate(parts):
        base = 1 - number / len(parts)
        figure.text(0.008, base - 0.28 / (each * len(parts)), title, fontsize=12, weight="bold", va="center")
        for right, (at, name, color) in zip((0.6, 0.74, 0.88), _marks_by_name(span), strict=False):
            note = f"┊ {name} {span.local(at):%H:%M:%S}"
            figure.text(right, base - 0.28 / (each * len(parts)), note, fontsize=9, color=COLORS[color], va="center")
        for panel, place in zip(panels, places, strict=True):
            axes = _place(figure, place, top, base - 0.45 / (each * len(parts)), each * len(parts))
            draw(axes, panel, answers[panel.title], span)
    figure.savefig(path, pil_kwargs={"optimize": True})
    plt.close(figure)
    # A palette is enough for flat colours, and a third of the size.
    _shrink(path)


def _marks_by_name(span: Span) -> list[tuple[float, str, str]]:
    """The first mark of each name, where the marks are drawn."""
    return list({name: (at, name, color) for at, name, color in reversed(span.marks)}.values())[::-1]


def _shrink(path: Path) -> None:
    from PIL import Image  # noqa: PLC0415 - comes with matplotlib

    with Image.open(path) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def _place(figure: Figure, place: Mapping[str, int], top: int, base: float, inches: float) -> Axes:
    x, width = place["x"] / COLUMNS, place["w"] / COLUMNS
    line = LINE_INCHES / inches
    left, right, below, above = 0.034, 0.02, 0.82, 0.34
    bottom = base - (place["y"] + place["h"] - top) * line
    return figure.add_axes(
        (x + left, bottom + below / inches, width - left - right, place["h"] * line - (below + above) / inches)
    )


def draw(axes: Axes, panel: Panel, series: Sequence[Series], span: Span) -> None:
    axes.set_title(panel.title, fontsize=9.5, loc="left", weight="bold", color="#222")
    axes.tick_params(labelsize=7.5, length=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    kinds = {"stat": _stat, "table": _table, "bargauge": _bars, "state-timeline": _states, "timeseries": _lines}
    kinds[panel.kind](axes, panel, series, span)


def _last(one: Mapping[str, Any]) -> float:
    return float(one["values"][-1][1])


def _stat(axes: Axes, panel: Panel, series: Sequence[Series], _span: Span) -> None:
    (target, one), *_ = series
    value = _last(one)
    found = mapped(panel, value)
    color = COLORS[found["color"]] if found else threshold_color(panel, value)
    _blank(axes, color)
    text = found["text"] if found else shown(panel, value)
    name = target.name(one["metric"])
    axes.text(0.5, 0.5, f"{name}\n{text}" if name else text, ha="center", va="center", color="white", fontsize=15)


def _table(axes: Axes, _panel: Panel, series: Sequence[Series], _span: Span) -> None:
    _blank(axes, "#eef0f3")
    rows = sorted(target.name(one["metric"]) for target, one in series) or ["nothing"]
    axes.text(0.03, 0.92, "\n".join(rows), va="top", fontsize=9, family="monospace")


def _blank(axes: Axes, color: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    # As wide as the panel: figures need no room for axes.
    box = axes.get_position()
    height = axes.figure.get_figheight()
    axes.set_position((box.x0 - 0.028, box.y0 - 0.7 / height, box.width + 0.036, box.height + 0.7 / height))
    axes.patch.set_facecolor(color)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _bars(axes: Axes, panel: Panel, series: Sequence[Series], _span: Span) -> None:
    named = [(target.name(one["metric"]), _last(one)) for target, one in series]
    colors = [threshold_color(panel, value) for _, value in named]
    axes.barh([name for name, _ in named], [value for _, value in named], color=colors, height=0.4)
    axes.set_xlim(panel.defaults.get("min", 0), panel.defaults.get("max"))
    axes.set_ylim(len(named) - 0.3, -0.7)
    _inside(axes, [name for name, _ in named])
    for number, (_, value) in enumerate(named):
        axes.text(value - 2, number, shown(panel, value), va="center", ha="right", color="white", fontsize=11)


def _inside(axes: Axes, names: Sequence[str]) -> None:
    """Write the names into the bars: a narrow panel has no room beside them."""
    axes.set_yticks([])
    for number, name in enumerate(names):
        axes.text(0.02, number, name, transform=axes.get_yaxis_transform(), va="center", fontsize=7.5, color="white")


def _states(axes: Axes, panel: Panel, series: Sequence[Series], span: Span) -> None:
    used: dict[str, str] = {}
    names = []
    for number, (target, one) in enumerate(series):
        names.append(target.name(one["metric"]))
        points = [(float(at), float(value)) for at, value in one["values"]]
        for (at, value), (until, _) in zip(points, [*points[1:], (span.end, 0.0)], strict=True):
            state = mapped(panel, value) or {"text": f"{value:g}", "color": "text"}
            used[state["text"]] = COLORS[state["color"]]
            start = mdates.date2num(span.local(at))
            axes.barh(
                number, mdates.date2num(span.local(until)) - start, left=start, color=used[state["text"]], height=0.6
            )
    _inside(axes, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    _times(axes, span)
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in used.values()]
    _legend(axes, panel, handles, list(used))


def _lines(axes: Axes, panel: Panel, series: Sequence[Series], span: Span) -> None:
    named = [(target.name(one["metric"]), _points(one, span), highest(one)) for target, one in series]
    # Series that count a kind of thing that never happened are there, but only hide the others in a small picture.
    visible = [(name, points) for name, points, peak in named if peak != 0] or [(n, p) for n, p, _ in named]
    custom = panel.defaults.get("custom", {})
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    if stacked and visible:
        times = sorted({at for _, points in visible for at in points})
        layers = [[points.get(at, 0.0) for at in times] for _, points in visible]
        axes.stackplot(times, layers, labels=[name for name, _ in visible], colors=LINES, alpha=0.75, step="post")
    else:
        for number, (name, points) in enumerate(visible):
            times, values = _with_gaps(points)
            axes.plot(times, values, label=name, color=LINES[number % len(LINES)], lw=1.5)
    if not visible:
        axes.text(0.5, 0.5, "nothing: rightly so on such a night", transform=axes.transAxes, ha="center", fontsize=8)
    _thresholds(axes, panel, visible)
    whole = panel.defaults.get("unit") == "short" and all(peak >= 1 for _, _, peak in named if peak)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=whole))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(panel, value)))
    axes.grid(axis="y", color="#e3e5e8", lw=0.6)
    _times(axes, span)
    _legend(axes, panel, *axes.get_legend_handles_labels())


def _points(one: Mapping[str, Any], span: Span) -> dict[datetime, float]:
    return {span.local(float(at)): float(value) for at, value in one["values"] if math.isfinite(float(value))}


def _with_gaps(points: Mapping[datetime, float]) -> tuple[list[datetime], list[float]]:
    """Break a line where the series was away."""
    times, values = [], []
    for at, value in points.items():
        if times and (at - times[-1]).total_seconds() > GAP_S:
            times.append(times[-1])
            values.append(math.nan)
        times.append(at)
        values.append(value)
    return times, values


def _thresholds(axes: Axes, panel: Panel, visible: Sequence[tuple[str, Mapping[datetime, float]]]) -> None:
    low, high = panel.defaults.get("min"), panel.defaults.get("max")
    if high is not None:
        axes.set_ylim(low, high)
    elif low is not None:
        axes.set_ylim(low, (axes.dataLim.ymax * 1.15) if axes.dataLim.ymax > 0 and visible else 1.0)
    if panel.defaults.get("custom", {}).get("thresholdsStyle", {}).get("mode") != "line":
        return
    for step in panel.defaults["thresholds"]["steps"]:
        if step["value"] is not None and axes.get_ylim()[0] <= step["value"] <= axes.get_ylim()[1]:
            axes.axhline(step["value"], color=COLORS[step["color"]], lw=1, ls="--")


def _times(axes: Axes, span: Span) -> None:
    axes.set_xlim(span.local(span.start), span.local(span.end))
    axes.xaxis_date(span.zone)
    axes.xaxis.set_major_locator(mdates.AutoDateLocator(tz=span.zone, minticks=2, maxticks=5))
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M:%S", tz=span.zone))
    for at, _name, color in span.marks:
        axes.axvline(span.local(at), color=COLORS[color], lw=1, ls=":")


def _legend(axes: Axes, panel: Panel, handles: Sequence[Any], labels: Sequence[str]) -> None:
    if not handles:
        return
    width = panel.raw["gridPos"]["w"]
    inches = axes.get_position().height * axes.figure.get_figheight()
    axes.legend(
        handles,
        labels,
        fontsize=6.5,
        ncols=max(width // 3, 2) if max(map(len, labels)) < 20 else max(width // 4, 1),
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(-0.05, -0.2 / inches),
        handlelength=1.2,
        columnspacing=1.0,
        borderaxespad=0.0,
        labelspacing=0.25,
    )
