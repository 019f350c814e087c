"""What one seed means, as values: nights, happenings, chances. `drawing` draws them before anything runs."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
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
        doubted: Whether a run wrote fewer rows than its event claims; an upgrade may replace it.
    """

    day: date
    phase3: bool
    players: int
    complete_by: datetime | None = None
    doubted: bool = False


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
    deadline: str = "23:25"
    upgrade_cutoff: str = "23:50"
    optional: frozenset[str] = frozenset()
