"""The pictures: white ground, colours that colour-blind people can tell apart, units on every axis, yardstick drawn."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.report.peers_table import TITLES
from bench.report.results import IMAGES, PICTURES, Results, fingerprint

mpl.use("Agg")
# Okabe and Ito's set, black left out.
BLUE, ORANGE, GREEN, RED, SKY, PINK, YELLOW = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442"),
)
GREY, LIGHT = "#6b7280", "#c9ced6"
PART_COLORS = (SKY, YELLOW, GREEN, BLUE, ORANGE, RED, PINK, LIGHT, "#117733", "#44475a", "#eceff3")
DARK = {BLUE, RED, "#117733", "#44475a"}
SHARE_WRITTEN_MIN = 0.045
STYLE = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "axes.axisbelow": True,
}
DPI = 110


def draw_all(results: Results) -> Sequence[Path]:
    """Draw every picture; each carries the fingerprint of the figures that it shows."""
    paths = []
    for picture, source in PICTURES.items():
        with plt.rc_context(STYLE):
            figure = DRAWN[picture](results[source])
            path = IMAGES / f"{picture}.png"
            figure.savefig(path, dpi=DPI, bbox_inches="tight", metadata={"Source": fingerprint(source)})
            plt.close(figure)
        paths.append(path)
    return paths


def _axes(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(7.2, 3.9))
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    return figure, axes


def _plain(axis: Any) -> None:  # noqa: ANN401 - matplotlib's own class
    """Write whole figures instead of powers; on a log scale also at 2 and 5."""
    if axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def growth(result: Mapping[str, Any]) -> Figure:
    """Build time against its select and the bare join, log-log."""
    figure, axes = _axes("Build of a night, claim to ledger", "entities (players), log scale", "seconds, log scale")
    sizes = result["sizes"]
    entities = [size["entities"] for size in sizes]
    for name, label, color, style in (
        ("build", "build", BLUE, "o-"),
        ("same_select", "one CREATE TABLE of the same select (yardstick)", ORANGE, "^:"),
        ("bare", "bare join of the same tables", GREY, "s--"),
    ):
        seconds = [size[name]["seconds"] for size in sizes]
        middle = [one["median"] for one in seconds]
        axes.plot(entities, middle, style, color=color, label=label)
        axes.fill_between(
            entities, [one["low"] for one in seconds], [one["high"] for one in seconds], color=color, alpha=0.2, lw=0
        )
    for size in sizes:
        above = (size["entities"], size["build"]["seconds"]["median"])
        times = f"{size['against_same_select']['seconds']:.2g} times"
        axes.annotate(times, above, xytext=(-6, 11), textcoords="offset points", ha="center")
    axes.set(xscale="log", yscale="log")
    axes.margins(x=0.09, y=0.2)
    _plain(axes.xaxis)
    axes.set_xticks(entities)
    _plain(axes.yaxis)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def deadline(result: Mapping[str, Any]) -> Figure:
    """Lag of deadlines against open dates."""
    figure, axes = _axes(
        "How late a deadline fires", "other dates open, log scale", "milliseconds from deadline to commit"
    )
    open_dates = [size["open_dates"] for size in result["sizes"]]
    for name, color, style in (("p50", BLUE, "o"), ("p99", RED, "s")):
        axes.plot(open_dates, [size["lag_ms"][name] for size in result["sizes"]], f"{style}-", color=color, label=name)
        axes.axhline(result["alone_lag_ms"][name], color=color, ls="--", lw=1, label=f"{name}, no other date open")
    target = result["targets"][0]["limit"]
    axes.axhline(target, color=GREY, ls=":", label=f"target of p99, {target:g} ms")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    _plain(axes.xaxis)
    axes.set_xticks(open_dates)
    axes.legend(frameon=False, ncols=1, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def workers(result: Mapping[str, Any]) -> Figure:
    """Intake against the number of worker processes."""
    cores = result["machine"]["cores"]
    figure, axes = _axes(
        f"One backlog, several worker processes ({cores} cores for all, bus and Valkey included)",
        "worker processes",
        "events per second",
    )
    teams = result["teams"]
    count = [team["workers"] for team in teams]
    for name, label, color, style in (
        ("intake", "stored and acknowledged", BLUE, "o-"),
        ("noop", "callback that does nothing (yardstick)", GREY, "s--"),
    ):
        rates = [team[name]["events_per_s"] for team in teams]
        middle = [one["median"] for one in rates]
        errors = [[one["median"] - one["low"] for one in rates], [one["high"] - one["median"] for one in rates]]
        axes.errorbar(count, middle, yerr=errors, fmt=style, color=color, capsize=3, label=label)
    one = teams[0]["intake"]["events_per_s"]["median"] / teams[0]["workers"]
    axes.plot(count, [one * number for number in count], ":", color=ORANGE, label="one worker's rate times the workers")
    axes.set_xticks(count)
    axes.set_ylim(bottom=0)
    _plain(axes.yaxis)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def parts(result: Mapping[str, Any]) -> Figure:
    """Cost of an event by part, and time of a build by phase: two stacked bars."""
    figure, (event, build) = plt.subplots(2, 1, figsize=(8.4, 4.2))
    total = result["plain"]["cpu_us_per_event"]["median"]
    cost = {name: part["us"] for name, part in result["parts"].items()}
    _stack(event, cost, f"One completion, by part: {total:,.0f} µs of processor time, all threads", "µs an event")
    phases = {name: one["median"] for name, one in result["build_phases_ms"].items()}
    whole = result["build_ms"]["median"]
    _stack(build, phases, f"First build of a process, 400 players, by phase: {whole:,.0f} ms", "milliseconds")
    figure.tight_layout(h_pad=1.5)
    return figure


def _stack(axes: Axes, values: Mapping[str, float], title: str, unit: str) -> None:
    left, whole = 0.0, sum(values.values())
    for (name, value), color in zip(values.items(), PART_COLORS, strict=False):
        axes.barh(0, value, left=left, height=0.6, color=color, edgecolor="white", label=f"{name} {value:,.3g}")
        ink = "white" if color in DARK else "black"
        if value > SHARE_WRITTEN_MIN * whole:
            axes.text(left + value / 2, 0, f"{value / whole:.0%}", ha="center", va="center", fontsize=8, color=ink)
        left += value
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_yticks([])
    axes.set_xlim(0, left)
    axes.set_xlabel(unit)
    axes.spines["left"].set_visible(False)
    axes.legend(frameon=False, fontsize=8.5, ncols=1, loc="center left", bbox_to_anchor=(1.0, 0.5), labelspacing=0.15)


def peers(result: Mapping[str, Any]) -> Figure:
    """The same join on other tools, four small charts."""
    figure, charts = plt.subplots(1, 4, figsize=(10.6, 3.2))
    tools = result["tools"]
    labels = [TITLES[name] for name in tools]
    shown: Sequence[tuple[str, str, Sequence[tuple[str, str, str, str]]]] = (
        ("Rate", "completions per second", (("one", "events_per_s", "one worker", BLUE), _TWO)),
        ("Fourth completion to build", "ms, log scale", _quantiles("latency")),
        ("Deadline to build", "ms, log scale", _quantiles("deadline")),
        (
            "Worker killed",
            "dates",
            (
                ("kill", "lost", "never built", RED),
                ("kill", "finished_twice", "built twice", ORANGE),
                ("kill", "started_again", "begun more than once", LIGHT),
            ),
        ),
    )
    for axes, (title, unit, series) in zip(charts, shown, strict=True):
        width = 0.8 / len(series)
        for place, (scenario, field, label, color) in enumerate(series):
            heights = [tool.get(scenario, {}).get(field, float("nan")) for tool in tools.values()]
            across = [number + (place - (len(series) - 1) / 2) * width for number in range(len(labels))]
            axes.bar(across, heights, width, color=color, label=label)
        if "log" in unit:
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            # Bars on a log scale have no foot: begin well below the lowest, and leave room for the legend.
            axes.set_ylim(low / 2, max(high * 4, low * 20))
            _plain(axes.yaxis)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_ylabel(unit)
        axes.set_xticks(range(len(labels)), labels, rotation=35, ha="right")
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.35)
        if unit == "dates":
            axes.set_ylim(0, max(axes.get_ylim()[1], 1))
        axes.legend(frameon=False, fontsize=7.5, loc="upper left", borderaxespad=0)
    figure.tight_layout(w_pad=1.2)
    return figure


_TWO = ("two", "events_per_s", "two workers", SKY)


def _quantiles(scenario: str) -> Sequence[tuple[str, str, str, str]]:
    return ((scenario, "p50", "p50", BLUE), (scenario, "p99", "p99", RED))


DRAWN: Mapping[str, Callable[[Mapping[str, Any]], Figure]] = {
    "performance-growth": growth,
    "performance-deadline": deadline,
    "performance-workers": workers,
    "performance-parts": parts,
    "performance-peers": peers,
}
