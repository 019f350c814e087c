"""Brings one date back after its record was lost or damaged: from the ledger where it was published, else from anew.

What a rebuilt record no longer knows are the completions that had arrived. The tables are looked into, at the deadline
or, for a date restored as degraded, at once; a repeat from the bus is recorded as usual. So the date ends as it would
have.
"""

from contextlib import suppress
from datetime import date, timedelta
from enum import StrEnum

import structlog

from statemachine.decide import Decision
from statemachine.events import BuildCommitted, DateOpened, TimerFired
from statemachine.model import DateRecord
from worker.builds.builder import result_from_ledger
from worker.engine import Engine
from worker.errors import CorruptRecord, Fatal, Fenced, Unavailable
from worker.features.model import BuildKey, LedgerRow
from worker.ports import Clock, StateStore, Warehouse

log = structlog.get_logger(__name__)

# A generation is closed by a claim above every attempt that any life of the record, or a person, could make. Whoever
# does it does it under one name, so that closing twice is no quarrel.
CLOSING = "closing"
CLOSING_ATTEMPT = 2**31 - 1
# A denial may be a passing one; after this the date fails without the ledger, as nobody else can write to it either.
DENIED_FOR_GOOD_AFTER = timedelta(minutes=2)


class LedgerComparison(StrEnum):
    """How a record stands against the ledger."""

    AGREES = "agrees"
    UNKNOWN = "unknown"
    """The store has no record of the date."""
    BEHIND = "behind"
    """The store was restored from an old copy, or nobody has reported the commit yet."""
    DAMAGED = "damaged"


class Repair:
    """Sets damaged records aside and restores dates."""

    def __init__(self, *, engine: Engine, store: StateStore, clock: Clock, warehouse: Warehouse) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        self._warehouse = warehouse

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
            committed = self._warehouse.read_ledger(analysis_date)
        except (Unavailable, Fatal) as exc:
            # A deadline must not wait for the warehouse. A build that was published is not repeated under its own
            # number either way: the claim looks into the ledger again.
            log.warning("ledger_not_read", analysis_date=analysis_date.isoformat(), error=str(exc))
            return opened
        return self.follow(committed) or opened if committed is not None else opened

    def end_last_attempt(self, analysis_date: date) -> None:
        """End a generation that nobody builds any more: as published where the ledger says so, else as failed.

        The ledger is closed to the generation first, so that an attempt which fell silent cannot publish it once
        somebody was told that it failed. While the warehouse does not answer nothing is decided, and the next sweep
        asks again; while it denies the answer, for two minutes.

        Raises:
            Unavailable: The store does not answer; repeating is safe.
        """
        record = self._store.load(analysis_date)
        if record is None or record.lease is None:
            return
        ended_at = record.failure.at if record.failure is not None else record.lease.until_at
        try:
            committed = self._close(record)
        except (Unavailable, Fatal) as exc:
            log.warning("ledger_not_read", analysis_date=analysis_date.isoformat(), error=str(exc))
            if isinstance(exc, Unavailable) or self._clock.now() < ended_at + DENIED_FOR_GOOD_AFTER:
                return
            committed = None
        if committed is None or self.follow(committed) is None:
            self._engine.apply(analysis_date, TimerFired(closed_generation=record.generation))

    def _close(self, record: DateRecord) -> LedgerRow | None:
        """Claim what nobody builds, so that no attempt can publish; then give what the ledger holds for good."""
        key = BuildKey(analysis_date=record.analysis_date, generation=record.generation, attempt=CLOSING_ATTEMPT)
        with suppress(Fenced):  # committed, or closed already
            self._warehouse.claim(key, self._clock.now(), CLOSING)
        return self._warehouse.read_ledger(record.analysis_date)

    def follow(self, committed: LedgerRow) -> Decision | None:
        """Make the record agree with a ledger row; None when it does already, or is ahead.

        Raises:
            Unavailable: The store does not answer; repeating is safe.
        """
        if self._standing(committed) is LedgerComparison.AGREES:
            return None
        return self._engine.apply(
            committed.analysis_date, BuildCommitted(result=result_from_ledger(committed), found=True)
        )

    def unreported(self, analysis_date: date) -> BuildCommitted | None:
        """Return the ledger's commit that the record of the date does not know; None without one.

        None also where the ledger cannot be read: the claim of a build reads the ledger again.

        Raises:
            CorruptRecord: The record is unreadable.
            Unavailable: The store does not answer; repeating is safe.
        """
        try:
            committed = self._warehouse.read_ledger(analysis_date)
        except (Unavailable, Fatal) as exc:
            log.warning("ledger_not_read", analysis_date=analysis_date.isoformat(), error=str(exc))
            return None
        if committed is None or self._standing(committed) is LedgerComparison.AGREES:
            return None
        return BuildCommitted(result=result_from_ledger(committed), found=True)

    def standing(self, committed: LedgerRow) -> LedgerComparison:
        """Say how the date's record stands against its ledger row.

        Raises:
            Unavailable: The store does not answer; repeating is safe.
        """
        try:
            return self._standing(committed)
        except CorruptRecord:
            return LedgerComparison.DAMAGED

    def catch_up(self, committed: LedgerRow) -> Decision | None:
        """As `follow`, also for a damaged record: that one is set aside and begun anew.

        Raises:
            Unavailable: The store does not answer; repeating is safe.
        """
        try:
            return self.follow(committed)
        except CorruptRecord as exc:
            return self.replace_damaged(exc.analysis_date, str(exc))

    def _standing(self, committed: LedgerRow) -> LedgerComparison:
        record = self._store.load(committed.analysis_date)
        if record is None:
            return LedgerComparison.UNKNOWN
        ahead = committed.generation > record.published_generation
        return LedgerComparison.BEHIND if ahead else LedgerComparison.AGREES
