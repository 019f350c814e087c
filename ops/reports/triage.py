"""What is wrong with a night, which of the document's root causes it looks like, and what to do next. Pure."""

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

# A worker claims within a tick; a minute later none is running.
CLAIM_PATIENCE = timedelta(minutes=1)
# As the alert MlfsOutboxStuck has it.
OUTBOX_PATIENCE = timedelta(minutes=5)
RESPONSE: Mapping[str, str] = {
    "P0": "immediately; Phase 5 cannot predict",
    "P1": "within 2 hours; Phase 5's predictions are unreliable",
    "P2": "within 4 hours; predictions are acceptable but worse",
    "P3": "next business day; note it for the weekly review",
}
"""Source: the document's severity levels."""
# Rows that a person has called wrong are what the document calls unreliable, whatever they scored.
UNRELIABLE = "P1"


class RootCause(StrEnum):
    """The document's root causes."""

    A = "A"
    """No Phase 4 table has rows: the cause lies before Phase 4."""
    B = "B"
    """Some Phase 4 tables have no rows: those processors failed."""
    C = "C"
    """All four have rows: the feature store itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriageInput:
    """What is known of a night when it is looked at.

    Attributes:
        record: As the store has it.
        now: Instant of the look. UTC.
        policy: The pipeline's rules.
        upstream: What the tables hold now, by table; None where they could not be read.
        untold: The newest outcome that still waits in the outbox.
    """

    record: DateRecord
    now: datetime
    policy: Policy
    upstream: Mapping[str, Row] | None
    untold: Untold | None = None

    @property
    def over(self) -> bool:
        """Whether there should be a result by now."""
        return self.record.state in TERMINAL_STATES or self.now >= self.record.deadline_at

    def held_now(self, table: str) -> int | None:
        """Rows that a table holds now; None where it could not be read."""
        return self.upstream[table]["row_count"] if self.upstream is not None else None

    def held_at_build(self, processor: str) -> int | None:
        """Rows that a processor's table held at the last publication; None without one."""
        return self.record.result.dependency_rows.get(processor, 0) if self.record.result else None

    def is_there(self, processor: str) -> bool:
        """Whether a processor's rows are there: as read now, else as at the build, else as reported.

        Those of a run that was taken back are not: no build reads them.
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
        """Whether the outcome has been waiting in the outbox for longer than a moment."""
        since = self.untold.since if self.untold is not None else None
        return since is not None and self.now - since > OUTBOX_PATIENCE

    @property
    def published_is_retracted(self) -> bool:
        """Whether consumers read rows of a run that was taken back."""
        return publication_is_retracted(self.record)

    def _cannot_speak_for_now(self) -> bool:
        return self.record.published_generation < self.record.generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What the triage came to.

    Attributes:
        severity: P0 to P3, exclusive; None where nothing is wrong, or the night is not over.
        symptoms: What is seen, a sentence each.
        scenario: The root cause that fits; None where there is nothing to explain.
        why: Why that one.
        commands: What to run next, in order: the command, and what it is for.
    """

    severity: str | None
    symptoms: tuple[str, ...]
    scenario: RootCause | None
    why: str
    commands: tuple[tuple[str, str], ...]


def diagnose(scene: TriageInput) -> Diagnosis:
    """Say what is wrong with a night and what to do."""
    severity = _severity(scene)
    idle = _idle_worker(scene)
    scenario, why = _scenario(scene) if severity else (None, _quiet(scene))
    return Diagnosis(
        severity=severity,
        symptoms=tuple(_symptoms(scene, idle)),
        scenario=scenario,
        why=why,
        commands=tuple(_commands(scene, severity, scenario, idle)),
    )


def _severity(scene: TriageInput) -> str | None:
    """Return the worst level that applies.

    No result when one is due is P0, and so is a result of which nobody was told. Else the level is that of what
    consumers read; rows of a run that was taken back are P1 at least.
    """
    record = scene.record
    if scene.untold_too_long:
        return "P0"
    if record.result is None:
        return "P0" if scene.over else None
    earned = severity_of(record)
    return min(earned or UNRELIABLE, UNRELIABLE) if scene.published_is_retracted else earned


