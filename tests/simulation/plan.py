"""What one seed means: which nights there are, what the processors do, what breaks and when. Drawn before anything runs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from random import Random
from zoneinfo import ZoneInfo

from statemachine.model import BuildMode, OnRerun, OnUpstreamFailure

ZONE = ZoneInfo("America/New_York")
TONIGHT = date(2024, 12, 15)
PROCESSORS = (
    "team_defense_zone_analysis",
    "player_shot_zone_analysis",
    "player_composite_factors",
    "player_daily_cache",
)
START = datetime(2024, 12, 16, 3, 0, tzinfo=UTC)  # 22:00 in New York
HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)


def at(day: date, hour: int, minute: int) -> datetime:
    """The UTC instant of a wall clock time in New York; hours from 24 on belong to the next morning."""
    return datetime.combine(day, time(0), ZONE).astimezone(UTC) + timedelta(hours=hour, minutes=minute)


class Mode(StrEnum):
    SAFETY = "safety"
    """Faults to the very end; what must never happen does not happen."""
    LIVENESS = "liveness"
    """All faults end at some point; then everything must come to its end, and to the right one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One thing the outside does at an instant: `kind` says what, the rest is its argument."""

    at: datetime
    kind: str
    night: date | None = None
    processor: str = ""
    count: int = 0
    body: bytes = b""
    span: timedelta = timedelta()
    build_mode: BuildMode = BuildMode.NORMAL


@dataclass(slots=True, kw_only=True)
class Intensity:
    """Chances per call of the product to the outside."""

    crash: float = 0.0
    unavailable_before: float = 0.0
    unavailable_after: float = 0.0
    fatal: float = 0.0
    preempt: float = 0.0
    duplicate: float = 0.0
    ack_lost: float = 0.0
    slow_build: float = 0.0
    delay_max: timedelta = SECOND


@dataclass(slots=True, kw_only=True)
class Night:
    """One analysis date of the schedule.

    Attributes:
        complete_by: When the last of four successes, each with its rows, was sent; None where that never happened.
        phase3: Whether Phase 3 has every player.
        players: Active players.
    """

    day: date
    phase3: bool
    players: int
    complete_by: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Schedule:
    """All of one seed."""

    seed: int
    mode: Mode
    workers: int
    build_threads: int
    on_upstream_failure: OnUpstreamFailure
    rerun: OnRerun
    drain_grace: timedelta
    first_start: datetime
    intensity: Intensity
    heal_at: datetime
    end_at: datetime
    nights: dict[date, Night] = field(default_factory=dict)
    happenings: list[Happening] = field(default_factory=list)
    calm: bool = False
    skews: bool = False


def draw(seed: int) -> Schedule:
    """Draw the schedule of a seed."""
    rng = Random(seed)
    calm = rng.random() < 0.15
    heal_at = at(TONIGHT, 22, 20) + timedelta(seconds=rng.randrange(0, 2 * 3600))
    schedule = Schedule(
        seed=seed,
        mode=Mode.LIVENESS if calm or rng.random() < 0.7 else Mode.SAFETY,
        workers=rng.choice((2, 2, 3, 4)),
        build_threads=rng.choice((1, 1, 2)),
        on_upstream_failure=rng.choice(
            (OnUpstreamFailure.WAIT, OnUpstreamFailure.WAIT, OnUpstreamFailure.FALLBACK_NOW)
        ),
        rerun=rng.choice((OnRerun.HOLD, OnRerun.HOLD, OnRerun.REBUILD)),
        drain_grace=timedelta(seconds=rng.choice((0, 10, 20, 30))),
        first_start=START,
        intensity=Intensity() if calm else _intensity(rng),
        heal_at=heal_at,
        end_at=at(TONIGHT, 24, 40),
        calm=calm,
        skews=rng.random() < 0.5,
    )
    for day in _days(rng):
        _draw_night(schedule, day, rng)
    if rng.random() < 0.2:
        schedule.happenings += _poison(rng)
    if not calm:
        schedule.happenings += _disasters(schedule, rng)
        schedule.happenings += _people(schedule, rng)
    schedule.happenings.append(Happening(at=at(TONIGHT, 24, 0), kind="midnight"))
    schedule.happenings.sort(key=lambda happening: happening.at)
    return schedule


def _intensity(rng: Random) -> Intensity:
    """Few kinds of faults at a time, so that each also meets a world that otherwise works."""
    scale = rng.choice((0.002, 0.01, 0.03))

    def sometimes(value: float) -> float:
        return value if rng.random() < 0.4 else 0.0

    return Intensity(
        crash=sometimes(scale),
        unavailable_before=sometimes(scale),
        unavailable_after=sometimes(scale),
        fatal=sometimes(scale / 10),
        preempt=sometimes(scale * 4),
        duplicate=sometimes(0.2),
        ack_lost=sometimes(0.2),
        slow_build=sometimes(0.5),
        delay_max=rng.choice((SECOND, 20 * SECOND, 5 * MINUTE)),
    )


def _days(rng: Random) -> list[date]:
    """Tonight, and now and then tomorrow or an old date that somebody sends again."""
    days = [TONIGHT]
    if rng.random() < 0.25:
        days.append(TONIGHT - timedelta(days=rng.randrange(1, 6)))
    if rng.random() < 0.08:
        days.append(TONIGHT + timedelta(days=1))
    return days


# --- what the processors do ------------------------------------------------------------------------------------------


def _draw_night(schedule: Schedule, day: date, rng: Random) -> None:
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
    schedule.happenings += happenings
    if day > TONIGHT:
        schedule.end_at = at(day, 24, 40)


HABITS = (
    "on_time", "on_time", "on_time", "late", "too_late", "near", "lost", "none", "failed", "failed_then_late",
    "empty", "rows_late", "rerun", "no_run_id",
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
        case "rerun":
            return [rows, said, again], when
        case _:
            return [rows, said], when


def _event(day: date, processor: str, status: str, when: datetime, rng: Random, *, run: bool = True) -> Happening:
    body: dict[str, object] = {"processor": processor, "analysis_date": day.isoformat(), "status": status}
    if status == "success":
        body["row_count"] = 400
    if run:
        body["run_id"] = f"r{rng.randrange(10**6)}"
        body["completed_at"] = when.isoformat()
    return Happening(at=when, kind="event", night=day, processor=processor, body=json.dumps(body).encode())


def _poison(rng: Random) -> list[Happening]:
    bodies = (
        b"not json",
        b"[]",
        b'{"processor": "player_daily_cache", "analysis_date": "2024-12-15", "status": "found"}',
        b'{"processor": "somebody_else", "analysis_date": "2024-12-15", "status": "success"}',
        b'{"processor": "player_daily_cache", "analysis_date": "2024-13-45", "status": "success"}',
        b'{"processor": "player_daily_cache", "analysis_date": "2034-12-15", "status": "success"}',
        b'{"processor": "player_daily_cache", "analysis_date": 20241215, "status": "success"}',
        b"\xff\xfe",
        b"x" * 70_000,
    )
    return [
        Happening(at=START + timedelta(seconds=rng.randrange(7000)), kind="poison", body=rng.choice(bodies))
        for _ in range(rng.randrange(1, 4))
    ]


# --- what breaks, and what people do ---------------------------------------------------------------------------------

DISASTERS = (
    "store_away", "warehouse_away", "bus_away", "wipe", "snapshot_restore", "damage", "expire", "crash", "freeze",
    "freeze", "downtime", "restart_all",
)  # fmt: skip


def _disasters(schedule: Schedule, rng: Random) -> Iterator[Happening]:
    """Up to three at chosen moments; half of them where it hurts, around the deadline or around an event."""
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        kind = rng.choice(DISASTERS)
        if rng.random() < 0.03:
            kind = "clock_jump"
        moment = START + timedelta(seconds=rng.randrange(7500))
        if rng.random() < 0.6 and schedule.happenings:
            moment = rng.choice(schedule.happenings).at + timedelta(seconds=rng.choice((-30, -1, 0, 1, 2, 5, 30, 70)))
        elif rng.random() < 0.5:
            moment = at(TONIGHT, 23, 25) + timedelta(seconds=rng.randrange(-60, 120))
        moment = max(moment, START + SECOND)
        span = timedelta(seconds=rng.choice((3, 20, 61, 130, 400, 1800)))
        night = rng.choice(list(schedule.nights))
        yield Happening(at=moment, kind=kind, span=span, night=night, count=rng.randrange(10**6))


def _people(schedule: Schedule, rng: Random) -> Iterator[Happening]:
    if rng.random() > 0.15:
        return
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.choice(("replay", "replay", "take_over", "cancel"))
        mode = rng.choice((BuildMode.NORMAL, BuildMode.NORMAL, BuildMode.FORCED_FALLBACK, BuildMode.YESTERDAY))
        moment = START + timedelta(seconds=rng.randrange(7000))
        if rng.random() < 0.6 and schedule.happenings:
            moment = rng.choice(schedule.happenings).at + timedelta(seconds=rng.choice((0, 1, 2, 5, 90)))
        night = rng.choice(list(schedule.nights))
        yield Happening(at=max(moment, START), kind=kind, night=night, build_mode=mode)
