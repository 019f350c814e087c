"""Nights with late, failed, lost and missing reports: in a store, and in the tables that a worker writes beside."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from random import Random

from ops.reports.sources import ReportedDate
from statemachine.events import Event
from statemachine.model import FailureKind, State
from tests.support.generation_rows import publication_of, rows_select
from tests.support.nights import (
    CALENDAR,
    MINUTE,
    NIGHT,
    PROCESSORS,
    broke,
    claimed,
    committed,
    failure,
    probed,
    success,
)
from tests.support.rigs import Rig
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.features.model import BuildKey
from worker.features.records import execution_row
from worker.foresight.recording import ArrivalsWriter
from worker.observing.observer import Observers

# What a processor does on a night, and how often.
HABITS: Mapping[str, int] = {
    "in_time": 10,
    "late": 2,
    "after_the_cutoff": 1,
    "failed": 1,
    "failed_then_late": 1,
    "found": 1,
    "empty": 1,
    "missing": 2,
}
# The gate refuses every build of so many nights.
REFUSED_EVERY = 6
WITHOUT_ROWS = {"failed", "empty", "missing", "late", "after_the_cutoff", "failed_then_late"}


class ReportedSeason:
    """A store and a warehouse after *nights* nights from `NIGHT` on."""

    def __init__(self, seed: int, nights: int) -> None:
        self.rig = Rig()
        self.warehouse = DuckDbWarehouse(":memory:")
        self.warehouse.ensure_tables()
        self.nights = [NIGHT + timedelta(days=number) for number in range(nights)]
        rng = Random(seed)  # noqa: S311 - repeatable, not secret
        for night in self.nights:
            drawn = rng.choices([*HABITS], [*HABITS.values()], k=len(PROCESSORS))
            self._play(night, dict(zip(PROCESSORS, drawn, strict=True)))
        self.rig.clock.forward(timedelta(days=3))
        writer = ArrivalsWriter(
            store=self.rig.store,
            warehouse=self.warehouse,
            calendar=CALENDAR,
            clock=self.rig.clock,
            observer=Observers(),
        )
        while writer.write().dates:
            """The next pass takes the next nights."""

    def reported(self) -> list[ReportedDate]:
        return [
            ReportedDate(
                analysis_date=night,
                expected=True,
                record=self.rig.store.load(night),
                history=self.rig.store.history(night),
            )
            for night in self.nights
        ]

    def _play(self, night: date, habits: Mapping[str, str]) -> None:
        deadline, cutoff = (CALENDAR.at(night, clock) for clock in (CALENDAR.deadline, CALENDAR.upgrade_cutoff))
        rows = {name: 0 if habit in WITHOUT_ROWS else 400 for name, habit in habits.items()}
        evening = deadline - 25 * MINUTE
        self.rig.clock.instant = evening
        for name, habit in habits.items():
            if habit in {"failed", "failed_then_late"}:
                self._apply(night, failure(name, at=evening), rows)
            elif habit in {"in_time", "empty"}:
                self._apply(night, success(name, at=evening), rows)
        self.rig.clock.instant = deadline
        self._apply(night, probed(rows), rows)
        for minutes, late in ((10, {"late", "failed_then_late"}), (40, {"after_the_cutoff"})):
            self.rig.clock.instant = at = deadline + minutes * MINUTE
            for name, habit in habits.items():
                if habit in late:
                    rows[name] = 400
                    self._apply(night, success(name, run="2", at=at), rows)
        self.rig.clock.instant = cutoff + timedelta(hours=1)
        self._apply(night, probed(dict.fromkeys(PROCESSORS, 0)), rows)

    def _apply(self, night: date, event: Event, rows: Mapping[str, int]) -> None:
        """Apply the event; where a build is due, build at once, from as many rows as the tables hold now."""
        record = self.rig.engine.apply(night, event).record
        if record.state is not State.READY:
            return
        record = self.rig.engine.apply(night, claimed()).record
        key = BuildKey(analysis_date=night, generation=record.generation, attempt=record.attempt)
        made = publication_of(key)
        made = replace(made, stats=replace(made.stats, dependency_rows=dict(rows)))
        if night.toordinal() % REFUSED_EVERY == 0:
            self.warehouse.log_execution(
                execution_row(made.request, state=State.FAILED, completed_at=self.rig.clock.now(), error="refused")
            )
            self.rig.engine.apply(night, broke(FailureKind.GATE_REFUSED, key.generation))
            return
        self.warehouse.claim(key, self.rig.clock.now(), made.request.claimant)
        self.warehouse.stage(key, rows_select(key))
        self.warehouse.publish(made)
        state = State.DONE if all(rows.values()) else State.DEGRADED
        self.rig.engine.apply(night, committed(key.generation, state=state, rows=rows))
