"""Restores an analysis date after the loss or damage of the record: from the ledger, or as a new record.

A restored record has no completions. A probe finds the rows of the lost completions, at the deadline or, for an
analysis date restored as degraded, at once; a repeat from the bus is recorded as usual. So the analysis date reaches
the same state as with the lost record.

A crash after the quarantine of a damaged record leaves no record; the next sweep restores the analysis date. A crash
after the closing claim leaves the ledger closed; the next sweep closes the generation again and then ends the
generation.
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

# A generation is closed by a ledger claim with the highest attempt number. The ledger then refuses the publication of
# every other attempt, by a worker or by a person. All workers use the same name for this claim, so that a second worker
# may close the generation again.
CLOSING = "closing"
CLOSING_ATTEMPT = 2**31 - 1
# Denied access to the ledger may end soon. After this time the analysis date fails without an answer of the ledger:
# while access is denied, no worker can publish.
DENIED_FOR_GOOD_AFTER = timedelta(minutes=2)


class LedgerComparison(StrEnum):
    """Result of the comparison of a record with the ledger row."""

    AGREES = "agrees"
    UNKNOWN = "unknown"
    """The store has no record of the analysis date."""
    BEHIND = "behind"
    """The store was restored from an old copy, or no worker has reported the commit yet."""
    DAMAGED = "damaged"


class Repair:
    """Quarantines damaged records and restores analysis dates.

    Every method raises `Unavailable` while the store does not answer; a repeat is safe.
    """

    def __init__(self, *, engine: Engine, store: StateStore, clock: Clock, warehouse: Warehouse) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        self._warehouse = warehouse

    def replace_damaged(self, analysis_date: date, error: str) -> Decision:
        """Quarantine the record of the analysis date and restore the analysis date."""
        log.error("record_quarantined", analysis_date=analysis_date.isoformat(), error=error)
        self._store.quarantine(analysis_date)
        return self.restore(analysis_date)

    def restore(self, analysis_date: date) -> Decision:
        """Open the analysis date and adopt the ledger's commit, if the ledger holds a commit."""
        opened = self._engine.apply(analysis_date, DateOpened())
        try:
            committed = self._warehouse.read_ledger(analysis_date)
        except (Unavailable, Fatal) as exc:
            # The deadline does not wait for the warehouse. A published generation is not built again under the same
            # number, because the claim reads the ledger again.
            log.warning("ledger_not_read", analysis_date=analysis_date.isoformat(), error=str(exc))
            return opened
        return self.follow(committed) or opened if committed is not None else opened

    def end_last_attempt(self, analysis_date: date) -> None:
        """End a generation without a running attempt: as published if the ledger holds the commit, otherwise as failed.

        The ledger is closed to the generation first, so that a silent attempt cannot publish after the failure was
        reported. While the warehouse does not answer, the generation does not end, and the next sweep tries again.
        While the warehouse denies access, the sweeps try for two minutes.
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
        """Close the generation in the ledger, then return the final ledger row."""
        key = BuildKey(analysis_date=record.analysis_date, generation=record.generation, attempt=CLOSING_ATTEMPT)
        with suppress(Fenced):  # the generation is committed or closed already
            self._warehouse.claim(key, self._clock.now(), CLOSING)
        return self._warehouse.read_ledger(record.analysis_date)

    def follow(self, committed: LedgerRow) -> Decision | None:
        """Store the commit of a ledger row in the record; return None if the record is as new or newer."""
        if self._standing(committed) is LedgerComparison.AGREES:
            return None
        return self._engine.apply(
            committed.analysis_date, BuildCommitted(result=result_from_ledger(committed), read_from_ledger=True)
        )

    def unreported(self, analysis_date: date) -> BuildCommitted | None:
        """Return the commit of the ledger if the record lacks the commit; otherwise None.

        Also return None if the ledger cannot be read: the claim of a build reads the ledger again.

        Raises:
            CorruptRecord: The record is unreadable.
        """
        try:
            committed = self._warehouse.read_ledger(analysis_date)
        except (Unavailable, Fatal) as exc:
            log.warning("ledger_not_read", analysis_date=analysis_date.isoformat(), error=str(exc))
            return None
        if committed is None or self._standing(committed) is LedgerComparison.AGREES:
            return None
        return BuildCommitted(result=result_from_ledger(committed), read_from_ledger=True)

    def standing(self, committed: LedgerRow) -> LedgerComparison:
        """Compare the record of the analysis date with the ledger row."""
        try:
            return self._standing(committed)
        except CorruptRecord:
            return LedgerComparison.DAMAGED

    def catch_up(self, committed: LedgerRow) -> Decision | None:
        """Store the commit like `follow`; replace a damaged record."""
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
