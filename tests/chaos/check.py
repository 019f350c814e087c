"""The judge of a chaos run: `python -m tests.chaos.check HISTORY`. It reads the history and nothing else.

Each invariant of the design is a function that says how much it looked at and what broke it. An invariant that looked
at nothing proves nothing; the report shows the number.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.chaos.evidence import Evidence
from tests.chaos.finding import Finding, Invariant
from tests.chaos.invariants_of_records import (
    bounded,
    converged,
    durable_before_ack,
    exact_join,
    fallback_justified,
    nothing_lost,
    poison_contained,
    stable,
    truthful,
)
from tests.chaos.invariants_of_results import (
    amnesia,
    audited,
    built_anew,
    committed_before_told,
    confluence,
    fenced,
    gate,
    isolated,
    monotone,
    readable_again,
    single_commit,
    told,
)
from tests.chaos.invariants_of_time import deadline_fires, readers_stop_nothing

INVARIANTS: Mapping[str, Invariant] = {
    "one commit per (date, generation)": single_commit,
    "no acknowledged completion lost": nothing_lost,
    "done or degraded means told, or in the outbox": told,
    "told means committed, with the same figures": committed_before_told,
    "a deadline fires in time and never early": deadline_fires,
    "fallback only when something was missing": fallback_justified,
    "ready by four successes or filled tables, and by nothing else": exact_join,
    "generation, attempt and version are monotone": monotone,
    "fenced owners change nothing": fenced,
    "order and duplicates do not matter": confluence,
    "one date never touches another, readers see one build": isolated,
    "a published generation can be read again later": readable_again,
    "an end is left only by replay, upgrade or rescue": stable,
    "acknowledged after it was stored": durable_before_ack,
    "bad input is parked with a reason and stops nobody": poison_contained,
    "a reader that is slow or gone stops nothing": readers_stop_nothing,
    "the gate is respected": gate,
    "audit before effect, one request one effect": audited,
    "a replay leads to a build of its own": built_anew,
    "a lost store changes no result": amnesia,
    "everything is bounded": bounded,
    "everything comes to rest": converged,
    "metrics tell the truth": truthful,
}


def judge_evidence(seen: Evidence) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, invariant in INVARIANTS.items():
        finding = Finding()
        invariant(seen, finding)
        found[name] = {"checked": finding.checked, "violations": finding.violations}
    return {"violations": sum(len(one["violations"]) for one in found.values()), "invariants": found}


def judge(path: Path) -> dict[str, Any]:
    """The verdict on the history in a file."""
    return judge_evidence(Evidence.read(path))


def show(verdict: Mapping[str, Any]) -> Iterator[str]:
    for name, found in verdict["invariants"].items():
        yield f"{name:<62} {found['checked']:>7} checked  {len(found['violations'])} violations"
        yield from (f"    {what}" for what in found["violations"][:20])
    yield f"violations {verdict['violations']}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("history", type=Path)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    verdict = judge(chosen.history)
    sys.stdout.write(json.dumps(verdict, indent=2) + "\n" if chosen.json else "\n".join(show(verdict)) + "\n")
    return 1 if verdict["violations"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
