"""`mlfs backtest`: the recorded nights of a span under other rules, beside today's rules. Reads the warehouse.

The recorded arrivals go through the rules of production (`worker.foresight.backtest`); no row is built and no table
is written.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from ops.arguments import Json, complete_processor, read_date, reading_resources
from ops.output import counted, err, number, out, show_json, table
from ops.reports.backtest_plot import plot
from statemachine.model import OnRerun, OnUpstreamFailure
from worker.calendar import SCHEDULE_REACH, Calendar, WallClock
from worker.errors import BadSettings, Refused
from worker.features.arrivals import plan_arrivals, read_arrivals
from worker.features.generations import instant_text
from worker.features.plan import plan_game_days, plan_of
from worker.foresight.backtest import Night, NotPlayed, PlayedNight, Rules, nights_of
from worker.foresight.backtest_figures import (
    MINUTE_S,
    SWEEP_MINUTES,
    Figures,
    SweepPoint,
    figures_of,
    play_all,
    sweep,
    wall_clock,
)
from worker.foresight.estimated_builds import BuildEstimates, RecordedBuild, estimate_builds, with_optional
from worker.pipelines.checks import find_faults
from worker.ports import Warehouse
from worker.settings import Settings, load

NIGHTS_MAX = 366
LISTED_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Recorded nights of a span, ready to be played.

    Attributes:
        nights: Nights to play.
        left_out: Reason for each expected night that cannot be played.
        intervened: Dates with a request of a person, played without the request.
        states: State of the recorded publication of each published date.
        estimates: Estimates of the builds.
    """

    nights: Sequence[Night]
    left_out: Mapping[date, NotPlayed]
    intervened: Sequence[date]
    states: Mapping[date, str]
    estimates: BuildEstimates


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """Rules with the played nights and the totals."""

    rules: Rules
    nights: Sequence[PlayedNight]
    figures: Figures


def _svg(path: Path | None) -> Path | None:
    if path is not None and path.suffix != ".svg":
        raise typer.BadParameter(f"{path} does not end in .svg")
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.absolute().parent}; create the folder")
    return path


FirstDate = Annotated[date, typer.Option("--from", parser=read_date, metavar="DATE", help="First analysis date.")]
LastDate = Annotated[date, typer.Option("--to", parser=read_date, metavar="DATE", help="Last analysis date, included.")]
Optional = Annotated[
    list[str] | None,
    typer.Option(
        "--optional",
        metavar="PROCESSOR",
        help="Processor whose absence at the deadline does not degrade; repeatable.",
        autocompletion=complete_processor,
    ),
]
PlotFile = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE.svg", callback=_svg, help="Write a plot over the deadline to this file."),
]


def backtest(
    first: FirstDate,
    last: LastDate,
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="Deadline to try: 23:10, or 00:30+1d on the day after.")
    ] = None,
    upgrade_cutoff: Annotated[
        str | None, typer.Option("--upgrade-cutoff", metavar="TIME", help="Cutoff to try, written like the deadline.")
    ] = None,
    on_upstream_failure: Annotated[
        OnUpstreamFailure | None, typer.Option(help="Effect of a reported failure to try.")
    ] = None,
    rerun: Annotated[OnRerun | None, typer.Option(help="Effect of a new run after done to try.")] = None,
    optional: Optional = None,
    plot_file: PlotFile = None,
    as_json: Json = False,
) -> None:
    """Play the recorded reports of past nights under other rules, beside today's rules; write no table.

    The decisions are those of the worker; duration and score of a build are estimates. The plot shows deadlines around
    the tried deadline. Exit code 2: wrong rules, or no report is recorded in the span.

    Examples:
      mlfs backtest --from 2024-11-01 --to 2024-12-15 --deadline 23:10
      mlfs backtest --from 2024-11-01 --to 2024-12-15 --deadline 00:15+1d --upgrade-cutoff 00:45+1d --json
      mlfs backtest --from 2024-11-01 --to 2024-12-15 --plot deadlines.svg
    """
    check_span(first, last)
    given = {"deadline": deadline, "upgrade_cutoff": upgrade_cutoff}
    given |= {"on_upstream_failure": on_upstream_failure, "rerun": rerun}
    with reading_resources() as resources:
        settings = resources.settings
        rules = [rules_of(settings, ()), rules_of(_tried_settings(given), tuple(optional or ()))]
        recorded = read_recorded(resources.warehouse, settings.calendar, first, last)
    sla = settings.upgrade_cutoff
    with _progress(len(recorded.nights) * (2 + len(SWEEP_MINUTES) * (plot_file is not None)), as_json) as step:
        today, tried = (_try(recorded, one, sla, step) for one in rules)
        points = sweep(recorded.nights, tried.rules, recorded.estimates, sla, step) if plot_file is not None else []
    if plot_file is not None:
        marks = {"today": today.rules.calendar.deadline}
        if tried.rules.calendar.deadline != marks["today"]:
            marks["tried"] = tried.rules.calendar.deadline
        title = f"{counted(len(recorded.nights), 'night')} from {first} to {last}, played again"
        plot_file.write_text(plot(points, marks, title), encoding="utf-8")
    if as_json:
        show_json(answer_of(recorded, today, tried, points, sla) | {"plot": plot_file and str(plot_file)})
        return
    _show(recorded, today, tried, sla)
    if plot_file is not None:
        out.print(f"plot: {plot_file}", markup=False, soft_wrap=True)


