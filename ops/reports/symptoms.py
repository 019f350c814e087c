"""Symptoms of an analysis date for `mlfs incident`: a sentence for each observation, with its source. Pure.

A sentence states what was seen: rows in a table, a report, a record. Instants stand in UTC with a final `Z`, and the
command shows the instants on the league's wall clock.
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta

from ops.reports.facts import DateFacts, Evidence, short
from statemachine.model import CompletionStatus, State, Trigger
from worker.finding_text import finding_line, shown

# A running worker claims within a tick. After a minute without a claim, no worker is running.
CLAIM_PATIENCE = timedelta(minutes=1)
# In whole minutes, the last two would be "1 minutes" and "0 minutes".
IN_SECONDS_BELOW = timedelta(minutes=2)
IDLE_STATES = frozenset({State.WAITING, State.READY, State.RUNNING, State.FAILED})


def has_idle_worker(facts: DateFacts) -> bool:
    """Return whether a timer of the analysis date is due and no worker fires the timer."""
    record = facts.record
    due = record.wake_at is not None and facts.now - record.wake_at > CLAIM_PATIENCE
    return due and record.state in IDLE_STATES


def minutes_left(facts: DateFacts) -> int | None:
    """Return the whole minutes until the deadline; None for an analysis date that is over."""
    return None if facts.over else int((facts.record.deadline_at - facts.now) / timedelta(minutes=1))


def time_left(facts: DateFacts) -> str | None:
    """Return the time until the deadline in words, near the deadline in seconds; None for a date that is over."""
    if facts.over:
        return None
    left = facts.record.deadline_at - facts.now
    unit, name = (timedelta(seconds=1), "seconds") if left < IN_SECONDS_BELOW else (timedelta(minutes=1), "minutes")
    return f"{left // unit} {name}"


def symptoms_of(facts: DateFacts) -> Iterator[str]:
    """Yield the symptoms, those of the whole date first."""
    if not facts.opened:
        yield "the store has no record of this date" if facts.ledger_is_ahead else "no worker has ever opened this date"
    yield from _of_the_date(facts)
    yield from _of_reports(facts)
    for processor in facts.pipeline.processors:
        yield from _of_processor(facts, processor)
    yield from _of_tables(facts)
    for finding in shown(facts.grave_findings) or ():
        yield f"{finding.severity} finding: {finding_line(finding)}"


def _of_the_date(facts: DateFacts) -> Iterator[str]:
    record, result = facts.record, facts.record.result
    if record.state is State.FAILED and record.failure is not None:
        cause = f"{record.failure.because}: {record.failure.message}"
        yield f"nothing was published for generation {record.generation}: {cause}"
    elif result is None:
        yield f"nothing is published; it is {record.state}"
    if result is not None:
        still = "" if record.published_generation == record.generation else ", which consumers still read"
        yield (
            f"generation {result.generation}{still}: {result.row_count} rows, score {result.quality_score:.1f}, "
            f"fallback {result.fallback_rate:.1%}, missing {result.missing_rate:.1%}"
        )
    if facts.ledger_is_ahead:
        yield (
            f"consumers read generation {record.published_generation} of the ledger, and the store does not know this "
            "publication: made by mlfs build, or the record was lost or has expired"
        )
    if facts.untold is not None:
        since = "" if facts.untold.since is None else f" since {facts.untold.since:%Y-%m-%d %H:%M:%S}Z"
        why = facts.untold.error or "it waits in the outbox"
        yield f"the outcome of generation {facts.untold.generation} has not been told yet{since}: {why}"
    if has_idle_worker(facts):
        yield f"something has been due since {record.wake_at:%Y-%m-%d %H:%M:%S}Z and no worker does it"
    if facts.published_is_retracted:
        yield "consumers read rows of a run that was taken back"


def _of_reports(facts: DateFacts) -> Iterator[str]:
    """Yield how many processors have reported, and why rows were used without a report."""
    record, names = facts.record, facts.pipeline.processors
    left = time_left(facts)
    if left is not None:
        missing = [name for name in names if name not in record.counted]
        waits = f"; missing: {facts.listed(missing)}" if missing else ""
        yield (
            f"{len(names) - len(missing)} of {len(names)} processors have reported success{waits}; {left} left "
            f"until the deadline, {record.deadline_at:%Y-%m-%d %H:%M}Z"
        )
    found = [name for name in names if _rows_without_event(facts, name)]
    if found:
        yield f"no event came from {', '.join(found)}; the rows were found in the tables{_how_found(facts)}"
    silent = [name for name in names if facts.completion(name) is None and name not in {*found, *record.ignored}]
    # Before the deadline the line above names the missing processors.
    if silent and left is None:
        yield from _without_report(facts, silent)


def _rows_without_event(facts: DateFacts, processor: str) -> bool:
    """Return whether the processor has rows, or had rows at the build, and no event came."""
    completion = facts.completion(processor)
    if completion is not None:
        return completion.status is CompletionStatus.FOUND
    if processor in facts.record.ignored:
        return False
    at_build = facts.held_at_build(processor)
    return bool(facts.held_now(processor) if at_build is None else at_build)


def _how_found(facts: DateFacts) -> str:
    record = facts.record
    if record.trigger is Trigger.REPLAY:
        return f", by a replay of {record.requested_by or 'an unknown actor'}: {record.request_reason or 'no reason'}"
    return ""


def _without_report(facts: DateFacts, silent: Iterable[str]) -> Iterator[str]:
    by_evidence: dict[Evidence, list[str]] = {}
    for name in silent:
        by_evidence.setdefault(facts.evidence(name), []).append(name)
    told = {
        Evidence.EMPTY: "and the tables have no rows",
        Evidence.UNUSABLE: "and the tables cannot be used",
        Evidence.UNKNOWN: "and the tables were not read: whether there are rows is not known",
    }
    for evidence, names in by_evidence.items():
        yield f"no report came from {facts.listed(names)}, {told.get(evidence, 'and the rows are there')}"


def _of_processor(facts: DateFacts, processor: str) -> Iterator[str]:
    record, completion = facts.record, facts.completion(processor)
    at_build, now = facts.held_at_build(processor), facts.held_now(processor)
    if processor in record.ignored:
        last = [retraction for retraction in record.retractions if retraction.processor == processor][-1]
        yield f"{processor}: {last.actor} took back {last.identity} at {last.at:%Y-%m-%d %H:%M}Z: {last.reason}"
        return
    if completion is not None and completion.status is CompletionStatus.FAILED:
        rows = "" if now is None else f"; the table has {now or 'no'} rows"
        yield f"{processor} reported failed: {completion.error or 'no reason given'}{rows}"
    elif _is_late(facts, processor) and completion is not None:
        yield f"{processor} reported only at {completion.received_at:%Y-%m-%d %H:%M}Z, after the deadline"
    if at_build == 0 and now:
        yield f"{processor} had no rows at the build and has {now} now"
    elif now == 0 and at_build:
        yield f"{processor} had {at_build} rows at the build and has none now"
    elif now == 0 and completion is not None and completion.counts:
        yield f"{processor} reported success, and its table is empty"


def _is_late(facts: DateFacts, processor: str) -> bool:
    completion = facts.completion(processor)
    success = completion is not None and completion.status is CompletionStatus.SUCCESS
    return success and completion is not None and completion.received_at > facts.record.deadline_at


def _of_tables(facts: DateFacts) -> Iterator[str]:
    """Yield the faults of every upstream table, and the empty tables outside Phase 4."""
    for source, look in facts.upstream.items():
        if look.fault:
            yield f"{look.table} cannot be used: {look.fault}" if look.is_unusable else f"upstream: {look.fault}"
        elif look.row_count == 0 and source not in facts.pipeline.processors:
            yield f"{look.table} has {_nothing_in(facts, source)}"
    unread = [table for table in facts.pipeline.upstream if not _is_looked_at(facts, table)]
    if unread and facts.upstream:
        yield f"not looked at: {', '.join(unread)}"


def _is_looked_at(facts: DateFacts, table: str) -> bool:
    return any(look.table == table for look in facts.upstream.values())


def _nothing_in(facts: DateFacts, source: str) -> str:
    pipeline = facts.pipeline
    if source == short(pipeline.entity.roster):
        return f"no active {pipeline.entity.plural} for {facts.day}"
    if pipeline.schedule is not None and source == short(pipeline.schedule.table):
        return f"no game for {facts.day}"
    return f"no row that a fallback for {facts.day} may read"
