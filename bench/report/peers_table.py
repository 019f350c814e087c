"""The comparison with other tools as tables. Standard library only."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.report.text import amount, markdown

TITLES: Mapping[str, str] = {"celery": "Celery", "docket": "pydocket", "dbos": "DBOS", "mlfs": "mlfs"}
NOTES: Sequence[str] = (
    "Completions per second, all queued beforehand. mlfs receives through Google's client from a Pub/Sub server in a "
    "process of its own, one hop more than the others, and its rate counts stored and acknowledged completions without "
    "a build; a peer's rate runs from its first build to its last, and a build is two lines.",
    "mlfs: the fourth completion's publish to the claim of a real build. Peers: its sending to the first line of the "
    "build.",
    "mlfs: the deadline to the commit that makes the date ready, after a look at the four tables. Peers: to the first "
    "line of the build.",
    "One worker, killed about every four seconds. Built twice: by mlfs, two commits of one generation; by a peer, two "
    "builds that ended, and its sink refuses neither. Begun more than once: what a kill in the middle costs.",
)


def peers_table(result: Mapping[str, Any]) -> str:
    """Every figure of every tool, with what is not equal below."""
    tools = result["tools"]
    header = (
        *("", "one worker/s ¹", "two workers/s ¹", "latency p50 / p99, ms ²", "deadline lag p50 / p99, ms ³"),
        *("kills ⁴", "never built", "built twice", "begun more than once"),
    )
    rows = [(TITLES[name], *_figures(tool)) for name, tool in tools.items()]
    sizes = result["sizes"]
    said = (
        f"{sizes['dates']:,} dates for the rates, {sizes['nights']} for latency and deadline, {sizes['killed']} "
        f"for the kills; {result['machine']['cpu']}, {result['machine']['cores']} cores, load before "
        f"{result['machine']['load_1m']:.2f}."
    )
    notes = "\n".join(f"{mark} {note}\n" for mark, note in zip("¹²³⁴", NOTES, strict=True))
    return f"{markdown(header, rows)}\n\n{said}\n\n{notes}".rstrip("\n")


def _figures(tool: Mapping[str, Any]) -> tuple[str, ...]:
    kill = tool.get("kill", {})
    return (
        _rate(tool.get("one", {})),
        _rate(tool.get("two", {})),
        _pair(tool.get("latency", {})),
        _pair(tool.get("deadline", {})),
        *(str(kill.get(name, "not finished")) for name in ("kills", "lost", "finished_twice", "started_again")),
    )


def _rate(figures: Mapping[str, Any]) -> str:
    return f"{figures['events_per_s']:,.0f}" if "events_per_s" in figures else "not finished"


def _pair(figures: Mapping[str, Any]) -> str:
    return f"{amount(figures['p50'])} / {amount(figures['p99'])}" if "p50" in figures else "not finished"


def peers_short(result: Mapping[str, Any]) -> str:
    """The README's few rows."""
    tools = result["tools"]
    rows = [
        ("completions/s, one worker", *(_rate(tool.get("one", {})) for tool in tools.values())),
        ("completions/s, two workers", *(_rate(tool.get("two", {})) for tool in tools.values())),
        ("fourth completion to build, p50 / p99, ms", *(_pair(tool.get("latency", {})) for tool in tools.values())),
        ("deadline to build, p50 / p99, ms", *(_pair(tool.get("deadline", {})) for tool in tools.values())),
        ("worker killed: dates never built", *(_count(tool, "lost") for tool in tools.values())),
        ("worker killed: dates built twice", *(_count(tool, "finished_twice") for tool in tools.values())),
    ]
    return markdown(("", *(TITLES[name] for name in tools)), rows)


def _count(tool: Mapping[str, Any], name: str) -> str:
    killed = tool.get("kill", {})
    return str(killed.get(name, "not finished"))
