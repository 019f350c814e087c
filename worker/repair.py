"""Brings one date back after its record was lost or damaged: from the ledger where it was published, else from anew.

What a rebuilt record no longer knows are the completions that had arrived. The deadline's probe finds their rows in
the tables, and a repeat from the bus is recorded as usual, so the date ends as it would have.
"""

from collections.abc import Callable
from datetime import date

import structlog

from statemachine.decide import Decision
from statemachine.events import BuildCommitted, DateOpened, TimerFired
from worker.builder import result_from_ledger
from worker.engine import Engine
from worker.errors import Fatal, Unavailable
from worker.features.model import LedgerRow
from worker.ports import StateStore

log = structlog.get_logger(__name__)


class Repair:
    """Sets damaged records aside and restores dates."""

    def __init__(self, *, engine: Engine, store: StateStore, read_ledger: Callable[[date], LedgerRow | None]) -> None:
        self._engine = engine
        self._store = store
        self._read_ledger = read_ledger

    def replace_damaged(self, analysis_date: date, error: str) -> Decision:
        """Quarantine the date's record and begin anew.

        Raises:
            Unavailable: The store does not answer; repeating is safe.
        """
        log.error("record_quarantined", analysis_date=analysis_date.isoformat(), error=error)
        self._store.quarantine(analysis_date)
        return self.restore(analysis_date)

    def restore(self, analysis_date: date) -> Decision:
        """Open the date, and let it follow the ledger where that holds a commit.

        Raises:
            Unavailable: The store does not answer; repeating is safe.
        """
        opened = self._engine.apply(analysis_date, DateOpened())
        try:
            committed = self._read_ledger(analysis_date)
        except (Unavailable, Fatal) as exc:
            # A deadline must not wait for the warehouse. A build that was published is not repeated under its own
            # number either way: the claim looks into the ledger again.
            log.warning("ledger_not_read", analysis_date=analysis_date.isoformat(), error=str(exc))
            return opened
        return self.follow(committed) or opened if committed is not None else opened

    def end_last_attempt(self, analysis_date: date) -> None:
        """End a generation whose last worker fell silent: as published where the ledger says so, else as failed.

        While the warehouse does not answer nothing is decided, and the next sweep asks again.

        Raises:
            Unavailable: The store does not answer; repeating is safe.
        """
        try:
            committed = self._read_ledger(analysis_date)
        except Unavailable as exc:
            log.warning("ledger_not_read", analysis_date=analysis_date.isoformat(), error=str(exc))
            return
        except Fatal as exc:
            log.error("ledger_not_read", analysis_date=analysis_date.isoformat(), error=str(exc))
            committed = None
        if committed is None or self.follow(committed) is None:
            self._engine.apply(analysis_date, TimerFired(probe={}))

    def follow(self, committed: LedgerRow) -> Decision | None:
        """Make the record agree with a ledger row; None when it does already, or is ahead.

        Raises:
            Unavailable: The store does not answer; repeating is safe.
        """
        record = self._store.load(committed.analysis_date)
        if record is not None and committed.generation <= max(record.published_generation, record.generation - 1):
            return None
        return self._engine.apply(committed.analysis_date, BuildCommitted(result=result_from_ledger(committed)))
