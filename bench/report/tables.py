"""Results as Markdown tables. Standard library only: `make peers` prints its own from an environment without mlfs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.report.peers_table import peers_short, peers_table
from bench.report.text import amount, markdown, of, spread

# Up to these a machine counts as quiet. Where both were taken the share decides: the load is partly the last command's.
LOAD_MAX = 1.0
BUSY_MAX = 0.1
TARGET_NAMES: Mapping[str, str] = {
    "a night of 400 against the bare join": "a night of 400 in a fresh process, against the bare join",
    "the same in a warm process": "the same in a process that has built before",
    "time against the same select, 1,000,000": "1,000,000 entities: time against one `CREATE TABLE` of the same select",
    "memory against the same select, 1,000,000": "1,000,000 entities: peak memory against the same",
    "warehouse statements more than at the smallest size": "warehouse statements more than at the smallest size",
    "events/s against a callback that does nothing": "intake, one process, against a callback that does nothing",
    "events/s of one process": "intake, one process, events/s",
    "p50 ms beyond the hop": "fourth completion to claim, p50 beyond the hop, ms",
    "p99 ms beyond the hop": "fourth completion to claim, p99 beyond the hop, ms",
    "p99 ms of lag": "deadline lag, worst p99 of all numbers of open dates, ms",
    "MB when idle": "`mlfs run`, resident when idle, embedded Pub/Sub server included, MB",
    "seconds from start to ready": "`mlfs run` to ready, s",
    "bytes in the store per finished date": "store per finished date, bytes",
}


def targets(results: Mapping[str, Any]) -> str:
    """Every figure that has a target."""
    rows = [
        (
            TARGET_NAMES[one["target"]],
            amount(one["value"]),
            f"{'at least' if one['at_least'] else 'at most'} {one['limit']:,g}",
            "met" if one["met"] else "**missed**",
        )
        for name in ("build", "intake", "latency", "deadline", "footprint")
        for one in results[name]["targets"]
    ]
    return markdown(("figure", "measured", "target", ""), rows)


def machine(results: Mapping[str, Any]) -> str:
    """What was measured on, and how busy it was before each command."""
    known = {name: result["machine"] for name, result in results.items() if name != "peers"}
    described = {_described(one) for one in known.values()}
    rows = [
        (f"`{name}.json`", f"{one['load_1m']:.2f}", _busy(one), "yes" if _was_quiet(one) else "**no**")
        for name, one in known.items()
    ]
    header = ("result", "load, 1 min, before", "taken in the 2 s before", "quiet")
    return "\n\n".join([*sorted(described), markdown(header, rows)])


def _described(one: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in one["packages"].items())
    return f"{one['cpu']}, {one['cores']} cores, {one['memory_mb']:,} MB; Python {one['python']}, {packages}."


def _was_quiet(one: Mapping[str, Any]) -> bool:
    return bool(one["busy_before"] <= BUSY_MAX if "busy_before" in one else one["load_1m"] <= LOAD_MAX)


def _busy(one: Mapping[str, Any]) -> str:
    return f"{one['busy_before']:.0%}" if "busy_before" in one else "not taken"


def growth(results: Mapping[str, Any]) -> str:
    """Build, same select and bare join, by size."""
    rows = [
        (
            f"{size['entities']:,}",
            spread(size["build"]["seconds"], 3),
            spread(size["same_select"]["seconds"], 3),
            f"{size['against_same_select']['seconds']:.2f}",
            spread(size["bare"]["seconds"], 3),
            f"{size['against_bare']['seconds']:.2f}",
            f"{size['build']['peak_mb']['median']:,.0f}",
            f"{size['against_same_select']['peak_mb']:.2f}",
            str(size["build"]["statements"] or "not counted"),
        )
        for size in results["build"]["sizes"]
    ]
    header = (
        *("entities", "build, s", "same select, s", "times", "bare join, s", "times"),
        *("build, MB", "times the same select", "statements"),
    )
    return markdown(header, rows)


def workers(results: Mapping[str, Any]) -> str:
    """Intake by number of worker processes."""
    rows = [
        (
            str(team["workers"]),
            spread(team["intake"]["events_per_s"], 0),
            f"{team['against_one']:.2f}",
            spread(team["noop"]["events_per_s"], 0),
            f"{team['ratio']:.2f}",
            f"{team['intake']['cpu_us_per_event']['median']:,.0f}",
            f"{team['intake']['store_cpu_us_per_event']['median']:,.0f}",
        )
        for team in results["workers"]["teams"]
    ]
    header = (
        *("workers", "events/s", "against one", "callback that does nothing, events/s", "ratio"),
        *("CPU of all workers, µs an event", "CPU of Valkey, µs an event"),
    )
    return markdown(header, rows)


def deadline(results: Mapping[str, Any]) -> str:
    """Lag of deadlines by number of open dates."""
    result = results["deadline"]
    alone = ("none", *of(result["alone_lag_ms"], "p50", "p99", "max"), "", "")
    rows = [
        (
            f"{size['open_dates']:,}",
            *of(size["lag_ms"], "p50", "p99", "max"),
            f"{size['opened_in_s']:,.1f}",
            f"{size['store_bytes_per_date']:,.0f}",
        )
        for size in result["sizes"]
    ]
    header = ("other dates open", "lag p50, ms", "p99", "highest", "opened in, s", "store, bytes a date")
    return markdown(header, [alone, *rows])


def parts(results: Mapping[str, Any]) -> str:
    """What one event costs, by part of its way."""
    result = results["profile"]
    rows = [(name, f"{part['us']:.0f}", f"{part['share']:.0%}") for name, part in result["parts"].items()]
    total = result["plain"]["cpu_us_per_event"]["median"]
    return markdown(("part", "CPU, µs an event", "share"), [*rows, ("**all**", f"**{total:.0f}**", "")])


def profiler(results: Mapping[str, Any]) -> str:
    """What the profiler itself costs."""
    result = results["profile"]
    rows = [
        (label, spread(result[name]["events_per_s"], 0), spread(result[name]["cpu_us_per_event"], 0))
        for name, label in (("plain", "without the profiler"), ("sampled", f"with it, {result['sample_hz']} a second"))
    ]
    return markdown(("intake", "events/s", "CPU, µs an event"), rows)


def phases(results: Mapping[str, Any]) -> str:
    """A build of 400 by phase."""
    result = results["profile"]
    rows = [(f"`{name}`", spread(one, 1)) for name, one in result["build_phases_ms"].items()]
    return markdown(("phase", "ms"), [*rows, ("**all**", spread(result["build_ms"], 1))])


def latency(results: Mapping[str, Any]) -> str:
    """One message's hop, and the fourth completion to the claim."""
    named = (("one message to a callback that does nothing", "hop_ms"), ("fourth completion to claim", "claim_ms"))
    rows = [(label, *of(results["latency"][name], "p50", "p99", "max")) for label, name in named]
    return markdown(("from a publish", "p50, ms", "p99", "highest"), rows)


def footprint(results: Mapping[str, Any]) -> str:
    """Start, memory, bytes."""
    result = results["footprint"]
    rows = [
        ("start of `mlfs run` to ready, s", spread(result["ready_s"], 2)),
        ("resident when idle, MB", spread(result["idle_mb"], 0)),
        ("store per finished date, bytes", f"{result['store']['bytes_per_date']:,.0f}"),
        ("and for ten minutes, bytes", f"{result['store']['passing_bytes_per_date']:,.0f}"),
    ]
    return markdown(("what", "measured"), rows)


TABLES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "targets": targets,
    "machine": machine,
    "growth": growth,
    "workers": workers,
    "deadline": deadline,
    "parts": parts,
    "profiler": profiler,
    "phases": phases,
    "latency": latency,
    "footprint": footprint,
    "peers": lambda results: peers_table(results["peers"]),
    "peers in short": lambda results: peers_short(results["peers"]),
}


def names() -> Sequence[str]:
    """Give the names of all tables."""
    return list(TABLES)
