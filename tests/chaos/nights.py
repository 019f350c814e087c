"""What the processors do in a chaos run, drawn from a seed: nights of different kinds, and messages that are none."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from tests.support.nights import PROCESSORS

# Long past whatever today is: a date in the future would be refused.
FIRST_NIGHT = date(2015, 1, 10)
# Shares of the kinds of nights. Whatever happens on the way, a night ends as its tables and reports say.
KINDS = {
    "full": 0.32,
    "late": 0.14,
    "missing": 0.14,
    "lost report": 0.12,
    "outage": 0.08,
    "failed, then success": 0.08,
    "run again": 0.06,
    "small roster": 0.03,
    "strangers": 0.03,
}
ROSTER_OF = {"small roster": "small", "strangers": "strangers"}
REPEATED = 0.25
SPREAD_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing that a processor does: fill its table, report, or both."""

    after_s: float
    processor: str
    writes: bool = False
    status: str = ""
    run: int = 1
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """One analysis date and everything that will be said about it."""

    day: date
    kind: str
    actions: Sequence[Action] = field(default_factory=tuple)

    @property
    def roster(self) -> str:
        return ROSTER_OF.get(self.kind, "full")


def draw_nights(seed: int, grace_s: float, kinds: Sequence[str] = ()) -> Iterator[Night]:
    """Nights without end, each on a date of its own; *kinds* come first, in their order."""
    dice = random.Random(f"nights {seed}")  # noqa: S311 - a schedule, not a secret
    number = 0
    while True:
        kind = kinds[number] if number < len(kinds) else dice.choices(list(KINDS), list(KINDS.values()))[0]
        yield Night(
            day=FIRST_NIGHT + timedelta(days=number),
            kind=kind,
            actions=tuple(sorted(_actions(kind, dice, grace_s), key=lambda action: action.after_s)),
        )
        number += 1


def _actions(kind: str, dice: random.Random, grace_s: float) -> Iterator[Action]:
    order = dice.sample(PROCESSORS, len(PROCESSORS))
    last = order[-1]
    for processor in order:
        at = dice.uniform(0.0, SPREAD_S)
        times = 2 if dice.random() < REPEATED else 1
        whole = Action(after_s=at, processor=processor, writes=True, status="success", times=times)
        if processor != last or kind in {"full", "run again", "small roster"}:
            if kind == "outage":
                # Without any report nobody would hear of a past date, so one processor says that it failed.
                if processor == order[0]:
                    yield Action(after_s=at, processor=processor, status="failed")
            elif kind == "strangers":
                yield Action(after_s=at, processor=processor, status="failed")
            else:
                yield whole
        elif kind == "late":
            yield Action(
                after_s=grace_s + dice.uniform(3.0, 8.0),
                processor=processor,
                writes=True,
                status="success",
                times=times,
            )
        elif kind == "lost report":
            yield Action(after_s=at, processor=processor, writes=True)
        elif kind == "failed, then success":
            yield Action(after_s=at, processor=processor, status="failed")
            yield Action(after_s=at + 2.0, processor=processor, writes=True, status="success", run=2)
    if kind == "run again":
        yield Action(after_s=SPREAD_S + 2.0, processor=order[0], status="success", run=2)


def report_body(day: date, action: Action, rows: int) -> bytes:
    """The message of one report; *rows* is a number of its own, by which its entry in a history is recognised."""
    body: dict[str, Any] = {
        "processor": action.processor,
        "analysis_date": day.isoformat(),
        "status": action.status,
        "run_id": f"run-{action.run}",
        "completed_at": f"{day.isoformat()}T23:0{action.run}:00+00:00",
    }
    body |= {"row_count": rows} if action.status == "success" else {"error": "source table is empty"}
    return json.dumps(body).encode()


def draw_poison(dice: random.Random) -> bytes:
    """A message that can never become an event."""
    good: dict[str, Any] = {"processor": PROCESSORS[0], "analysis_date": "2025-01-10", "status": "success"}
    return dice.choice(
        (
            b"not json",
            b"\xff\xfe\x00",
            b"[" * 5000,
            json.dumps({**good, "analysis_date": "2025-02-30"}).encode(),
            json.dumps({**good, "analysis_date": "2025-01-10' OR 1=1"}).encode(),
            json.dumps({**good, "processor": "somebody_else"}).encode(),
            json.dumps({**good, "row_count": -5}).encode(),
            json.dumps({**good, "status": "perhaps"}).encode(),
            json.dumps({**good, "analysis_date": "9999-12-31"}).encode(),
            json.dumps({**good, "row_count": "1e309"}).encode(),
        )
    )
