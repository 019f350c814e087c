"""Load, decide, commit: every change of an analysis date takes these steps.

Guarantees: a change is stored whole or not at all. Of two workers with a decision on the same version a single worker
commits; the other worker decides again on the new record. A commit with a lost reply is recognised. A crash before the
commit leaves the old state. A crash after the commit leaves record, wake index entry, messages and history.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import structlog
from opentelemetry.trace import Tracer

from schemas.outcome import outcome_message
from statemachine.decide import Decision, decide
from statemachine.decision import PublishOutcome, StartBuild
from statemachine.events import BuildCommitted, Event
from statemachine.invariants import change_violations
from statemachine.model import TERMINAL_STATES, DateRecord, Policy, State
from statemachine.reasons import Reason
from worker.calendar import Calendar
from worker.errors import Conflict, InvariantBroken
from worker.history_text import narrate
from worker.observing.observer import Decided, Observer
from worker.observing.tracing import NO_SPANS, applying, trace_attributes
from worker.ports import Clock, Commit, HistoryEntry, OutgoingMessage, StateStore

log = structlog.get_logger(__name__)

# At most four writers change the same analysis date at the same time, so eight tries are enough.
COMMIT_TRIES_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Topics of the outcome messages: a subscriber of the success topic receives no failure (ADR 0003)."""

    success: str
    failure: str