def check_span(first: date, last: date) -> None:
    """Refuse an empty or too long span of analysis dates.

    Raises:
        Refused: The message names the next step.
    """
    days = (last - first).days + 1
    if days < 1:
        raise Refused(f"--from {first} is after --to {last}; exchange the dates")
    if days > NIGHTS_MAX:
        raise Refused(f"{first} to {last} are {days} dates, {NIGHTS_MAX} at most; choose a shorter span")


def _tried_settings(given: Mapping[str, Any]) -> Settings:
    """Return the settings with the given rules in place of today's.

    Raises:
        Refused: A rule is wrong, or two rules contradict each other.
    """
    try:
        return load(None, **{name: value for name, value in given.items() if value is not None})
    except BadSettings as exc:
        text = str(exc)
        for name in given:
            text = text.replace(f"MLFS_{name.upper()}", f"--{name.replace('_', '-')}")
        if "--upgrade-cutoff" in text and given["upgrade_cutoff"] is None:
            text += "\n  a deadline after today's cutoff needs a later cutoff: add --upgrade-cutoff TIME"
        raise Refused(text.replace("wrong settings", "these rules cannot be tried")) from exc


def rules_of(settings: Settings, optional: Sequence[str]) -> Rules:
    """Return the rules of *settings*, with these optional processors in place of the settings', if any.

    Raises:
        Refused: A processor is not in the pipeline, or a row cannot do without the processor.
    """
    pipeline = settings.definition
    if not optional:
        return Rules(policy=settings.policy, calendar=settings.calendar)
    unknown = sorted(set(optional) - set(pipeline.processors))
    if unknown:
        known = ", ".join(pipeline.processors)
        raise Refused(f"--optional {', '.join(unknown)}: no such processor; the processors are {known}")
    if faults := find_faults(with_optional(pipeline, frozenset(optional))):
        raise Refused(f"--optional {', '.join(optional)}: {'; '.join(faults)}; leave the processor out")
    return Rules(policy=replace(settings.policy, optional=frozenset(optional)), calendar=settings.calendar)


def read_recorded(warehouse: Warehouse, calendar: Calendar, first: date, last: date) -> Recorded:
    """Read the recorded nights of a span.

    Raises:
        Refused: No night of the span can be played.
        Unavailable: The warehouse does not answer.
    """
    pipeline, span = warehouse.pipeline, {"first_date": first, "last_date": last}

    def ask(name: str) -> Sequence[Mapping[str, Any]]:
        return warehouse.query(plan_of(name, span, pipeline))

    arrivals = read_arrivals(warehouse.query(plan_arrivals(first, last, pipeline)))
    nights, left_out = nights_of(arrivals, calendar.with_games(_game_days(warehouse, first, last)), first, last)
    if not nights:
        reasons = "; ".join(dict.fromkeys(left_out.values())) or "no night is expected"
        raise Refused(f"{first} to {last}: no night can be played ({reasons}); the dates of the worker: mlfs status")
    asked = {row["analysis_date"] for row in ask("report_requests")}
    builds = [
        RecordedBuild(
            filled=frozenset(block.processor for block in pipeline.blocks if row[f"{block.name}_rows"]),
            row_count=row["row_count"],
            quality_score=row["quality_score"],
            duration_s=(row["processed_at"] - row["started_at"]).total_seconds(),
        )
        for row in ask("report_builds")
    ]
    return Recorded(
        nights=nights,
        left_out=left_out,
        intervened=[night.analysis_date for night in nights if night.analysis_date in asked],
        states={row["analysis_date"]: row["state"] for row in ask("report_nights")},
        estimates=estimate_builds(pipeline, builds),
    )


