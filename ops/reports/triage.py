"""Diagnosis of an analysis date: severity, symptoms, root cause of the pipeline document, next commands. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from ops.reports.sources import PROCESSORS, Row
from statemachine.evidence import publication_is_retracted, severity_of
from statemachine.model import (
    PUBLISHED_STATES,
    TERMINAL_STATES,
    BuildMode,
    CompletionStatus,
    DateRecord,
    FailedBecause,
    Policy,
    State,
)
from worker.observing.outbox import Untold

# A running worker claims within a tick. After a minute without a claim, no worker is running.
CLAIM_PATIENCE = timedelta(minutes=1)
# The same time as in the alert MlfsOutboxStuck.
OUTBOX_PATIENCE = timedelta(minutes=5)
RESPONSE: Mapping[str, str] = {
    "P0": "immediately; Phase 5 cannot predict",
    "P1": "within 2 hours; Phase 5's predictions are unreliable",
    "P2": "within 4 hours; predictions are acceptable but worse",
    "P3": "next business day; note it for the weekly review",
}
"""Source: the document's severity levels."""
# Severity of a publication from a retracted run: the rows are unreliable at any score.
UNRELIABLE = "P1"


class RootCause(StrEnum):
    """The document's root causes."""

    A = "A"
    """No Phase 4 table has rows: the cause lies before Phase 4."""
    B = "B"
    """Some Phase 4 tables have no rows: the processors of these tables failed."""
    C = "C"
    """All four tables have rows: the cause lies in the feature store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriageInput:
    """Facts about an analysis date for a diagnosis.

    Attributes:
        record: Record from the store.
        now: Instant of the diagnosis. UTC.
        policy: Rules of the pipeline.
        upstream: Present row counts by table; None if the tables cannot be read.
        untold: The newest outcome message in the outbox, None without a message.
    """

    record: DateRecord
    now: datetime
    policy: Policy
    upstream: Mapping[str, Row] | None
    untold: Untold | None = None

    @property
    def over(self) -> bool:
        """Whether the analysis date has ended or the deadline has passed."""
        return self.record.state in TERMINAL_STATES or self.now >= self.record.deadline_at

    def held_now(self, table: str) -> int | None:
        """Return the present number of rows of a table; None if the table cannot be read."""
        return self.upstream[table]["row_count"] if self.upstream is not None else None

    def held_at_build(self, processor: str) -> int | None:
        """Return the rows of the processor's table at the last publication; None without a publication."""
        return self.record.result.dependency_rows.get(processor, 0) if self.record.result else None

    def is_there(self, processor: str) -> bool:
        """Return whether the processor has rows: as read now, otherwise at the build, otherwise as reported.

        The rows of a retracted run do not count, because no build reads these rows.
        """
        if processor in self.record.ignored:
            return False
        held = self.held_now(processor)
        if held is None and not self._cannot_speak_for_now():
            held = self.held_at_build(processor)
        if held is None:
            return processor in self.record.counted
        return held > 0

    @property
    def untold_too_long(self) -> bool:
        """Whether the outcome message has waited in the outbox for longer than `OUTBOX_PATIENCE`."""
        since = self.untold.since if self.untold is not None else None
        return since is not None and self.now - since > OUTBOX_PATIENCE

    @property
    def published_is_retracted(self) -> bool:
        """Whether consumers read rows of a retracted run."""
        return publication_is_retracted(self.record)

    def _cannot_speak_for_now(self) -> bool:
        return self.record.published_generation < self.record.generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Result of a diagnosis.

    Attributes:
        severity: P0 to P3; None without a fault, or before the end of the analysis date.
        symptoms: A sentence for each symptom.
        scenario: The root cause; None without a root cause.
        why: Reason for the root cause.
        commands: Next commands in order, each with the purpose.
    """

    severity: str | None
    symptoms: tuple[str, ...]
    scenario: RootCause | None
    why: str
    commands: tuple[tuple[str, str], ...]


def diagnose(triage: TriageInput) -> Diagnosis:
    """Return the diagnosis of an analysis date."""
    severity = _severity(triage)
    idle = _idle_worker(triage)
    scenario, why = _scenario(triage) if severity else (None, _quiet(triage))
    return Diagnosis(
        severity=severity,
        symptoms=tuple(_symptoms(triage, idle)),
        scenario=scenario,
        why=why,
        commands=tuple(_commands(triage, severity, scenario, idle)),
    )


def _severity(triage: TriageInput) -> str | None:
    """Return the worst severity; None without a fault.

    A missing result after the deadline is P0, and so is an outcome message stuck in the outbox. Otherwise the severity
    is the severity of the published rows; rows of a retracted run are at least P1.
    """
    record = triage.record
    if triage.untold_too_long:
        return "P0"
    if record.result is None:
        return "P0" if triage.over else None
    earned = severity_of(record)
    return min(earned or UNRELIABLE, UNRELIABLE) if triage.published_is_retracted else earned


def _quiet(triage: TriageInput) -> str:
    """Return the reason for the absence of a severity."""
    if not triage.over:
        return f"it is not over: deadline {triage.record.deadline_at:%Y-%m-%d %H:%M}Z"
    if triage.untold is None:
        return "nothing is wrong with it"
    minutes = OUTBOX_PATIENCE.total_seconds() / 60
    return f"its outcome waits in the outbox; after {minutes:g} minutes there this is an incident"


def _idle_worker(triage: TriageInput) -> bool:
    record = triage.record
    due = record.wake_at is not None and triage.now - record.wake_at > CLAIM_PATIENCE
    return due and record.state in {State.WAITING, State.READY, State.RUNNING, State.FAILED}


def _symptoms(triage: TriageInput, idle: bool) -> Iterator[str]:
    record, result = triage.record, triage.record.result
    if record.state is State.FAILED and record.failure is not None:
        yield f"nothing was published for generation {record.generation}: {record.failure.because}: " + (
            record.failure.message
        )
    elif result is None:
        yield f"nothing is published; it is {record.state}"
    if result is not None:
        still = "" if record.published_generation == record.generation else ", which consumers still read"
        yield (
            f"generation {result.generation}{still}: {result.row_count} rows, score {result.quality_score:.1f}, "
            f"fallback {result.fallback_rate:.1%}, missing {result.missing_rate:.1%}"
        )
    if triage.untold is not None:
        since = "" if triage.untold.since is None else f" since {triage.untold.since:%Y-%m-%d %H:%M:%S}Z"
        why = triage.untold.error or "it waits in the outbox"
        yield f"the outcome of generation {triage.untold.generation} has not been told yet{since}: {why}"
    if idle:
        yield f"something has been due since {record.wake_at:%Y-%m-%d %H:%M:%S}Z and no worker does it"
    if triage.published_is_retracted:
        yield "consumers read rows of a run that was taken back"
    for processor in PROCESSORS:
        yield from _symptoms_of(triage, processor)


def _symptoms_of(triage: TriageInput, processor: str) -> Iterator[str]:
    completion = triage.record.completions.get(processor)
    at_build, now = triage.held_at_build(processor), triage.held_now(processor)
    if processor in triage.record.ignored:
        last = [retraction for retraction in triage.record.retractions if retraction.processor == processor][-1]
        yield f"{processor}: {last.actor} took back {last.identity} at {last.at:%Y-%m-%d %H:%M}Z: {last.reason}"
        return
    if completion is None:
        yield f"{processor} has rows, its event never came" if now or at_build else f"{processor} has not reported"
    elif completion.status is CompletionStatus.FAILED:
        yield f"{processor} reported failed: {completion.error or 'no reason given'}"
    elif completion.status is CompletionStatus.FOUND:
        yield f"{processor} has rows, its event never came"
    elif completion.received_at > triage.record.deadline_at:
        yield f"{processor} reported only at {completion.received_at:%Y-%m-%d %H:%M}Z, after the deadline"
    if at_build == 0 and now:
        yield f"{processor} had no rows at the build and has {now} now"
    elif now == 0 and completion is not None and completion.counts:
        yield f"{processor} reported success, and its table is empty"


def _scenario(triage: TriageInput) -> tuple[RootCause | None, str]:
    record = triage.record
    if record.state is State.FAILED and record.failure and record.failure.because == FailedBecause.CANCELLED:
        return None, "a person cancelled it; no root cause of the document applies"
    if triage.upstream is None and not record.version:
        return None, "no worker has opened it, and without the tables, which could not be read, the cause is unknown"
    if triage.untold_too_long and severity_of(record) is None:
        return None, "the date is built and published; the bus does not take the outcome message"
    absent = [name for name in PROCESSORS if not triage.is_there(name)]
    source = "" if triage.upstream is not None else " (by build and events; the tables could not be read)"
    rows = "rows that count" if record.ignored else "rows"
    if len(absent) == len(PROCESSORS):
        return RootCause.A, f"none of the four Phase 4 tables has {rows}{source}: the cause lies in Phase 3 or before"
    if absent:
        return RootCause.B, f"{len(absent)} of the four Phase 4 tables without {rows}{source}: {', '.join(absent)}"
    return RootCause.C, f"all four Phase 4 tables have rows{source}: {_own_fault(triage)}"


def _own_fault(triage: TriageInput) -> str:
    record = triage.record
    if record.state is State.FAILED and record.failure is not None:
        return f"the build itself failed, {record.failure.because}"
    if record.result is None:
        return "it was not built"
    if triage.published_is_retracted:
        return "it was built from a run that was taken back"
    if record.mode is not BuildMode.NORMAL:
        return f"it was built as {record.mode}, by {record.requested_by or 'an unknown actor'}"
    empty = [name for name in PROCESSORS if triage.held_at_build(name) == 0]
    if empty:
        return f"those of {', '.join(empty)} came after the build"
    return "the rows do not cover enough of the active players"


def _commands(
    triage: TriageInput,
    severity: str | None,
    scenario: RootCause | None,
    idle: bool,
) -> Iterator[tuple[str, str]]:
    yield from _first_commands(triage, severity, idle)
    if severity is None:
        return
    day = triage.record.analysis_date
    if triage.published_is_retracted and triage.record.ignored and triage.record.state in TERMINAL_STATES:
        yield f"mlfs replay {day} --reason 'without what was taken back' --wait 300", "at once, without those tables"
    match scenario:
        case RootCause.A:
            yield from _when_all_failed(triage)
        case RootCause.B:
            yield from _when_some_failed(triage)
        case RootCause.C:
            yield "mlfs doctor", "store, bus, tables, permissions"
            yield f"mlfs replay {day} --reason 'incident' --wait 300", "build it again"
        case None if triage.record.state in PUBLISHED_STATES:
            return
        case None:
            yield f"mlfs replay {day} --reason '…'", "to build it after all"


def _first_commands(triage: TriageInput, severity: str | None, idle: bool) -> Iterator[tuple[str, str]]:
    day = triage.record.analysis_date
    if triage.untold_too_long:
        yield "mlfs doctor", "what the bus needs; a worker publishes the outcome as soon as the bus takes it"
    if idle:
        yield "mlfs run", "no worker fires the due timer; see also: mlfs doctor"
    if not triage.record.version:
        # `mlfs explain` and `mlfs history` refuse an analysis date without a record.
        if not idle:
            yield "mlfs doctor", "why no worker has opened the date; a running worker opens the date: mlfs run"
    elif severity is None:
        yield f"mlfs explain {day}", "what happens next"
    else:
        yield f"mlfs history {day}", "what happened, step by step"


def _when_some_failed(triage: TriageInput) -> Iterator[tuple[str, str]]:
    day = triage.record.analysis_date
    absent = [name for name in PROCESSORS if not triage.is_there(name)]
    for name in absent:
        taken_back = name in triage.record.ignored
        cause = "another run counts again" if taken_back else "its log says why it failed"
        yield f"# run {name} again for {day}", f"with its owner; {cause}"
    if triage.record.state in {State.DEGRADED, State.DONE} and triage.now < triage.record.upgrade_cutoff_at:
        cutoff = triage.record.upgrade_cutoff_at
        yield (
            f"mlfs explain {day}",
            f"its success before {cutoff:%Y-%m-%d %H:%M}Z builds the date again by itself",
        )
    yield f"mlfs replay {day} --reason 'repaired {', '.join(absent)}' --wait 300", "after the repair"


def _when_all_failed(triage: TriageInput) -> Iterator[tuple[str, str]]:
    day = triage.record.analysis_date
    phase3, players = triage.held_now("player_game_summary"), triage.held_now("nbac_player_list")
    if players == 0:
        yield f"# load nba_raw.nbac_player_list for {day}", "no active players, so nothing can be built"
    yield "# tell the owners of Phase 3 and Phase 2", "all four processors failed together"
    yield f"mlfs replay {day} --reason 'Phase 4 is back' --wait 300", "once they have run"
    if triage.record.result is None and phase3 != 0:
        found = "" if phase3 is None else f"; {phase3} rows of Phase 3 are there"
        yield f"mlfs replay {day} --force-phase3-fallback --reason 'no Phase 4' --wait 300", f"until then{found}"
    if triage.record.result is None:
        yield f"mlfs replay {day} --source yesterday --reason 'last resort'", "the last resort: stale, marked as such"
