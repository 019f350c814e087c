"""The commands below `mlfs bench`: parse the options, run a measurement, print tables or JSON."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from ops.arguments import Json
from ops.bench.measure import describe_machine
from ops.output import err, out, show_json, table

WORKERS_HEADER = (
    "workers",
    "events/s",
    "against one",
    "nothing, events/s",
    "ratio",
    "CPU us/event",
    "store's CPU us/event",
)

Runs = Annotated[int, typer.Option(help="Runs of each measurement; the medians are shown.", min=1, max=50)]


def build(
    entities: Annotated[
        str, typer.Option(help="Sizes, separated by commas.", metavar="N,N,...")
    ] = "400,10000,100000,1000000",
    runs: Runs = 3,
    memory_limit: Annotated[str, typer.Option(help="Memory of DuckDB, for build and yardsticks.")] = "2GB",
    threads: Annotated[int, typer.Option(help="Threads of DuckDB, for build and yardsticks.", min=1)] = 2,
    as_json: Json = False,
) -> None:
    """Measure a build from claim to ledger beside a table of the same select and beside the bare join (two minutes).

    Examples:
      mlfs bench build
      mlfs bench build --entities 400,10000 --runs 5 --json
    """
    from ops.bench.running import measure_build

    sizes = _sizes("--entities", entities)
    answer = {"machine": describe_machine(), **measure_build(sizes, runs, memory_limit, threads, _progress)}
    header = (
        "entities",
        "build s",
        "select s",
        "ratio",
        "bare join s",
        "ratio",
        "build MB",
        "ratio",
        "statements",
    )
    rows = [
        (
            f"{size['entities']:,}",
            _range(size["build"]["seconds"], "{:.3f}"),
            _range(size["same_select"]["seconds"], "{:.3f}"),
            f"{size['against_same_select']['seconds']:.2f}",
            _range(size["bare"]["seconds"], "{:.3f}"),
            f"{size['against_bare']['seconds']:.2f}",
            _range(size["build"]["peak_mb"], "{:.0f}"),
            f"{size['against_same_select']['peak_mb']:.2f}",
            str(size["build"]["statements"]),
        )
        for size in answer["sizes"]
    ]
    _show(answer, header, rows, as_json=as_json)


def intake(
    events: Annotated[int, typer.Option(help="Completions in the backlog, four a date.", min=400, max=32000)] = 20000,
    workers: Annotated[
        str, typer.Option(help="Numbers of worker processes, separated by commas.", metavar="N,N,...")
    ] = "1",
    runs: Runs = 3,
    as_json: Json = False,
) -> None:
    """Measure completions per second, stored and acknowledged, beside a callback that only acknowledges.

    Examples:
      mlfs bench intake
      mlfs bench intake --workers 1,2,4
      mlfs bench intake --events 4000 --runs 5 --json
    """
    from ops.bench.running import measure_intake, measure_workers

    if (teams := _sizes("--workers", workers)) != [1]:
        teamwork = {"machine": describe_machine(), **measure_workers(events // 4 * 4, teams, runs, _progress)}
        _show(teamwork, WORKERS_HEADER, [_workers_row(team) for team in teamwork["teams"]], as_json=as_json)
        return
    answer = {"machine": describe_machine(), **measure_intake(events // 4 * 4, runs, _progress)}
    rows = [
        (label, *(_range(answer[name][field], "{:,.0f}") for field in ("events_per_s", "cpu_us_per_event", "peak_mb")))
        for name, label in (("noop", "nothing"), ("intake", "intake"))
    ]
    _show(answer, ("callback", "events/s", "CPU us/event", "MB"), rows, as_json=as_json)


def latency(
    nights: Annotated[int, typer.Option(help="How many nights of 400.", min=2, max=300)] = 100,
    as_json: Json = False,
) -> None:
    """Measure the time from the publish of the fourth completion to the claim, beside the hop of a message.

    Examples:
      mlfs bench latency
      mlfs bench latency --nights 30 --json
    """
    from ops.bench.running import measure_latency

    answer = {"machine": describe_machine(), **measure_latency(nights, _progress)}
    rows = [("hop to a callback", answer["hop_ms"]), ("fourth completion to claim", answer["claim_ms"])]
    _show_percentiles(answer, rows, as_json=as_json)


def deadline(
    open_dates: Annotated[
        str, typer.Option(help="Waiting dates, one number or several.", metavar="N,N,...")
    ] = "100000",
    deadlines: Annotated[int, typer.Option(help="Deadlines measured, 50 ms apart.", min=2, max=500)] = 100,
    as_json: Json = False,
) -> None:
    """Measure how late deadlines fire while many other dates are open.

    Examples:
      mlfs bench deadline
      mlfs bench deadline --open-dates 1000,10000 --json
    """
    from ops.bench.running import OPEN_DATES_MAX, measure_deadline

    sizes = _sizes("--open-dates", open_dates, OPEN_DATES_MAX)
    answer = {"machine": describe_machine(), **measure_deadline(sizes, deadlines, _progress)}
    rows = [("none", *_percentiles(answer["alone_lag_ms"]), "", "")]
    rows += [
        (
            f"{size['open_dates']:,}",
            *_percentiles(size["lag_ms"]),
            f"{size['opened_in_s']:.1f}",
            f"{size['store_bytes_per_date']:,.0f}",
        )
        for size in answer["sizes"]
    ]
    _show(
        answer, ("dates open", "p50 ms", "p99 ms", "max ms", "opened in s", "store bytes a date"), rows, as_json=as_json
    )


def profile(
    events: Annotated[int, typer.Option(help="Completions in the backlog, four a date.", min=400, max=32000)] = 20000,
    sample_hz: Annotated[int, typer.Option(help="Stacks sampled a second.", min=10, max=1000)] = 200,
    runs: Runs = 3,
    as_json: Json = False,
) -> None:
    """Measure the cost of a completion by part of the hot path, and of a build of 400 by phase. Needs py-spy.

    Examples:
      mlfs bench profile
      mlfs bench profile --events 8000 --runs 1 --json
    """
    from ops.bench.running import measure_profile

    answer = {"machine": describe_machine(), **measure_profile(events // 4 * 4, sample_hz, runs, _progress)}
    if as_json:
        show_json(answer)
        return
    parts = [(name, f"{part['us']:.1f}", f"{part['share']:.1%}") for name, part in answer["parts"].items()]
    phases = [(name, _range(phase, "{:.1f}")) for name, phase in answer["build_phases_ms"].items()]
    runs_shown = [
        (label, *(_range(answer[name][field], "{:,.0f}") for field in ("events_per_s", "cpu_us_per_event")))
        for name, label in (("plain", "without the profiler"), ("sampled", "with it"))
    ]
    _show_machine(answer["machine"])
    out.print(
        _figures(("intake", "events/s", "CPU us/event"), runs_shown),
        "",
    )
    out.print(_figures(("part of an event", "CPU us", "share"), parts), "")
    out.print(_figures(("phase of a build of 400", "ms"), phases))


def footprint(
    nights: Annotated[int, typer.Option(help="Nights of 400 played for the store's bytes.", min=1, max=300)] = 20,
    runs: Runs = 3,
    as_json: Json = False,
) -> None:
    """Measure memory and time of a start of `mlfs run`, and the bytes of a finished date in the store.

    Examples:
      mlfs bench footprint
      mlfs bench footprint --nights 5 --runs 1 --json
    """
    from ops.bench.running import measure_footprint

    answer = {"machine": describe_machine(), **measure_footprint(nights, runs, _progress)}
    rows = [
        ("seconds to ready", _range(answer["ready_s"], "{:.2f}")),
        ("MB when idle", _range(answer["idle_mb"], "{:.0f}")),
        ("bytes per finished date", f"{answer['store']['bytes_per_date']:,.0f}"),
        ("and for ten minutes", f"{answer['store']['passing_bytes_per_date']:,.0f}"),
    ]
    _show(answer, ("what", "measured"), rows, as_json=as_json)


def _workers_row(team: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(team["workers"]),
        _range(team["intake"]["events_per_s"], "{:,.0f}"),
        f"{team['against_one']:.2f}" if team["against_one"] is not None else "",
        _range(team["noop"]["events_per_s"], "{:,.0f}"),
        f"{team['ratio']:.2f}",
        _range(team["intake"]["cpu_us_per_event"], "{:,.0f}"),
        _range(team["intake"]["store_cpu_us_per_event"], "{:,.0f}"),
    )


def _percentiles(values: Mapping[str, float]) -> tuple[str, str, str]:
    return f"{values['p50']:.2f}", f"{values['p99']:.2f}", f"{values['max']:.2f}"


def _show_percentiles(
    answer: Mapping[str, Any], rows: Sequence[tuple[str, Mapping[str, float]]], *, as_json: bool
) -> None:
    _show(
        answer, ("ms", "p50", "p99", "max"), [(label, *_percentiles(values)) for label, values in rows], as_json=as_json
    )


def _show(answer: Mapping[str, Any], header: Sequence[str], rows: Sequence[Sequence[str]], *, as_json: bool) -> None:
    """Print the machine, the table and the targets of a measurement, or JSON."""
    if as_json:
        show_json(answer)
        return
    _show_machine(answer["machine"])
    out.print(_figures(header, rows))
    _show_targets(answer["targets"])


def _figures(header: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    return table(header, rows, numbers=header[1:])


def _sizes(option: str, text: str, largest: int | None = None) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError as exc:
        raise typer.BadParameter(f"{option}: {text!r} is no list of numbers; write 400,10000") from exc
    if min(sizes) < 1 or max(sizes) > (largest or max(sizes)):
        raise typer.BadParameter(f"{option}: a size is 1 or more" + (f", {largest:,} at most" if largest else ""))
    return sizes


def _progress(text: str) -> None:
    err.print(f"[dim]{text}[/]")


def _range(values: Mapping[str, Any], form: str) -> str:
    low, middle, high = (form.format(values[name]) for name in ("low", "median", "high"))
    return f"{middle} ({low}-{high})"


def _show_machine(machine: Mapping[str, Any]) -> None:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    out.print(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_mb']:,} MB, load {machine['load_1m']}; "
        f"Python {machine['python']}, {packages}",
        soft_wrap=True,
        markup=False,
    )


def _show_targets(targets: Sequence[Mapping[str, Any]]) -> None:
    for target in targets:
        sign = ">=" if target["at_least"] else "<="
        word = "[green]met[/]   " if target["met"] else "[red]missed[/]"
        out.print(f"{word} {target['target']}: {target['value']:,.2f} (target {sign} {target['limit']:,})")
