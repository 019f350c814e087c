"""Diagnosis of an analysis date: severity, root cause of the pipeline document, cause by evidence. Pure.

The cause is named from the evidence of every upstream table, of the record and of the checks of `mlfs daily`. Where the
evidence does not reach, the cause is `unknown`: a table that was not read is no empty table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ops.reports.checks import Check, CheckStatus, check
from ops.reports.facts import OUTBOX_PATIENCE, DateFacts, Evidence, short
from ops.reports.symptoms import symptoms_of, time_left
from statemachine.evidence import mode_of, severity_of
from statemachine.model import PUBLISHED_STATES, BuildMode, DateRecord, FailedBecause, Failure
from worker.finding_text import short as findings_line

# Severity of a publication from a retracted run, or of a date without predictions: the rows are unreliable or unused.
UNRELIABLE = "P1"
# Severity of a date whose only trouble is an amber check.
NOTED = "P3"


class RootCause(StrEnum):
    """The document's root causes."""

    A = "A"
    """No Phase 4 table has rows: the cause lies before Phase 4."""
    B = "B"
    """Some Phase 4 tables have no rows: the processors of these tables failed."""
    C = "C"
    """All four tables have rows: the cause lies in the feature store."""


class Cause(StrEnum):
    """Cause of an incident, by evidence."""

    CANCELLED = "cancelled"
    """A person cancelled the analysis date."""
    NOT_TOLD = "not_told"
    """Built and published, and the bus does not take the outcome message."""
    ROSTER = "roster"
    """The roster has no active entity for the analysis date, or cannot be used."""
    PHASE4 = "phase4"
    """Phase 4 tables have no rows, cannot be used, or were taken back."""
    TABLES = "tables"
    """Another upstream table cannot be used."""
    FINDINGS = "findings"
    """The rows are complete by the score, and findings say why the rows may be wrong."""
    FEATURE_STORE = "feature_store"
    """Every upstream table has rows; the build itself is the cause."""
    CHECKS = "checks"
    """Score and findings are sound, and a daily check is not green."""
    UNKNOWN = "unknown"
    """The tables could not be read, and the record does not show the cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Result of a diagnosis.

    Attributes:
        severity: P0 to P3; None without a fault, or before the end of the analysis date.
        symptoms: A sentence for each symptom.
        cause: Cause by evidence; None without a severity.
        scenario: The document's root cause; None if no root cause of the document applies.
        why: Reason for the cause.
        checks: The checks of `mlfs daily`.
    """

    severity: str | None
    symptoms: tuple[str, ...]
    cause: Cause | None
    scenario: RootCause | None
    why: str
    checks: tuple[Check, ...]


def diagnose(facts: DateFacts) -> Diagnosis:
    """Return the diagnosis of an analysis date."""
    checks = check(facts)
    severity = _severity(facts, checks)
    cause, scenario, why = _cause(facts, checks) if severity else (None, None, _quiet(facts))
    # Other symptoms tell why nothing is published; of published rows only the predictions have no symptom of their own.
    shown = [done for done in _troubled(checks) if cause is Cause.CHECKS or done.name == "phase 5"]
    told = tuple(
        f"daily check {done.name} is {done.status}: {done.figure}"
        for done in (shown if severity and facts.record.result is not None and facts.untold is None else ())
    )
    return Diagnosis(
        severity=severity,
        symptoms=(*symptoms_of(facts), *told),
        cause=cause,
        scenario=scenario,
        why=why,
        checks=tuple(checks),
    )


def _severity(facts: DateFacts, checks: Sequence[Check]) -> str | None:
    """Return the worst severity; None without a fault.

    A missing result after the deadline is P0, and so is an outcome message stuck in the outbox. Otherwise the severity
    is the severity of the published rows; rows of a retracted run and a night without predictions are at least P1. A
    date whose only trouble is a check of `mlfs daily` is P3 after an amber check, P1 after a red check.
    """
    record = facts.record
    if facts.untold_too_long:
        return "P0"
    if record.result is None:
        return "P0" if facts.over else None
    earned = severity_of(record)
    if not facts.settled:
        return earned
    if facts.published_is_retracted or _phase5_is_red(checks):
        return min(earned or UNRELIABLE, UNRELIABLE)
    if earned is not None or not _troubled(checks):
        return earned
    return UNRELIABLE if any(done.status is CheckStatus.RED for done in checks) else NOTED


