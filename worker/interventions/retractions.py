"""Retractions: the run named by a request, and the agreement of a record with the audit table.

The audit table in the warehouse keeps every retraction, also after a loss of the store. Before each build, retractions
unknown to the record are applied again: the store was lost, and the bus delivered the retracted run again.

Guarantee: after the audit row is written, no build reads the retracted table until another run succeeds. An attempt
that cannot read the audit table does not build. A crash between the audit row and the change of the record leaves the
retraction for the next build to apply.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import structlog

from statemachine.events import CompletionRetracted
from statemachine.model import RETRACTIONS_MAX, TERMINAL_STATES, DateRecord, FailedBecause, Retraction
from statemachine.reasons import Reason
from worker.engine import Engine
from worker.errors import Conflict, CorruptRecord, Fatal, Refused, Unavailable
from worker.features.model import Statement
from worker.features.records import read_retraction
from worker.ports import Warehouse

log = structlog.get_logger(__name__)


def identity_to_take_back(
    day: date, record: DateRecord | None, processor: str, run_id: str | None, processors: Sequence[str]
) -> str:
    """Return the identity of the run that a request retracts.

    Args:
        day: The analysis date.
        record: The stored record; None for a date that was never opened.
        processor: Processor of the run.
        run_id: The run's id, or the identity as shown by `mlfs explain`; None for the run that counts now.
        processors: Processors of the pipeline.

    Returns:
        The identity of the run that counts, or of a run retracted before if the request is a repeat.

    Raises:
        Refused: No run can be retracted; the message names the next step.
    """
    if processor not in processors:
        raise Refused(f"{day}: {processor!r} is no processor of this pipeline; name one of {', '.join(processors)}")
    if record is None or not record.version:
        raise Refused(f"{day} was never opened, so {processor} has no run; for the known dates: mlfs status")
    if record.failure is not None and record.failure.because == FailedBecause.CANCELLED:
        raise Refused(
            f"{day} was cancelled, so no build reads any run; after the repair: mlfs replay {day} --reason '…'"
        )
    known = record.completions.get(processor)
    before = [earlier.identity for earlier in record.retractions if earlier.processor == processor]
    wanted = {run_id, f"run:{run_id}"}
    if run_id is not None and (again := [identity for identity in before if identity in wanted]):
        return again[-1]
    if known is None and before and run_id is None:
        return before[-1]
    if known is None or not known.counts:
        has = "has not reported" if known is None else "reported a failure, which does not count"
        instead = (
            f"To build the date again: mlfs replay {day} --reason '…'"
            if record.state in TERMINAL_STATES
            else f"To keep the date from being built: mlfs cancel {day} --reason '…'"
        )
        raise Refused(f"{day}: {processor} {has}; no run can be taken back. {instead}")
    if run_id is not None and known.identity not in wanted:
        raise Refused(
            f"{day}: {run_id} is not the run of {processor} that counts, {known.identity} is; see mlfs explain {day}, "
            f"then: mlfs retract {day} {processor} --run-id {known.identity.removeprefix('run:')} --reason '…'"
        )
    return known.identity


def restored(retraction: Retraction) -> CompletionRetracted:
    """Return the event that applies a lost retraction again."""
    return CompletionRetracted(
        processor=retraction.processor,
        identity=retraction.identity,
        actor=retraction.actor,
        reason=retraction.reason,
        request_id=retraction.request_id,
        completed_at=retraction.completed_at,
        taken_back_at=retraction.at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrestored:
    """Retraction of the audit table that could not be applied to the record.

    Attributes:
        analysis_date: Analysis date of the record.
        retraction: The retraction from the audit table.
        because: Cause, with the analysis date.
    """

    analysis_date: date
    retraction: Retraction
    because: str


class RetractionAudit:
    """Applies the retractions of the audit table to the records."""

    def __init__(self, engine: Engine, warehouse: Warehouse) -> None:
        self._engine = engine
        self._warehouse = warehouse

    def settle(self, record: DateRecord) -> DateRecord:
        """Apply the retractions unknown to the record; return the record afterwards.

        Raises:
            Unavailable: Store or warehouse does not answer; no build may start yet.
            Fatal: The audit table cannot be read.
        """
        day = record.analysis_date
        return self._restore(record, self.read(day, day).get(day, []))

    def read(self, first: date, last: date) -> Mapping[date, list[Retraction]]:
        """Return the retractions of the audit table from *first* to *last* by analysis date, oldest first."""
        rows = self._warehouse.query(
            Statement(
                name="retractions",
                sql=self._warehouse.pipeline.text("retractions"),
                parameters={"first_date": first, "last_date": last},
            )
        )
        found: dict[date, list[Retraction]] = {}
        for row in rows:
            found.setdefault(row["analysis_date"], []).append(read_retraction(row))
        return found

    def restore_since(self, first: date, last: date) -> list[Unrestored]:
        """Apply the retractions of the audit table unknown to the records; return the retractions that failed.

        The retractions of a damaged record fail: call again after `Repair` has replaced the record. Each failure is
        logged, and `settle` stops every build of such an analysis date.

        Raises:
            Unavailable: Store or warehouse does not answer; repeating is safe.
            Conflict: Other writers keep changing a record; repeating is safe.
        """
        left = []
        for day, audited in self.read(first, last).items():
            for retraction in audited:
                try:
                    self._apply(day, retraction)
                except (CorruptRecord, Fatal) as exc:
                    left.append(Unrestored(analysis_date=day, retraction=retraction, because=str(exc)))
                    log.error(
                        "retraction_not_restored",
                        analysis_date=day.isoformat(),
                        processor=retraction.processor,
                        run=retraction.identity,
                        error=str(exc),
                    )
        return left

    def lost_since(self, first: date, last: date) -> list[tuple[date, Retraction]]:
        """Return the retractions of the audit table unknown to the records; change no record."""
        return [
            (day, retraction)
            for day, audited in self.read(first, last).items()
            for retraction in audited
            if self._is_lost(day, retraction)
        ]

    def _is_lost(self, day: date, retraction: Retraction) -> bool:
        try:
            return self._engine.preview(day, restored(retraction))[1].reason is not Reason.DUPLICATE
        except CorruptRecord:
            return True

    def _restore(self, record: DateRecord, audited: Sequence[Retraction]) -> DateRecord:
        for retraction in audited:
            if _is_among(retraction, record.retractions):
                continue
            try:
                record = self._apply(record.analysis_date, retraction)
            except Conflict as exc:
                raise Unavailable(str(exc)) from exc
        return record

    def _apply(self, day: date, retraction: Retraction) -> DateRecord:
        """Apply a retraction of the audit table again; a repeat changes no record."""
        decision = self._engine.apply(day, restored(retraction))
        if decision.reason is Reason.RETRACTION_REFUSED:
            # After losses of the record, the audit table may hold more retractions than a record can hold.
            raise Fatal(
                f"{day}: {retraction.identity} of {retraction.processor} was taken back, and the record holds "
                f"{RETRACTIONS_MAX} retractions already; no build starts, because the build would read the table"
            )
        return decision.record


def _is_among(retraction: Retraction, others: Sequence[Retraction]) -> bool:
    about = (retraction.processor, retraction.identity)
    return any((known.processor, known.identity) == about for known in others)