class Engine:
    """Applies events to analysis dates."""

    def __init__(  # noqa: PLR0913 - one collaborator each
        self,
        *,
        store: StateStore,
        policy: Policy,
        calendar: Calendar,
        clock: Clock,
        pipeline: str,
        topics: Topics,
        worker: str,
        keep_finished: timedelta | None,
        start_build: Callable[[date], None],
        outbox_filled: Callable[[], None],
        observer: Observer,
        tracer: Tracer = NO_SPANS,
    ) -> None:
        self._store = store
        self._policy = policy
        self._calendar = calendar
        self._clock = clock
        self._pipeline = pipeline
        self._topics = topics
        self._worker = worker
        self._keep_finished = keep_finished
        self._start_build = start_build
        self._outbox_filled = outbox_filled
        self._observer = observer
        self._tracer = tracer

    def apply(self, analysis_date: date, event: Event, *, actor: str | None = None) -> Decision:
        """Decide on *event* and store the decision.

        Args:
            analysis_date: The analysis date of the event.
            event: The event.
            actor: Worker or person behind the event, for the history; this worker by default.

        Returns:
            The stored decision.

        Raises:
            Unavailable: The store does not answer. The change was stored whole or not at all; applying again is safe.
            Conflict: Other writers changed the analysis date at each try; apply again later.
            CorruptRecord: The stored record is unreadable.
            InvariantBroken: The decision would break an invariant, a bug; no change was stored.
        """
        with applying(self._tracer, analysis_date, event) as span:
            decision = self._apply(analysis_date, event, actor or self._worker)
            span.set_attributes(
                {
                    "mlfs.reason": decision.reason.value,
                    "mlfs.state": decision.record.state.value,
                    "mlfs.generation": decision.record.generation,
                    "mlfs.changed": decision.changed,
                }
            )
        return decision

    def _apply(self, analysis_date: date, event: Event, actor: str) -> Decision:
        for conflicts in range(COMMIT_TRIES_MAX):
            now = self._clock.now()
            before = self._store.load(analysis_date) or self._calendar.fresh_record(analysis_date, now)
            decided = self._decide(before, event, now, actor, conflicts)
            decision = decided.decision
            if not decision.changed:
                # The caller will acknowledge a message stored by an earlier delivery. Wait until the earlier write is
                # as durable as a commit.
                self._store.barrier()
            if not decision.changed or self._store_change(decided):
                self._announce(decided)
                return decision
        raise Conflict(
            f"{analysis_date}: other writers changed the date {COMMIT_TRIES_MAX} times in a row; apply the event again"
        )

    def _decide(self, before: DateRecord, event: Event, now: datetime, actor: str, conflicts: int = 0) -> Decided:
        decision = decide(before, event, now=now, policy=self._policy)
        broken = change_violations(before, decision.record, self._policy) if decision.changed else ()
        if broken:
            raise InvariantBroken(f"{before.analysis_date}: {decision.reason} would break {', '.join(broken)}")
        return Decided(
            before=before,
            decision=decision,
            event=event,
            actor=actor,
            at=now,
            conflicts=conflicts,
            sentence=narrate(event, before, decision, self._policy),
        )

    def apply_all(self, happened: Sequence[tuple[date, Event]]) -> Sequence[Decision | None]:
        """Decide on several events and store the changes in a single trip; events of the same date keep their order.

        Args:
            happened: Each event with the analysis date.

        Returns:
            For each event the stored decision. None for an event without a stored decision: another writer changed the
            analysis date, the record is unreadable, or the decision would break an invariant. `apply` such an event
            alone: `apply` raises the error.

        Raises:
            Unavailable: The store does not answer. Some changes may be stored; applying again is safe.
        """
        now = self._clock.now()
        records = dict(self._store.load_all(list(dict.fromkeys(day for day, _event in happened))))
        decided = [self._decide_next(records, day, event, now) for day, event in happened]
        commits = {place: commit for place, (_what, commit) in enumerate(decided) if commit is not None}
        stored = dict(zip(commits, self._store.commit_all(list(commits.values())), strict=True))
        if any(what is not None and not what.decision.changed for what, _commit in decided):
            self._store.barrier()
        lost: set[date] = set()
        decisions: list[Decision | None] = []
        for place, (day, _event) in enumerate(happened):
            what = decided[place][0]
            # A decision on a record that was not stored is void.
            if what is None or day in lost or not stored.get(place, True):
                lost.add(day)
                decisions.append(None)
                continue
            self._announce(what)
            decisions.append(what.decision)
        return decisions

    def _decide_next(
        self, records: dict[date, DateRecord | None], day: date, event: Event, now: datetime
    ) -> tuple[Decided | None, Commit | None]:
        """Decide on the record in *records*; replace the record there for the next event of the analysis date."""
        if day not in records:
            return None, None
        try:
            before = records[day] or self._calendar.fresh_record(day, now)
            decided = self._decide(before, event, now, self._worker)
            if not decided.decision.changed:
                return decided, None
            commit = self._commit_of(decided)
        except Exception:  # noqa: BLE001 - `apply` raises the same exception for this event alone
            del records[day]
            return None, None
        records[day] = replace(commit.record, revision=commit.operation_id)
        return decided, commit

    def preview(
        self, analysis_date: date, event: Event, *, after: BuildCommitted | None = None
    ) -> tuple[DateRecord, Decision]:
        """Return the record and the decision on *event*; store no change.

        Args:
            analysis_date: The analysis date.
            event: The event.
            after: A commit to apply before the event.
        """
        now = self._clock.now()
        before = self._store.load(analysis_date) or self._calendar.fresh_record(analysis_date, now)
        if after is not None:
            before = decide(before, after, now=now, policy=self._policy).record
        return before, decide(before, event, now=now, policy=self._policy)

    def _store_change(self, decided: Decided) -> bool:
        """Store the change whole; of a renewed lease store the end of the lease alone."""
        lease = decided.decision.record.lease
        if decided.decision.reason is Reason.LEASE_RENEWED and lease is not None:
            return self._store.renew(decided.before, lease.until_at, uuid.uuid4().hex)
        return self._store.commit(self._commit_of(decided))

    def _commit_of(self, decided: Decided) -> Commit:
        after, effects = decided.decision.record, decided.decision.effects
        finished = after.state in TERMINAL_STATES and after.wake_at is None
        expires = self._keep_finished if finished else None
        return Commit(
            record=after,
            operation_id=uuid.uuid4().hex,
            messages=[self._outgoing(effect) for effect in effects if isinstance(effect, PublishOutcome)],
            history=None if decided.routine else _history_entry(decided),
            expires_after_s=None if expires is None else int(expires.total_seconds()),
        )

    def _outgoing(self, effect: PublishOutcome) -> OutgoingMessage:
        outcome = outcome_message(effect, self._pipeline)
        day = outcome.analysis_date.isoformat()
        return OutgoingMessage(
            event_id=outcome.event_id,
            topic=self._topics.failure if outcome.state is State.FAILED else self._topics.success,
            data=outcome.model_dump_json().encode(),
            attributes={
                "processor": outcome.processor,
                "analysis_date": day,
                "state": outcome.state.value,
                "generation": str(outcome.generation),
                "event_id": outcome.event_id,
                "schema_version": str(outcome.schema_version),
                **trace_attributes(),
            },
            ordering_key=day,
        )

    def _announce(self, decided: Decided) -> None:
        try:
            self._observer.note(decided)
        except Exception:
            # The decision is stored, so the effects follow and the message is acknowledged.
            log.exception("decision_not_observed", analysis_date=decided.decision.record.analysis_date.isoformat())
        for effect in decided.decision.effects:
            if isinstance(effect, StartBuild):
                self._start_build(effect.analysis_date)
            else:
                self._outbox_filled()


def _history_entry(decided: Decided) -> HistoryEntry:
    after = decided.decision.record
    return HistoryEntry(
        at=decided.at,
        event=decided.event.kind,
        before=decided.before.state if decided.before.version else "",
        after=after.state,
        reason=decided.decision.reason,
        generation=after.generation,
        attempt=after.attempt,
        actor=decided.actor,
        detail=decided.sentence,
    )