def _troubled(checks: Sequence[Check]) -> tuple[Check, ...]:
    return tuple(done for done in checks if done.status in {CheckStatus.AMBER, CheckStatus.RED})


def _phase5_is_red(checks: Sequence[Check]) -> bool:
    return any(done.status is CheckStatus.RED for done in checks if done.name == "phase 5")


def _quiet(facts: DateFacts) -> str:
    """Return the reason for the absence of a severity."""
    if not facts.over:
        deadline = f"{facts.record.deadline_at:%Y-%m-%d %H:%M}Z"
        return f"it is not over: {time_left(facts)} left until the deadline, {deadline}"
    if facts.untold is None:
        return "nothing is wrong with it"
    minutes = OUTBOX_PATIENCE.total_seconds() / 60
    return f"its outcome waits in the outbox; after {minutes:g} minutes there this is an incident"


def failure_of(record: DateRecord) -> Failure | None:
    """Return the failure of the present generation; None if the generation is published, or had no failure."""
    return record.failure if record.published_generation < record.generation else None


def roster_trouble(facts: DateFacts) -> str:
    """Return why the roster is the cause of a date without own rows; empty if the roster is not the cause."""
    record, result, table = facts.record, facts.record.result, facts.pipeline.entity.roster
    copied = result is not None and mode_of(record, result) is BuildMode.YESTERDAY
    if failure_of(record) is None and result is not None and not copied:
        return ""
    look = facts.roster
    if look is not None and look.is_unusable:
        return f"the roster {table} cannot be used, so no build is possible: {look.fault}"
    if look is not None and look.row_count == 0:
        many = facts.pipeline.entity.plural
        return f"the roster {table} has no active {many} for {facts.day}, so no build is possible"
    if (failure := failure_of(record)) is not None and failure.because == FailedBecause.NO_ROSTER:
        now = "was not read now" if look is None else f"has {look.row_count} rows now"
        return f"the roster {table} was empty or unusable at the build; the table {now}"
    return ""


def _cause(facts: DateFacts, checks: Sequence[Check]) -> tuple[Cause, RootCause | None, str]:
    record, failure = facts.record, failure_of(facts.record)
    if failure is not None and failure.because == FailedBecause.CANCELLED:
        return Cause.CANCELLED, None, "a person cancelled it; no root cause of the document applies"
    if facts.untold_too_long and severity_of(record) is None:
        return Cause.NOT_TOLD, None, "the date is built and published; the bus does not take the outcome message"
    if roster := roster_trouble(facts):
        return Cause.ROSTER, None, roster
    if any(not _was_full_at_build(facts, name) for name in facts.absent):
        return Cause.PHASE4, *_phase4(facts)
    if facts.faulty_tables and (failure is not None or record.result is None):
        told = "; ".join(f"{look.table}: {look.fault}" for look in facts.faulty_tables)
        return Cause.TABLES, None, f"the build cannot use every upstream table: {told}"
    unknown = facts.with_evidence(Evidence.UNKNOWN)
    if unknown and record.result is None:
        return Cause.UNKNOWN, None, _unknown(facts, unknown)
    if record.result is not None and severity_of(record) is None and not facts.published_is_retracted:
        return Cause.CHECKS, None, _by_checks(checks)
    return _own_cause(facts)


def _was_full_at_build(facts: DateFacts, processor: str) -> bool:
    """Return whether the published rows rest on rows of the processor that have gone since."""
    gone = facts.evidence(processor) in {Evidence.EMPTY, Evidence.UNUSABLE}
    return gone and facts.record.state in PUBLISHED_STATES and bool(facts.held_at_build(processor))


def _unknown(facts: DateFacts, unknown: Sequence[str]) -> str:
    known = "no worker has opened it"
    if facts.opened:
        known = f"the store says {facts.record.state}"
        if facts.record.failure is not None:
            known += f" ({facts.record.failure.because}: {facts.record.failure.message})"
    return (
        f"the cause is unknown: {known}, and no rows of {', '.join(unknown)} could be counted: no report came, and the "
        "tables could not be read"
    )


