"""Notices of the worker, and the observers of the notices: metrics, log lines, lineage events, the demo's screen.

Model: the worker calls `note` with a notice, one frozen class of the union `Notice`. An observer matches the classes
of interest and ignores all others. `note` is called on the thread of the event, so `note` must be quick.

Guarantees: an observer hears of a decision after the commit. An exception of an observer undoes no commit. A crash
between commit and notice loses the notice; records, history and outbox do not depend on notices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple, Protocol, TypeAlias

import structlog

from statemachine.decide import Decision
from statemachine.events import Event
from statemachine.model import DateRecord
from statemachine.reasons import Reason
from worker.features.model import BuildOutcome, BuildPhase
from worker.ports import OutgoingMessage

log = structlog.get_logger(__name__)

# A log line names a few of the entities left out; a query returns all of them.
LEFT_OUT_LOGGED_MAX = 50
FAULTS_LOGGED_MAX = 50
FINDINGS_LOGGED_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """One decision, stored if the decision changed the record.

    Attributes:
        before: The record before the decision.
        decision: The decision.
        event: The event.
        actor: The worker or the person behind the event.
        at: Instant of the decision. UTC.
        conflicts: Number of decisions before this decision that a faster commit of another writer made obsolete.
        sentence: The decision in one sentence, for history, log and screen.
    """

    before: DateRecord
    decision: Decision
    event: Event
    actor: str
    at: datetime
    conflicts: int
    sentence: str

    @property
    def routine(self) -> bool:
        """Whether the decision repeats without news: a renewed lease, or a probe that found no rows."""
        return self.decision.reason in {Reason.LEASE_RENEWED, Reason.STILL_MISSING}


class Received(NamedTuple):
    """A delivery was handled; *outcome* is the reason of the decision, or the way in which handling ended."""

    outcome: str
    processor: str
    seconds: float


class MessageParked(NamedTuple):
    """A message was parked."""

    reason: str
    detail: str


class DeadLetterTopicChecked(NamedTuple):
    """The dead-letter topic took a message, or refused a message with *fault*."""

    topic: str
    fault: str | None


class BuildEnded(NamedTuple):
    """A build ended, with or without a publication."""

    mode: str
    result: str
    seconds: float


class PhaseEnded(NamedTuple):
    """A phase of a build ended, with or without success."""

    phase: BuildPhase
    seconds: float


class BuildStep(NamedTuple):
    """A build begins a step."""

    analysis_date: date
    text: str


class BuildScored(NamedTuple):
    """A build was scored, and published or refused."""

    outcome: BuildOutcome


class SchemaChecked(NamedTuple):
    """The upstream tables were compared with the catalogue; *changed* if the faults differ from the last comparison."""

    faults: Sequence[str]
    changed: bool


class OutcomeRelayed(NamedTuple):
    """The relay published an outcome message; *confirmed* by the bus or not."""

    message: OutgoingMessage
    confirmed: bool


class ArrivalsWritten(NamedTuple):
    """A pass recorded *arrivals*; *waiting_s* is the time since the oldest deadline with unwritten arrivals."""

    arrivals: int
    waiting_s: float


class CallbackFailed(NamedTuple):
    """Handling a delivery raised an exception."""


class StreamOpened(NamedTuple):
    """The client opened the stream *times* more."""

    times: int


class StreamRecycled(NamedTuple):
    """A stream was replaced by a stream on a new connection."""

    reason: str


class StreamProbed(NamedTuple):
    """The second connection answered the question for messages."""

    answer: str


class PullingPaused(NamedTuple):
    """Pulling stopped because the store is away, or continues."""

    paused: bool


Notice: TypeAlias = (
    Decided
    | Received
    | MessageParked
    | DeadLetterTopicChecked
    | BuildEnded
    | PhaseEnded
    | BuildStep
    | BuildScored
    | SchemaChecked
    | OutcomeRelayed
    | ArrivalsWritten
    | CallbackFailed
    | StreamOpened
    | StreamRecycled
    | StreamProbed
    | PullingPaused
)


class Observer(Protocol):
    """Receives the notices of a worker."""

    def note(self, notice: Notice) -> None:
        """Handle the notices of interest, quickly; ignore all others."""


class Observers:
    """Several observers as a single observer; without an observer a sink that ignores every notice."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def note(self, notice: Notice) -> None:
        """Forward the notice to every observer."""
        for observer in self._observers:
            observer.note(notice)


class LogObserver:
    """Writes one canonical log line for each decision, and lines for builds and upstream tables."""

    def note(self, notice: Notice) -> None:
        """Write the log line of the notice."""
        match notice:
            case Decided():
                _log_decision(notice)
            case BuildStep(analysis_date=day, text=text):
                log.info("build_step", analysis_date=day.isoformat(), step=text)
            case BuildScored(outcome=outcome):
                _log_score(outcome)
            case BuildEnded(mode=mode, result=result, seconds=seconds):
                log.info("build_ended", mode=mode, result=result, duration_s=round(seconds, 3))
            case SchemaChecked(faults=faults, changed=True):
                _log_schema(faults)


def _log_decision(decided: Decided) -> None:
    """Log stored news, and a run too late for the publication, at info; all other decisions at debug."""
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
        detail=decided.sentence,
    )


def _log_score(outcome: BuildOutcome) -> None:
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
        findings=[
            f"{finding.severity} {finding.check} {finding.subject}" for finding in report.findings[:FINDINGS_LOGGED_MAX]
        ],
        left_out=[entity.key for entity in outcome.stats.left_out[:LEFT_OUT_LOGGED_MAX]],
        refused=outcome.message,
    )


def _log_schema(faults: Sequence[str]) -> None:
    if not faults:
        log.info("upstream_schema_matches")
        return
    log.error(
        "upstream_schema_drifted",
        faults=list(faults[:FAULTS_LOGGED_MAX]),
        fault_count=len(faults),
        next_step="repair upstream; until then a build leaves out what it cannot read and says so in its findings, or "
        "fails without the roster; afterwards: mlfs replay DATE",
    )
