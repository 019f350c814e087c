"""The way of a command to the door through which people change dates: one clock, one engine, one audit.

`Auditor` is the door of the commands and of HTTP. A command waits its turn where another process has the
warehouse file open. A dry run opens no part that is not there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from ops.arguments import actor, clock_of_changes, guest_engine
from statemachine.events import BuildCommitted
from worker.engine import Engine
from worker.errors import Refused
from worker.interventions.audit import Auditor
from worker.ports import Clock
from worker.repair import Repair
from worker.resources import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What a command needs to change a date.

    Attributes:
        who: Who asks.
        clock: The clock of every instant that the command stores.
        engine: Decides and stores.
        auditor: Plans; applies after the audit row is written.
        league_day: The league's calendar day by that clock.
        tonight: The analysis date that `tonight` names by that clock.
    """

    who: str
    clock: Clock
    engine: Engine
    auditor: Auditor
    league_day: date
    tonight: date


def open_door(parts: Resources) -> Door:
    """Open the way for the person who runs the command.

    Raises:
        Unavailable: The store does not answer.
    """
    who, clock = actor(), clock_of_changes(parts)
    engine = guest_engine(parts, who, clock)

    def log_replay(row: Mapping[str, Any]) -> None:
        parts.warehouse.log_replay(row)

    def unreported(day: date) -> BuildCommitted | None:
        try:
            warehouse = parts.warehouse
        except Refused:
            # A dry run where no warehouse file is: no ledger holds a commit.
            return None
        return Repair(engine=engine, store=parts.store, clock=clock, warehouse=warehouse).unreported(day)

    auditor = Auditor(engine=engine, log_replay=log_replay, clock=clock, unreported=unreported, tell=lambda _row: None)
    now, calendar = clock.now(), parts.settings.calendar
    return Door(
        who=who,
        clock=clock,
        engine=engine,
        auditor=auditor,
        league_day=calendar.league_day(now),
        tonight=calendar.tonight(now),
    )
