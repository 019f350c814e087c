"""What the four processors do in one night: on time, late, twice, never, with and without rows."""

import json
from dataclasses import replace
from datetime import date, datetime, timedelta
from random import Random

from tests.simulation.doubts import SHORT
from tests.simulation.plan import PROCESSORS, TONIGHT, Happening, Night, Schedule, at


def draw_night(schedule: Schedule, day: date, rng: Random) -> None:
    night = Night(day=day, phase3=rng.random() < 0.85, players=rng.choice((400, 400, 400, 450, 250, 150)))
    schedule.nights[day] = night
    # An old date's completions come tonight.
    evening = max(day, TONIGHT)
    shape = rng.random()
    if shape < 0.45:
        habits = ["on_time"] * 4
    elif shape < 0.5:
        habits = ["burst"] * 4
    elif shape < 0.58:
        habits = ["near"] * 4
    elif shape < 0.63:
        habits = ["none"] * 4
    else:
        habits = [rng.choice(HABITS) for _ in PROCESSORS]
    happenings: list[Happening] = []
    successes: list[datetime | None] = []
    burst = at(evening, 22, 5) + timedelta(seconds=rng.randrange(4800))
    for processor, habit in zip(PROCESSORS, habits, strict=True):
        made, complete_at = _habit(habit, day, evening, processor, burst, rng)
        happenings += made
        successes.append(complete_at)
    if None not in successes:
        night.complete_by = max(moment for moment in successes if moment is not None)
        night.doubted = any(happening.count == SHORT for happening in happenings)
    schedule.happenings += happenings
    if day > TONIGHT:
        schedule.end_at = at(day, 24, 40)


HABITS = (
    "on_time", "on_time", "on_time", "late", "too_late", "near", "lost", "none", "failed", "failed_then_late",
    "empty", "rows_late", "rerun", "no_run_id", "short", "short_then_whole",
)  # fmt: skip


def _habit(
    habit: str, day: date, evening: date, processor: str, burst: datetime, rng: Random
) -> tuple[list[Happening], datetime | None]:
    """What one processor does, and when its success with rows was sent if nothing is odd about it."""
    when = {
        "late": at(evening, 23, 26) + timedelta(seconds=rng.randrange(1200)),
        "too_late": at(evening, 23, 52) + timedelta(seconds=rng.randrange(1800)),
        "near": at(evening, 23, 25) + timedelta(seconds=rng.uniform(-10, 10)),
        "burst": burst + timedelta(seconds=rng.random()),
    }.get(habit, at(evening, 22, 5) + timedelta(seconds=rng.randrange(4500)))
    rows = Happening(at=when - timedelta(seconds=rng.randrange(1, 60)), kind="rows", night=day, processor=processor)
    rows_late = Happening(
        at=when + timedelta(seconds=rng.randrange(5, 600)), kind="rows", night=day, processor=processor
    )
    said = _event(day, processor, "success", when, rng, run=habit != "no_run_id")
    failed = _event(day, processor, "failed", when, rng)
    later = when + timedelta(seconds=rng.randrange(60, 1500))
    again = _event(day, processor, "success", later, rng)
    match habit:
        case "none":
            return [], None
        case "lost":
            return [rows], None
        case "failed":
            return [failed], None
        case "failed_then_late":
            return [failed, Happening(at=later, kind="rows", night=day, processor=processor), again], None
        case "empty":
            return [said], None
        case "rows_late":
            return [said, rows_late], None
        case "short":
            return [replace(rows, count=SHORT), said], None
        case "short_then_whole":
            return _short_then_whole(replace(rows, count=SHORT), said, again, rng)
        case "rerun":
            return [rows, said, again], when
        case _:
            return [rows, said], when


def _short_then_whole(
    rows: Happening, said: Happening, again: Happening, rng: Random
) -> tuple[list[Happening], datetime | None]:
    """A run that writes half of its rows, and a whole one; mostly while the build of the first may be at work."""
    if rng.random() < 0.7:
        assert said.night is not None
        again = success_of(said.night, said.processor, said.at + timedelta(seconds=rng.uniform(0.1, 15)), rng)
    whole = replace(rows, at=again.at - timedelta(milliseconds=50), count=0)
    return [rows, said, whole, again], again.at


def success_of(day: date, processor: str, when: datetime, rng: Random) -> Happening:
    """A success under a run id of its own."""
    return _event(day, processor, "success", when, rng)


def _event(day: date, processor: str, status: str, when: datetime, rng: Random, *, run: bool = True) -> Happening:
    body: dict[str, object] = {"processor": processor, "analysis_date": day.isoformat(), "status": status}
    if status == "success":
        body["row_count"] = 400
    if run:
        body["run_id"] = f"r{rng.randrange(10**6)}"
        body["completed_at"] = when.isoformat()
    return Happening(at=when, kind="event", night=day, processor=processor, body=json.dumps(body).encode())


def upgraded_night(rng: Random) -> tuple[Night, list[Happening]]:
    """A night whose last one or two successes come minutes after the deadline: a fallback, then an upgrade."""
    late_at = at(TONIGHT, 23, 27) + timedelta(seconds=rng.randrange(180))
    late_count = rng.choice((1, 1, 2))
    happenings = []
    for number, processor in enumerate(PROCESSORS):
        is_late = number < late_count
        when = late_at - timedelta(seconds=rng.random() * 20) if is_late else at(TONIGHT, 22, 10 + number)
        rows_at = when - timedelta(seconds=1)
        happenings.append(Happening(at=rows_at, kind="rows", night=TONIGHT, processor=processor))
        happenings.append(_event(TONIGHT, processor, "success", when, rng))
    return Night(day=TONIGHT, phase3=True, players=400, complete_by=late_at), happenings