def _quiet(scene: TriageInput) -> str:
    """Return why there is nothing to explain."""
    if not scene.over:
        return f"it is not over: deadline {scene.record.deadline_at:%Y-%m-%d %H:%M}Z"
    if scene.untold is None:
        return "nothing is wrong with it"
    minutes = OUTBOX_PATIENCE.total_seconds() / 60
    return f"its outcome waits in the outbox; after {minutes:g} minutes there this is an incident"


def _idle_worker(scene: TriageInput) -> bool:
    record = scene.record
    due = record.wake_at is not None and scene.now - record.wake_at > CLAIM_PATIENCE
    return due and record.state in {State.WAITING, State.READY, State.RUNNING, State.FAILED}


def _symptoms(scene: TriageInput, idle: bool) -> Iterator[str]:
    record, result = scene.record, scene.record.result
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
    if scene.untold is not None:
        since = "" if scene.untold.since is None else f" since {scene.untold.since:%Y-%m-%d %H:%M:%S}Z"
        why = scene.untold.error or "it waits in the outbox"
        yield f"the outcome of generation {scene.untold.generation} has not been told yet{since}: {why}"
    if idle:
        yield f"something has been due since {record.wake_at:%Y-%m-%d %H:%M:%S}Z and no worker does it"
    if scene.published_is_retracted:
        yield "consumers read rows of a run that was taken back"
    for processor in PROCESSORS:
        yield from _symptoms_of(scene, processor)


def _symptoms_of(scene: TriageInput, processor: str) -> Iterator[str]:
    completion = scene.record.completions.get(processor)
    at_build, now = scene.held_at_build(processor), scene.held_now(processor)
    if processor in scene.record.ignored:
        last = [one for one in scene.record.retractions if one.processor == processor][-1]
        yield f"{processor}: {last.actor} took back {last.identity} at {last.at:%Y-%m-%d %H:%M}Z: {last.reason}"
        return
    if completion is None:
        yield f"{processor} has rows, its event never came" if now or at_build else f"{processor} has not reported"
    elif completion.status is CompletionStatus.FAILED:
        yield f"{processor} reported failed: {completion.error or 'no reason given'}"
    elif completion.status is CompletionStatus.FOUND:
        yield f"{processor} has rows, its event never came"
    elif completion.received_at > scene.record.deadline_at:
        yield f"{processor} reported only at {completion.received_at:%Y-%m-%d %H:%M}Z, after the deadline"
    if at_build == 0 and now:
        yield f"{processor} had no rows at the build and has {now} now"
    elif now == 0 and completion is not None and completion.counts:
        yield f"{processor} reported success, and its table is empty"


def _scenario(scene: TriageInput) -> tuple[RootCause | None, str]:
    record = scene.record
    if record.state is State.FAILED and record.failure and record.failure.because == FailedBecause.CANCELLED:
        return None, "a person cancelled it; none of the document's root causes"
    if scene.upstream is None and not record.version:
        return None, "nobody has opened it, and the tables could not be read: which cause it is, they would say"
    if scene.untold_too_long and severity_of(record) is None:
        return None, "the date is built and published; the bus does not take the outcome message"
    absent = [name for name in PROCESSORS if not scene.is_there(name)]
    source = "" if scene.upstream is not None else " (by build and events; the tables could not be read)"
    rows = "rows that count" if record.ignored else "rows"
    if len(absent) == len(PROCESSORS):
        return RootCause.A, f"none of the four Phase 4 tables has {rows}{source}: the cause lies in Phase 3 or before"
    if absent:
        return RootCause.B, f"{len(absent)} of the four Phase 4 tables without {rows}{source}: {', '.join(absent)}"
    return RootCause.C, f"all four Phase 4 tables have rows{source}: {_own_fault(scene)}"