def _game_days(warehouse: Warehouse, first: date, last: date) -> frozenset[date]:
    """Return the days with a game around the span; empty for a pipeline without a schedule."""
    if warehouse.pipeline.schedule is None:
        return frozenset()
    reach = timedelta(days=SCHEDULE_REACH)
    rows = warehouse.query(plan_game_days(first - reach, last + reach, warehouse.pipeline))
    return frozenset(row["game_day"] for row in rows)


@contextmanager
def _progress(total: int, as_json: bool) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal while nights are played; yield the function that counts a night."""
    with Progress(console=err, transient=True, disable=as_json or not err.is_terminal) as bar:
        task = bar.add_task("playing nights", total=total)
        yield lambda: bar.advance(task)


def _try(recorded: Recorded, rules: Rules, sla: WallClock, step: Callable[[], None]) -> Tried:
    nights = play_all(recorded.nights, rules, recorded.estimates, step)
    return Tried(rules=rules, nights=nights, figures=figures_of(nights, rules.calendar, sla))


def answer_of(
    recorded: Recorded, today: Tried, tried: Tried, points: Sequence[SweepPoint], sla: WallClock
) -> dict[str, Any]:
    """Return the backtest for JSON; instants in UTC, wall clock times in the league's zone."""
    estimates = recorded.estimates
    return {
        "zone": today.rules.calendar.zone.key,
        "sla": str(sla),
        "nights": len(recorded.nights),
        "not_played": [
            {"analysis_date": day.isoformat(), "reason": reason.value} for day, reason in recorded.left_out.items()
        ],
        "interventions": [day.isoformat() for day in recorded.intervened],
        "estimates": {
            "build_s": estimates.build_s,
            "builds": estimates.builds,
            "row_count": estimates.row_count,
            "recorded_scores": [
                {"processors": sorted(filled), "quality_score": score} for filled, score in estimates.recorded.items()
            ],
        },
        "rules": {"today": _rules_row(today.rules), "tried": _rules_row(tried.rules)},
        "figures": {"today": _figures_row(today.figures), "tried": _figures_row(tried.figures)},
        "dates": [
            {
                "analysis_date": now.analysis_date.isoformat(),
                "recorded": recorded.states.get(now.analysis_date),
                "today": _night_row(now),
                "tried": _night_row(then),
            }
            for now, then in zip(today.nights, tried.nights, strict=True)
        ],
        "sweep": [{"deadline": str(point.deadline), **_figures_row(point.figures)} for point in points],
    }


def _rules_row(rules: Rules) -> dict[str, Any]:
    return {
        "deadline": str(rules.calendar.deadline),
        "upgrade_cutoff": str(rules.calendar.upgrade_cutoff),
        "on_upstream_failure": rules.policy.on_upstream_failure.value,
        "rerun": rules.policy.rerun.value,
        "optional": sorted(rules.policy.optional),
    }


def _figures_row(figures: Figures) -> dict[str, Any]:
    times = {"published_p50": figures.published_p50_s, "published_p95": figures.published_p95_s}
    counts = {name: value for name, value in asdict(figures).items() if not name.startswith("published_")}
    return counts | {name: None if at is None else str(wall_clock(at)) for name, at in times.items()}


def _night_row(night: PlayedNight) -> dict[str, Any]:
    return {
        "ending": night.ending.value,
        "generations": night.generations,
        "builds": [
            {
                "generation": build.generation,
                "trigger": build.trigger,
                "published_at": instant_text(build.committed_at),
                "state": build.state,
                "quality_score": build.quality_score,
            }
            for build in night.builds
        ],
    }


