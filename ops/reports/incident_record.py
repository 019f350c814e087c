"""`mlfs incident DATE --record FILE`: the record of an incident in Markdown, for the post-incident review.

The upper part is filled in from the history in the store, the execution log, the ledger and the replay audit. The lower
part holds the sections of the review that the pipeline document demands within 48 hours. Only the file is written; a
crash leaves the file absent, or a part of the file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import typer

from ops.output import err, one_line
from ops.reports.facts import DateFacts, Row
from ops.reports.next_steps import Step
from ops.reports.sources import ReportReader
from ops.reports.triage import Diagnosis
from statemachine.model import BuildMode
from worker.calendar import with_weekday
from worker.date_text import in_zone
from worker.errors import Refused
from worker.features.records import read_findings
from worker.finding_text import short, shown
from worker.ports import HistoryEntry
from worker.resources import Resources

# Source: "Follow-Up" of a P0 incident in the pipeline document.
REVIEW_WITHIN = timedelta(hours=48)
# A request and the change by the request have instants of the same clock, a few calls apart.
SAME_REQUEST = timedelta(seconds=5)
MANUAL = "manual"
FILL_IN = "_to be filled in_"
OUTPUT = Path("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentEvidence:
    """Stored evidence about an analysis date; None stands for a failed read.

    Attributes:
        facts: Facts of the diagnosis.
        history: Changes kept by the store, oldest first.
        attempts: Rows of the execution log.
        publications: Published generations in order, from the ledger.
        requests: Rows of the replay audit.
        not_read: Failed reads.
    """

    facts: DateFacts
    history: Sequence[HistoryEntry]
    attempts: Sequence[Row] | None
    publications: Sequence[Row] | None
    requests: Sequence[Row] | None
    not_read: Sequence[str]


def read_record(parts: Resources, reader: ReportReader, facts: DateFacts) -> IncidentEvidence:
    """Read the evidence for the record of an incident.

    Raises:
        Unavailable: The store does not answer.
    """
    span = {"first_date": facts.day, "last_date": facts.day}
    return IncidentEvidence(
        facts=facts,
        history=parts.store.history(facts.day),
        attempts=reader.ask("report_attempts", **span),
        publications=reader.ask("report_publications", **span),
        requests=reader.ask("report_requests", **span),
        not_read=reader.not_read,
    )


def write_record(file: Path, text: str, *, overwrite: bool) -> None:
    """Write the record into a file, or on standard output for `-`.

    Raises:
        Refused: The file exists and *overwrite* is not set, or the folder does not exist.
    """
    if file == OUTPUT:
        typer.echo(text, nl=False)
        return
    if not file.absolute().parent.is_dir():
        raise Refused(f"there is no folder {file.absolute().parent} for the record; create the folder")
    try:
        with file.open("w" if overwrite else "x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError as exc:
        raise Refused(f"{file} exists, and may hold the words of people; to replace the file: --overwrite") from exc
    err.print(f"record written: {file}", markup=False, soft_wrap=True)


def record_text(evidence: IncidentEvidence, found: Diagnosis, steps: Sequence[Step], zone: ZoneInfo) -> str:
    """Return the record in Markdown; times stand on the wall clock of *zone*."""
    parts = (
        _summary(evidence, found, zone),
        _effect(evidence, zone),
        _time_line(evidence, zone),
        _evidence(evidence, found, zone),
        _findings(evidence.facts),
        _builds(evidence, zone),
        _requests(evidence, zone),
        _next(steps, zone),
        _review(evidence.facts, zone),
    )
    return "\n".join(line for part in parts for line in (*part, ""))


def _summary(evidence: IncidentEvidence, found: Diagnosis, zone: ZoneInfo) -> Iterator[str]:
    facts = evidence.facts
    yield f"# Incident of {with_weekday(facts.day)}"
    yield ""
    yield f"Written {_clock(facts.now, zone)} by `mlfs incident`. Times are wall clock times of {zone.key}."
    yield ""
    scenario = f", scenario {found.scenario} of the pipeline document" if found.scenario else ""
    yield from _table(
        ("", ""),
        [
            ("severity now", found.severity or "none"),
            ("state now", facts.record.state.value),
            ("cause", f"{found.cause or 'none'}{scenario}"),
            ("evidence", in_zone(found.why, zone)),
            ("deadline", _clock(facts.record.deadline_at, zone)),
            ("upgrades until", _clock(facts.record.upgrade_cutoff_at, zone)),
        ],
    )
    yield ""
    yield f"In one sentence, for people outside the team: {FILL_IN}"
    for fault in evidence.not_read:
        yield ""
        yield f"**Not read:** {one_line(fault)}"


def _effect(evidence: IncidentEvidence, zone: ZoneInfo) -> Iterator[str]:
    facts, published = evidence.facts, evidence.publications
    yield "## Effect: what Phase 5 could read, and from when on"
    yield ""
    if published is None:
        yield "Not known: the ledger could not be read."
    elif not published:
        yield "Nothing was published, so Phase 5 found no rows."
    else:
        rows = [
            (
                str(row["generation"]),
                _clock(row["committed_at"], zone),
                _until(published, index, zone),
                str(row["state"] or "not known"),
                str(row["severity"] or ("none" if row["state"] else "not known")),
                str(row["mode"] or "not known"),
                _figure(row["row_count"], "d"),
                _figure(row["quality_score"], ".1f"),
                _figure(row["fallback_rate"], ".1%"),
                short(read_findings(row["findings"])),
            )
            for index, row in enumerate(published)
        ]
        yield from _table(
            ("generation", "from", "until", "state", "severity", "mode", "rows", "score", "fallback", "findings"), rows
        )
        yield ""
        yield f"At the upgrade cutoff, {_clock(facts.record.upgrade_cutoff_at, zone)}: {_at_cutoff(evidence)}."
    yield ""
    if facts.untold is not None:
        yield f"Phase 5 has not been told of generation {facts.untold.generation}: {facts.untold.error or 'it waits'}."
    elif published:
        yield "Every outcome message has left the outbox: Phase 5 was told."
    yield f"Predictions of Phase 5: {_predictions(facts)}."
    yield ""
    yield f"Effect on users: {FILL_IN}"


def _until(published: Sequence[Row], index: int, zone: ZoneInfo) -> str:
    return _clock(published[index + 1]["committed_at"], zone) if index + 1 < len(published) else "now"


def _at_cutoff(evidence: IncidentEvidence) -> str:
    cutoff = evidence.facts.record.upgrade_cutoff_at
    by_then = [row for row in evidence.publications or () if row["committed_at"] <= cutoff]
    if cutoff > evidence.facts.now:
        return "still to come"
    return f"generation {by_then[-1]['generation']}" if by_then else "nothing was published yet"


def _predictions(facts: DateFacts) -> str:
    if facts.predictions is None:
        return "not known, the table could not be read"
    if not facts.predictions:
        return "not known, the table is not in this warehouse"
    confidence = _figure(facts.predictions["average_confidence"], ".1f")
    return f"{facts.predictions['prediction_count']}, mean confidence {confidence}"


def _time_line(evidence: IncidentEvidence, zone: ZoneInfo) -> Iterator[str]:
    yield "## Time line"
    yield ""
    rows = [(entry.at, entry.actor, f"{_moved(entry)}{entry.detail}") for entry in evidence.history]
    rows += [
        (row["started_at"], MANUAL, f"built by hand: generation {row['generation']}, {row['state']}")
        for row in evidence.attempts or ()
        if row["trigger"] == MANUAL
    ]
    rows += [
        (
            row["requested_at"],
            row["requested_by"],
            f"asked for {request_name(row)}: {row['reason']} ({row['decision']})",
        )
        for row in evidence.requests or ()
        if not _is_in_history(row, evidence.history)
    ]
    if not evidence.history:
        yield "The store has no history of this date; the reports below are those of the record."
        yield ""
        rows += [
            (completion.received_at, completion.processor, f"reported {completion.status}")
            for completion in evidence.facts.record.completions.values()
        ]
    told = [(_clock(at, zone), actor, in_zone(text, zone)) for at, actor, text in sorted(rows, key=lambda row: row[0])]
    yield from _table(("at", "by", "what"), told)


def _moved(entry: HistoryEntry) -> str:
    return "" if entry.before == entry.after else f"**{entry.after}** ({entry.reason}): "


def _is_in_history(row: Row, history: Sequence[HistoryEntry]) -> bool:
    return any(
        entry.actor == row["requested_by"] and abs(entry.at - row["requested_at"]) <= SAME_REQUEST for entry in history
    )


def _evidence(evidence: IncidentEvidence, found: Diagnosis, zone: ZoneInfo) -> Iterator[str]:
    yield "## Evidence"
    yield ""
    yield from (f"- {one_line(in_zone(symptom, zone))}" for symptom in found.symptoms)
    yield ""
    looks = evidence.facts.upstream.values()
    rows = [(look.table, _figure(look.row_count, "d"), _last(look.last_processed, zone), look.fault) for look in looks]
    yield from _table(("upstream table", "rows when written", "newest row written", "fault"), rows)
    yield ""
    checks = [(done.name, done.status.value, in_zone(done.figure, zone), done.threshold) for done in found.checks]
    yield from _table(("daily check", "status", "found", "expected"), checks)


def _findings(facts: DateFacts) -> Iterator[str]:
    yield "## Findings about the published rows"
    yield ""
    found = shown(facts.findings)
    if found is None:
        yield "Not judged: nothing is published, or the rows are older than the checks."
    elif not found:
        yield "No findings."
    else:
        rows = [(one.severity, one.check, one.subject, one.observed, one.expected, one.next_step) for one in found]
        yield from _table(("severity", "check", "subject", "observed", "expected", "next step"), rows)


def _builds(evidence: IncidentEvidence, zone: ZoneInfo) -> Iterator[str]:
    yield "## Builds"
    yield ""
    if evidence.attempts is None:
        yield "Not known: the execution log could not be read."
        return
    rows = [
        (
            f"{row['generation']}.{row['attempt']}",
            row["trigger"],
            row["mode"],
            _clock(row["started_at"], zone),
            f"{(row['completed_at'] - row['started_at']).total_seconds():.1f} s",
            row["state"],
            row["error"] or "",
        )
        for row in evidence.attempts
    ]
    yield from _table(("generation.attempt", "trigger", "mode", "started", "took", "end", "error"), rows)


def _requests(evidence: IncidentEvidence, zone: ZoneInfo) -> Iterator[str]:
    yield "## Requests of people, from the audit"
    yield ""
    if evidence.requests is None:
        yield "Not known: the audit could not be read."
        return
    rows = [
        (
            _clock(row["requested_at"], zone),
            row["requested_by"],
            request_name(row),
            row["reason"],
            row["decision"],
        )
        for row in evidence.requests
    ]
    yield from _table(("at", "by", "request", "reason", "decision"), rows)


def request_name(row: Row) -> str:
    """Return the name of a request in the audit: `replay (normal)`, `cancel`, `retract PROCESSOR`."""
    mode = str(row["mode"])
    return f"replay ({mode})" if mode in set(BuildMode) else f"{mode} {row['processor'] or ''}".strip()


def _next(steps: Sequence[Step], zone: ZoneInfo) -> Iterator[str]:
    yield "## Next steps when this record was written"
    yield ""
    yield from _table(("command", "what for"), [(f"`{command}`", in_zone(purpose, zone)) for command, purpose in steps])


def _review(facts: DateFacts, zone: ZoneInfo) -> Iterator[str]:
    """Yield the sections of the review, empty."""
    result, failure = facts.record.result, facts.record.failure
    ends = [facts.record.deadline_at]
    ends += [] if result is None else [result.committed_at]
    ends += [] if failure is None else [failure.at]
    yield "## Post-incident review"
    yield ""
    yield f"Due {_clock(max(ends) + REVIEW_WITHIN, zone)}: 48 hours after the last end of the date. Blameless."
    for title, question in _QUESTIONS.items():
        yield ""
        yield f"### {title}"
        yield ""
        yield f"{question} {FILL_IN}"
    yield ""
    yield "### Actions"
    yield ""
    yield from _table(
        ("action", "owner", "due"),
        [(action, FILL_IN, FILL_IN) for action in ("repair of the cause", "runbook", "monitoring", "prevention")],
    )


_QUESTIONS: Mapping[str, str] = {
    "What happened": "The course of events in a few sentences.",
    "Why it happened": "The chain of causes down to the first cause.",
    "How it was noticed": "By whom or by which alert, at what time, and how long after the first sign.",
    "What was done": "The steps in order, and the step that ended the incident.",
    "What helped, what hindered": "Tools, knowledge, people, luck.",
    "What the runbook did not say": "The lines to add or to correct in docs/runbook.md.",
}


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        yield "None."
        return
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(_cell(text) for text in row)} |"


def _cell(text: str) -> str:
    return one_line(str(text)).replace("|", "\\|")


def _figure(value: float | None, form: str) -> str:
    return "not known" if value is None else format(value, form)


def _last(at: datetime | None, zone: ZoneInfo) -> str:
    return "-" if at is None else _clock(at, zone)


def _clock(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"