def _by_checks(checks: Sequence[Check]) -> str:
    told = "; ".join(f"{done.name}: {done.figure} ({done.threshold} expected)" for done in _troubled(checks))
    return f"score and findings are sound, and mlfs daily is not green: {told}"


def _phase4(facts: DateFacts) -> tuple[RootCause, str]:
    """Return the document's root cause A or B, with the evidence of Phase 4 and Phase 3."""
    absent, names = facts.absent, facts.pipeline.processors
    source = "" if facts.upstream else " (by build and events; the tables could not be read)"
    rows = "rows that count" if facts.record.ignored else "rows"
    if not facts.with_evidence(Evidence.ROWS, Evidence.UNKNOWN):
        return RootCause.A, f"none of the {len(names)} Phase 4 tables has {rows}{source}{_phase3(facts)}"
    told = ", ".join(f"{name}{_reason_of_absence(facts, name)}" for name in absent)
    unknown = facts.with_evidence(Evidence.UNKNOWN)
    more = f"; not known: {', '.join(unknown)}" if unknown else ""
    return RootCause.B, f"{len(absent)} of the {len(names)} Phase 4 tables without {rows}{source}: {told}{more}"


def _reason_of_absence(facts: DateFacts, processor: str) -> str:
    return {
        Evidence.UNUSABLE: f" (cannot be used: {facts.upstream[processor].fault})"
        if processor in facts.upstream
        else "",
        Evidence.FAILED: " (reported failed)",
        Evidence.RETRACTED: " (taken back)",
    }.get(facts.evidence(processor), "")


def phase3_looks(facts: DateFacts) -> dict[str, int | None]:
    """Return the rows that a fallback may read, by Phase 3 table; None for a table that cannot be used or read."""
    looks = {short(table.name): facts.upstream.get(short(table.name)) for table in facts.pipeline.phase3_tables}
    return {name: None if look is None or look.is_unusable else look.row_count for name, look in looks.items()}


def _phase3(facts: DateFacts) -> str:
    held = phase3_looks(facts)
    known = {name: rows for name, rows in held.items() if rows is not None}
    if not known:
        return ": the cause lies in Phase 3 or before; Phase 3 could not be read"
    told = ", ".join(f"{name} {rows} rows" for name, rows in known.items())
    if not any(known.values()):
        return f", and Phase 3 has none either ({told}): the cause lies in Phase 3 or before"
    return f": the cause lies in Phase 3 or before, or in the common start of the processors; for a fallback: {told}"


def _own_cause(facts: DateFacts) -> tuple[Cause, RootCause | None, str]:
    """Return the cause of a date whose Phase 4 tables all have rows: a finding, otherwise the feature store."""
    record, result = facts.record, facts.record.result
    needed = [name for name in facts.pipeline.processors if name not in facts.pipeline.optional_processors]
    there = f"all {len(needed)} Phase 4 tables have rows"
    source = "" if facts.upstream else " (by build and events; the tables could not be read)"

    def own(why: str) -> tuple[Cause, RootCause | None, str]:
        return Cause.FEATURE_STORE, RootCause.C, f"{there}{source}: {why}"

    if (failure := failure_of(record)) is not None:
        return own(f"the build itself failed, {failure.because}: {failure.message}")
    if result is None:
        return own("it was not built")
    if facts.published_is_retracted:
        return own("it was built from a run that was taken back")
    if mode_of(record, result) is not BuildMode.NORMAL:
        return own(f"it was built as {mode_of(record, result)}, by {record.requested_by or 'an unknown actor'}")
    empty = [name for name in needed if facts.held_at_build(name) == 0]
    if empty:
        return own(f"those of {', '.join(empty)} came after the build")
    if facts.grave_findings:
        return (
            Cause.FINDINGS,
            None,
            f"{there}{source}, and the rows are not to be believed as they are: "
            + (findings_line(facts.grave_findings)),
        )
    return own("the rows do not cover enough of the active players")