def _show(recorded: Recorded, today: Tried, tried: Tried, sla: WallClock) -> None:
    names: tuple[str, ...] = ("figure", "today", "tried", "difference")
    rows = [*_rule_cells(today.rules, tried.rules), *_figure_cells(today.figures, tried.figures, sla)]
    if today.rules == tried.rules:
        names, rows = names[:2], [row[:2] for row in rows]
    out.print(f"{counted(len(recorded.nights), 'night')} played")
    out.print(table(names, rows, numbers={*names[1:]}, texts={*names[1:3]}))
    changed = [
        f"{now.analysis_date} {now.ending} -> {then.ending}"
        for now, then in zip(today.nights, tried.nights, strict=True)
        if now.ending is not then.ending
    ]
    if changed:
        out.print(f"other end: {_listed(changed)}", soft_wrap=True)
    _show_agreement(recorded, today)
    _show_limits(recorded)


def _listed(texts: Sequence[str]) -> str:
    more = f", and {len(texts) - LISTED_MAX} more: --json" if len(texts) > LISTED_MAX else ""
    return ", ".join(texts[:LISTED_MAX]) + more


def _show_agreement(recorded: Recorded, today: Tried) -> None:
    """Print for how many nights today's rules give the recorded state: evidence for or against the estimates."""
    known = [
        night
        for night in today.nights
        if night.analysis_date in recorded.states and night.analysis_date not in recorded.intervened
    ]
    other = [night for night in known if night.state != recorded.states[night.analysis_date]]
    if known:
        out.print(
            f"today's rules give the recorded state on {len(known) - len(other)} of {counted(len(known), 'night')}"
        )
    if other:
        texts = [f"{one.analysis_date} recorded {recorded.states[one.analysis_date]}" for one in other]
        out.print(f"another state than recorded: {_listed(texts)}", soft_wrap=True)


def _show_limits(recorded: Recorded) -> None:
    """Print the estimates, and the nights that are left out or played without an intervention."""
    estimates = recorded.estimates
    source = f"median of {counted(estimates.builds, 'build')}" if estimates.builds else "no build is recorded"
    out.print(
        f"estimated: a build takes {estimates.build_s:.1f} s ({source}); scores by tables with rows", soft_wrap=True
    )
    for reason in NotPlayed:
        days = [str(day) for day, why in recorded.left_out.items() if why is reason]
        if days:
            out.print(f"not played, {reason}: {_listed(days)}", soft_wrap=True)
    if recorded.intervened:
        days = [str(day) for day in recorded.intervened]
        out.print(f"played without the request of a person: {_listed(days)}", soft_wrap=True)


def _rule_cells(today: Rules, tried: Rules) -> Iterator[tuple[str, ...]]:
    rows = _rules_row(today), _rules_row(tried)
    for name in rows[0]:
        cells = [", ".join(row[name]) or "none" if name == "optional" else row[name] for row in rows]
        yield name.replace("_", " "), *cells, "" if cells[0] == cells[1] else "changed"


def _figure_cells(today: Figures, tried: Figures, sla: WallClock) -> Iterator[tuple[str, ...]]:
    counts = {
        "done": "done at once",
        "upgraded": "upgraded to done",
        "degraded": "degraded at the end",
        "failed": "failed",
        "first_degraded": "degraded at first",
        "late": f"published after {sla}",
    }
    for name, text in counts.items():
        before, after = getattr(today, name), getattr(tried, name)
        yield text, str(before), str(after), f"{after - before:+d}" if after != before else "0"
    for name, text in {"published_p50_s": "published, p50", "published_p95_s": "published, p95"}.items():
        before, after = getattr(today, name), getattr(tried, name)
        times = ["-" if at is None else str(wall_clock(at)) for at in (before, after)]
        unknown = before is None or after is None
        yield text, *times, "-" if unknown else f"{(after - before) / MINUTE_S:+.1f} min"
    for name, text in {"first_score_lost": "score lost at first", "score_lost": "score lost at the end"}.items():
        before, after = getattr(today, name), getattr(tried, name)
        unknown = before is None or after is None
        yield text, number(before, ".2f"), number(after, ".2f"), "-" if unknown else f"{after - before:+.2f}"