def _own_fault(scene: TriageInput) -> str:
    record = scene.record
    if record.state is State.FAILED and record.failure is not None:
        return f"the build itself failed, {record.failure.because}"
    if record.result is None:
        return "it was not built"
    if scene.published_is_retracted:
        return "it was built from a run that was taken back"
    if record.mode is not BuildMode.NORMAL:
        return f"it was built as {record.mode}, by {record.requested_by or 'somebody'}"
    empty = [name for name in PROCESSORS if scene.held_at_build(name) == 0]
    if empty:
        return f"those of {', '.join(empty)} came after the build"
    return "they do not cover enough of the active players"


def _commands(
    scene: TriageInput,
    severity: str | None,
    scenario: RootCause | None,
    idle: bool,
) -> Iterator[tuple[str, str]]:
    yield from _first_commands(scene, severity, idle)
    if severity is None:
        return
    day = scene.record.analysis_date
    if scene.published_is_retracted and scene.record.ignored and scene.record.state in TERMINAL_STATES:
        yield f"mlfs replay {day} --reason 'without what was taken back' --wait 300", "at once, without those tables"
    match scenario:
        case RootCause.A:
            yield from _when_all_failed(scene)
        case RootCause.B:
            yield from _when_some_failed(scene)
        case RootCause.C:
            yield "mlfs doctor", "store, bus, tables, permissions"
            yield f"mlfs replay {day} --reason 'incident' --wait 300", "build it again"
        case None if scene.record.state in PUBLISHED_STATES:
            return
        case None:
            yield f"mlfs replay {day} --reason '…'", "if it shall be built after all"


def _first_commands(scene: TriageInput, severity: str | None, idle: bool) -> Iterator[tuple[str, str]]:
    day = scene.record.analysis_date
    if scene.untold_too_long:
        yield "mlfs doctor", "what the bus needs; a worker publishes the outcome as soon as the bus takes it"
    if idle:
        yield "mlfs run", "no worker is doing what is due; see also: mlfs doctor"
    if not scene.record.version:
        # explain and history refuse a date that was never opened.
        if not idle:
            yield "mlfs doctor", "why no worker has opened it; it is opened as soon as one runs: mlfs run"
    elif severity is None:
        yield f"mlfs explain {day}", "what happens next"
    else:
        yield f"mlfs history {day}", "what happened, step by step"


def _when_some_failed(scene: TriageInput) -> Iterator[tuple[str, str]]:
    day = scene.record.analysis_date
    absent = [name for name in PROCESSORS if not scene.is_there(name)]
    for name in absent:
        taken_back = name in scene.record.ignored
        cause = "another run counts again" if taken_back else "its log says why it failed"
        yield f"# run {name} again for {day}", f"with its owner; {cause}"
    if scene.record.state in {State.DEGRADED, State.DONE} and scene.now < scene.record.upgrade_cutoff_at:
        cutoff = scene.record.upgrade_cutoff_at
        yield (
            f"mlfs explain {day}",
            f"its success before {cutoff:%Y-%m-%d %H:%M}Z builds the date again by itself",
        )
    yield f"mlfs replay {day} --reason 'repaired {', '.join(absent)}' --wait 300", "after the repair"


def _when_all_failed(scene: TriageInput) -> Iterator[tuple[str, str]]:
    day = scene.record.analysis_date
    phase3, players = scene.held_now("player_game_summary"), scene.held_now("nbac_player_list")
    if players == 0:
        yield f"# load nba_raw.nbac_player_list for {day}", "no active players, so nothing can be built"
    yield "# tell the owners of Phase 3 and Phase 2", "all four processors failed together"
    yield f"mlfs replay {day} --reason 'Phase 4 is back' --wait 300", "once they have run"
    if scene.record.result is None and phase3 != 0:
        found = "" if phase3 is None else f"; {phase3} rows of Phase 3 are there"
        yield f"mlfs replay {day} --force-phase3-fallback --reason 'no Phase 4' --wait 300", f"until then{found}"
    if scene.record.result is None:
        yield f"mlfs replay {day} --source yesterday --reason 'last resort'", "the last resort: stale, marked as such"
