"""Watching the worker: one set of hooks, for metrics, logs and the demo's screen."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import structlog

from statemachine.decide import Decision
from statemachine.events import Event
from statemachine.model import DateRecord
from statemachine.reasons import Reason
from worker.features.model import BuildOutcome, BuildPhase
from worker.history_text import narrate
from worker.ports import OutgoingMessage

log = structlog.get_logger(__name__)

# A log line names a few of those left out; the rest are a query away.
LEFT_OUT_LOGGED_MAX = 50
FAULTS_LOGGED_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """One decision that took effect.

    Attributes:
        before: The record it was decided on.
        decision: What was decided, and stored if it changed anything.
        event: What had happened.
        actor: Who caused it.
        at: Instant of the decision. UTC.
        conflicts: How often it was decided again because somebody else had been faster.
    """

    before: DateRecord
    decision: Decision
    event: Event
    actor: str
    at: datetime
    conflicts: int

    @property
    def routine(self) -> bool:
        """Whether this comes again and again and says nothing new: a renewed lease, a look that found nothing."""
        return self.decision.reason in {Reason.LEASE_RENEWED, Reason.STILL_MISSING}


class Observer:
    """Hooks that do nothing; a watcher overrides those it cares for. They must be quick and must not fail."""

    def decided(self, decided: Decided) -> None:
        """Note a decision of the engine."""

    def received(self, outcome: str, processor: str, seconds: float) -> None:
        """Note a delivery and how it ended."""

    def refused(self, reason: str, detail: str) -> None:
        """Note a parked message."""

    def dead_letter_topic(self, topic: str, fault: str | None) -> None:
        """Note whether the dead-letter topic takes messages; *fault* is None where the topic does."""

    def built(self, mode: str, result: str, seconds: float) -> None:
        """Note the end of a build."""

    def phase_ended(self, phase: BuildPhase, seconds: float) -> None:
        """Note how long a phase of a build took, whether it succeeded or not."""

    def step(self, analysis_date: date, text: str) -> None:
        """Note a step of a build."""

    def scored(self, outcome: BuildOutcome) -> None:
        """Note what a build that ran to its end was worth, published or not."""

    def schema_checked(self, faults: Sequence[str], *, changed: bool) -> None:
        """Note what upstream tables lack, and whether that is news since the last look."""

    def relayed(self, message: OutgoingMessage, message_id: str) -> None:
        """Note a confirmed publish of an outcome."""

    def relay_failed(self, message: OutgoingMessage, error: str) -> None:
        """Note an outcome whose publish was not confirmed."""


class StreamNotes:
    """Hooks that do nothing, for whoever counts what happens to the stream."""

    def callback_failed(self) -> None:
        """Note that a delivery's handling raised."""

    def stream_opened(self, times: int) -> None:
        """Note that the client opened the stream *times* more."""

    def stream_recycled(self, reason: str) -> None:
        """Note that a stream was replaced by one on a new connection."""

    def stream_probed(self, answer: str) -> None:
        """Note what the second connection found."""

    def pulling_paused(self, *, paused: bool) -> None:
        """Note that pulling stopped because the store is away, or goes on."""


class Observers(Observer):
    """Hands every note to several watchers."""

    def __init__(self, watchers: Sequence[Observer]) -> None:
        self._watchers = tuple(watchers)

    def decided(self, decided: Decided) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.decided(decided)

    def received(self, outcome: str, processor: str, seconds: float) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.received(outcome, processor, seconds)

    def refused(self, reason: str, detail: str) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.refused(reason, detail)

    def dead_letter_topic(self, topic: str, fault: str | None) -> None:
        """Forward the state of the dead-letter topic to every observer."""
        for watcher in self._watchers:
            watcher.dead_letter_topic(topic, fault)

    def built(self, mode: str, result: str, seconds: float) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.built(mode, result, seconds)

    def phase_ended(self, phase: BuildPhase, seconds: float) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.phase_ended(phase, seconds)

    def step(self, analysis_date: date, text: str) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.step(analysis_date, text)

    def scored(self, outcome: BuildOutcome) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.scored(outcome)

    def schema_checked(self, faults: Sequence[str], *, changed: bool) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.schema_checked(faults, changed=changed)

    def relayed(self, message: OutgoingMessage, message_id: str) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.relayed(message, message_id)

    def relay_failed(self, message: OutgoingMessage, error: str) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.relay_failed(message, error)


class LogObserver(Observer):
    """One canonical log line per decision."""

    def decided(self, decided: Decided) -> None:
        """Log at info a stored change and a run that came too late for what is published, everything else at debug."""
        decision, before = decided.decision, decided.before
        after = decision.record
        loud = decision.changed and not decided.routine
        loud = loud or (decision.reason is Reason.OUTDATED and before.result is not None)
        (log.info if loud else log.debug)(
            "decision",
            analysis_date=after.analysis_date.isoformat(),
            event_kind=decided.event.kind.value,
            before=before.state.value,
            state=after.state.value,
            reason=decision.reason.value,
            generation=after.generation,
            attempt=after.attempt,
            version=after.version,
            worker=decided.actor,
            detail=narrate(decided.event, before, decision),
        )

    def built(self, mode: str, result: str, seconds: float) -> None:
        """Log the end of a build."""
        log.info("build_ended", mode=mode, result=result, duration_s=round(seconds, 3))

    def scored(self, outcome: BuildOutcome) -> None:
        """Log what a build was worth, and whom it left out."""
        report, key = outcome.report, outcome.request.key
        log.info(
            "build_scored",
            analysis_date=key.analysis_date.isoformat(),
            build_id=key.build_id,
            row_count=report.row_count,
            quality_score=report.quality_score,
            components=dict(report.components),
            fallback_rate=report.fallback_rate,
            severity=report.severity,
            left_out=[entity.key for entity in outcome.stats.left_out[:LEFT_OUT_LOGGED_MAX]],
            refused=outcome.message,
        )

    def step(self, analysis_date: date, text: str) -> None:
        """Log a step of a build."""
        log.info("build_step", analysis_date=analysis_date.isoformat(), step=text)

    def schema_checked(self, faults: Sequence[str], *, changed: bool) -> None:
        """Log a change for better or worse, once."""
        if changed and faults:
            log.error(
                "upstream_schema_drifted",
                faults=list(faults[:FAULTS_LOGGED_MAX]),
                fault_count=len(faults),
                next_step="repair upstream; until then every build fails, afterwards: mlfs replay DATE",
            )
        elif changed:
            log.info("upstream_schema_matches")
