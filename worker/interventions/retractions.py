"""Runs that people take back: what a request means for a date, and the agreement of its record with the audit.

The audit in the warehouse remembers a retraction when the store does not. Before each build a retraction that only
the audit has (the store was lost, the bus delivered the run again) takes effect again. An attempt that cannot read the
audit does not build, so no table that was taken back is read after its row was written, whatever was lost in between.
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
    """Say which report a request is about.

    Args:
        day: The date.
        record: As stored; None for a date that was never opened.
        processor: Whose report.
        run_id: The run's id, or its identity as `mlfs explain` shows it; None for the one that counts now.
        processors: Those of the pipeline.

    Returns:
        The identity of the report that counts; of one that was taken back already where nothing else is meant.

    Raises:
        Refused: There is nothing to take back; says what to do instead.
    """
    if processor not in processors:
        raise Refused(f"{day}: {processor!r} is no processor of this pipeline; name one of {', '.join(processors)}")
    if record is None or not record.version:
        raise Refused(f"{day} was never opened, so {processor} has reported nothing; the dates there are: mlfs status")
    if record.failure is not None and record.failure.because == FailedBecause.CANCELLED:
        raise Refused(
            f"{day} was cancelled, nothing is built from any run of it; after the repair: "
            f"mlfs replay {day} --reason '…'"
        )
    known = record.completions.get(processor)
    before = [one.identity for one in record.retractions if one.processor == processor]
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
        raise Refused(f"{day}: {processor} {has}; there is nothing to take back. {instead}")
    if run_id is not None and known.identity not in wanted:
        raise Refused(
            f"{day}: {run_id} is not the run of {processor} that counts, {known.identity} is; see mlfs explain {day}, "
            f"then: mlfs retract {day} {processor} --run-id {known.identity.removeprefix('run:')} --reason '…'"
        )
    return known.identity


def restored(retraction: Retraction) -> CompletionRetracted:
    """Give the event by which a lost retraction takes effect again."""
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
    """A retraction of the audit that its date's record could not take.

    Attributes:
        analysis_date: Whose record.
        retraction: As the audit holds it.
        because: Why, with the date.
    """

    analysis_date: date
    retraction: Retraction
    because: str


class RetractionAudit:
    """Makes a date's record and the audit agree on what was taken back."""

    def __init__(self, engine: Engine, warehouse: Warehouse) -> None:
        self._engine = engine
        self._warehouse = warehouse

    def settle(self, record: DateRecord) -> DateRecord:
        """Apply the retractions that the record lost, and return the record as it is then.

        Raises:
            Unavailable: Store or warehouse could not serve; nothing may be built yet.
            Fatal: The audit table cannot be read.
        """
        day = record.analysis_date
        return self._restore(record, self.read(day, day).get(day, []))

    def read(self, first: date, last: date) -> Mapping[date, list[Retraction]]:
        """Give what the audit holds for the dates from *first* to *last*, oldest first."""
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
        """Apply what the audit holds for the dates and their records do not know; give what could not take effect.

        A damaged record is among that; once `Repair` has begun it anew, do this again. Whatever stays is logged, and no
        build of its date reads past it: `settle` stops each of them.

        Raises:
            Unavailable: Store or warehouse could not serve; repeating is safe.
            Conflict: Somebody else keeps changing a record; repeating is safe.
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
        """Say which retractions the audit holds and the records do not know; changes nothing."""
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
        """Let an audited retraction take effect again; a repeat changes nothing."""
        decision = self._engine.apply(day, restored(retraction))
        if decision.reason is Reason.RETRACTION_REFUSED:
            # More were audited over several lives of the record than one can hold.
            raise Fatal(
                f"{day}: {retraction.identity} of {retraction.processor} was taken back, and the record holds "
                f"{RETRACTIONS_MAX} retractions already; nothing is built for the date, since that table would be read"
            )
        return decision.record


def _is_among(retraction: Retraction, others: Sequence[Retraction]) -> bool:
    about = (retraction.processor, retraction.identity)
    return any((one.processor, one.identity) == about for one in others)
