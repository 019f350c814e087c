"""Schedules of the played nights: when each of the four processors writes a table and publishes a completion.

A schedule is data. In `missing-processor` a processor comes after the deadline, in `outage` no processor comes, and in
`no-data` Phase 3 is empty, too. Every night with completions has a duplicate and a reordering.
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
    """Kind of night."""

    NOMINAL = "nominal"
    MISSING_PROCESSOR = "missing-processor"
    OUTAGE = "outage"
    NO_DATA = "no-data"


class Act(StrEnum):
    """Event at a moment of the night."""

    COMPLETE = "complete"
    """The processor writes the table and publishes a completion."""
    REPEAT = "repeat"
    """The bus delivers the completion a second time."""
    DEADLINE = "deadline"
    """No message arrives; the clock passes the deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Entry of the schedule, at a time of the analysis date in the league's zone."""

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
        # The completion of P1 comes again after the completion of P2: a duplicate and a reordering.
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
