"""A night to play: the four processors of the document's schedule, writing their tables and reporting them.

The schedule is data. `missing-processor` holds one processor back until after the deadline, `outage` all of them,
`no-data` takes Phase 3 away as well. A duplicate and a reordering belong to every night with events.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import time
from enum import StrEnum

P1 = "team_defense_zone_analysis"
P2 = "player_shot_zone_analysis"
P3 = "player_composite_factors"
P4 = "player_daily_cache"
PROCESSORS = (P1, P2, P3, P4)


class DemoScenario(StrEnum):
    """What kind of night to play."""

    NOMINAL = "nominal"
    MISSING_PROCESSOR = "missing-processor"
    OUTAGE = "outage"
    NO_DATA = "no-data"


class Act(StrEnum):
    """What happens at one moment of the night."""

    COMPLETE = "complete"
    """The processor writes its table and reports."""
    REPEAT = "repeat"
    """The bus delivers the processor's report a second time."""
    DEADLINE = "deadline"
    """Nothing arrives; the clock passes the deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One entry of the schedule, at a wall clock time of the analysis date."""

    at: time
    act: Act
    processor: str = ""


def _complete(hour: int, minute: int, processor: str) -> Moment:
    return Moment(at=time(hour, minute), act=Act.COMPLETE, processor=processor)


def _repeat(hour: int, minute: int, processor: str) -> Moment:
    return Moment(at=time(hour, minute), act=Act.REPEAT, processor=processor)


_DEADLINE = Moment(at=time(23, 25), act=Act.DEADLINE)

SCHEDULES: dict[DemoScenario, Sequence[Moment]] = {
    DemoScenario.NOMINAL: (
        _complete(23, 5, P1),
        _complete(23, 10, P2),
        # P1's report comes again, later than P2's: a duplicate and a reordering in one.
        _repeat(23, 11, P1),
        # P4 overtakes P3.
        _complete(23, 15, P4),
        _complete(23, 15, P3),
        _repeat(23, 16, P4),
    ),
    DemoScenario.MISSING_PROCESSOR: (
        _complete(23, 5, P1),
        _complete(23, 10, P2),
        _repeat(23, 11, P1),
        _complete(23, 15, P3),
        _DEADLINE,
        _complete(23, 40, P4),
    ),
    DemoScenario.OUTAGE: (_DEADLINE,),
    DemoScenario.NO_DATA: (_DEADLINE,),
}
