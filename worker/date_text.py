"""Texts about an analysis date, the same for commands, pages and API: state, cause, next step. Pure."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import ConfigDict, Field

from statemachine.evidence import (
    awaited_tables,
    built_without,
    doubted_processors,
    publication_is_retracted,
    severity_of,
)
from statemachine.model import (
    RATE_DIGITS,
    BuildResult,
    CompletionStatus,
    DateRecord,
    FailedBecause,
    FindingSeverity,
    Policy,
    State,
)
from worker.features.model import QualityReport
from worker.finding_text import FindingModel, as_json, short, worst
from worker.observing.outbox import Untold

# Shown status of a processor with a retracted run and no newer run.
RETRACTED = "retracted"
# Instants inside texts: `2024-12-16 04:25Z`, ISO 8601 with an offset, BigQuery's ` UTC`; `at:` and `probe:` are the
# identities of runs without an id. An instant behind an option of a command is kept, so that the command can be copied.
_INSTANT = re.compile(
    r"(?P<option>--[a-z-]+[ =])?(?P<run>\b(?:at|probe):)?(?<!\d)"
    r"(?P<day>\d{4}-\d{2}-\d{2})[ T](?P<minute>\d{2}:\d{2})(?P<second>:\d{2})?(?:[.]\d{1,9})?"
    r"(?P<offset>Z| UTC|[+-]\d{2}:\d{2})(?!\w)"
)


@dataclass(frozen=True, kw_only=True)
class FailureModel:
    """Cause of a failed analysis date or of a failed attempt."""

    __pydantic_config__ = ConfigDict(extra="ignore")

    because: str
    message: str


@dataclass(frozen=True, kw_only=True)
class DateSummary:
    """State of an analysis date with the figures of the last publication; null without a publication."""

    __pydantic_config__ = ConfigDict(extra="allow")

    analysis_date: Annotated[str, Field(examples=["2024-12-15"])]
    weekday: Annotated[str, Field(examples=["Sunday"])]
    state: Annotated[str, Field(examples=["done"], description="`waiting ready running degraded done failed`")]
    generation: int
    row_count: int | None
    quality_score: float | None
    components: dict[str, float] | None
    component_total: Annotated[
        float | None,
        Field(description="Sum of the components. `quality_score` is higher where usable fallback rows count instead."),
    ]
    fallback_rate: float | None
    missing_rate: float | None
    severity: str | None
    findings: Annotated[
        list[FindingModel] | None,
        Field(
            description="Reasons why the rows may be wrong, the most severe first; null if no check judged the rows."
        ),
    ]
    attempt: int
    trigger: str | None
    mode: str
    as_of: Annotated[str | None, Field(description="The build reads only upstream rows processed up to this instant.")]
    published_generation: int
    published_is_retracted: bool
    left_out: int | None
    deadline_at: str
    upgrade_cutoff_at: str
    wake_at: str | None
    committed_at: str | None
    failure: FailureModel | None


def figures(build: BuildResult | QualityReport | None) -> dict[str, Any]:
    """Return the fields of `DateSummary` about a build, the rates rounded; each is None without a build."""
    names = [field.name for field in fields(DateSummary) if field.name in QualityReport.__dataclass_fields__]
    if build is None:
        return dict.fromkeys(names)
    values = {name: getattr(build, name) for name in names}
    rates = {name: round(values[name], RATE_DIGITS) for name in ("fallback_rate", "missing_rate")}
    return {**values, **rates, "components": dict(build.components), "findings": as_json(build.findings)}


def summary(record: DateRecord) -> dict[str, Any]:
    """Return `DateSummary` for scripts."""
    result, failure = record.result, record.failure
    return asdict(
        DateSummary(
            analysis_date=record.analysis_date.isoformat(),
            weekday=f"{record.analysis_date:%A}",
            state=record.state.value,
            generation=record.generation,
            **{**figures(result), "severity": severity_of(record)},
            attempt=record.attempt,
            trigger=record.trigger.value if record.trigger else None,
            mode=record.mode.value,
            as_of=record.as_of.isoformat() if record.as_of else None,
            published_generation=record.published_generation,
            published_is_retracted=publication_is_retracted(record),
            left_out=result.left_out if result else None,
            deadline_at=record.deadline_at.isoformat(),
            upgrade_cutoff_at=record.upgrade_cutoff_at.isoformat(),
            wake_at=record.wake_at.isoformat() if record.wake_at else None,
            committed_at=result.committed_at.isoformat() if result else None,
            failure=FailureModel(because=failure.because, message=failure.message) if failure else None,
        )
    )


def standing(record: DateRecord, untold: Untold | None) -> dict[str, Any]:
    """Return the figures of an analysis date and the outcome message still in the outbox."""
    waits = untold and {**asdict(untold), "since": untold.since and untold.since.isoformat()}
    return {**summary(record), "not_told": waits}


def explanation(
    record: DateRecord, now: datetime, policy: Policy, zone: ZoneInfo, untold: Untold | None
) -> dict[str, Any]:
    """Return the explanation of an analysis date: arrivals, missing processors, state, next step and reason.

    Args:
        record: Record of the analysis date.
        now: UTC.
        policy: Rules of the pipeline.
        zone: Zone of the times in sentences.
        untold: The newest outcome message of the analysis date in the outbox, None without a waiting message.
    """
    return {
        **standing(record, untold),
        "now": now.isoformat(),
        "processors": [_processor(record, name, policy) for name in policy.processors],
        "missing": list(policy.missing(record)),
        "headline": in_zone(headline(record, policy), zone),
        "next": what_next(record, now, policy, zone, untold),
    }


def reported(record: DateRecord, policy: Policy) -> str:
    """Return how many processors count: `3 of 4`; with a remark if the missing processors are optional."""
    missing = policy.missing(record)
    counted = f"{len(policy.processors) - len(missing)} of {len(policy.processors)}"
    return f"{counted} (only optional missing)" if missing and policy.optional.issuperset(missing) else counted


def listed(names: Iterable[str], optional: Collection[str]) -> str:
    """Return processors as a list for a sentence, each optional processor with the word."""
    return ", ".join(f"{name} (optional)" if name in optional else name for name in names)


def _processor(record: DateRecord, name: str, policy: Policy) -> dict[str, Any]:
    completion = record.completions.get(name)
    missing = RETRACTED if name in record.ignored else "missing"
    rows: Mapping[str, int] = record.result.dependency_rows if record.result else {}
    return {
        "processor": name,
        "optional": name in policy.optional,
        "status": completion.status.value if completion else missing,
        "completed_at": completion.completed_at.isoformat() if completion else None,
        "row_count": completion.row_count if completion else None,
        "error": completion.error if completion else None,
        "run": completion.identity if completion else None,
        "traceparent": completion.traceparent if completion else None,
        "unknown_fields": json.loads(completion.unknown_fields) if completion and completion.unknown_fields else None,
        "awaited_since": None if completion else record.opened_at.isoformat(),
        "rows_at_build": rows.get(name),
        "retractions": [
            {"run": entry.identity, "by": entry.actor, "reason": entry.reason, "at": entry.at.isoformat()}
            for entry in record.retractions
            if entry.processor == name
        ],
    }


def retraction_follows(record: DateRecord, processor: str) -> str:
    """Return the consequence of a retraction of *processor*; *record* is the record after the retraction."""
    without = f"built without the table of {processor}, even if the table has rows"
    day = record.analysis_date.isoformat()
    match record.state:
        case State.WAITING:
            return f"it waits for another run of {processor}; at the deadline it is {without}"
        case State.READY:
            return f"it is {without}, until another run of it succeeds"
        case State.RUNNING:
            return f"the running build may have read the table; after this build the date is {without}"
        case State.DONE | State.DEGRADED:
            return (
                f"consumers read generation {record.published_generation} as it is. Before the upgrade cutoff the next "
                f"run of {processor} has it built again; without that table at once: "
                f"mlfs replay {day} --reason '…', or --rebuild here"
            )
        case State.FAILED:
            again = "a replay of it" if record.wake_at is None else "the build at its deadline, or a replay,"
            return f"it stays failed; {again} is {without}, until another run of it succeeds"


def headline(record: DateRecord, policy: Policy) -> str:
    """Return the state of the analysis date in a line, with the doubts about the rows that consumers read."""
    result = record.result
    if record.state is State.WAITING:
        return f"waiting: {reported(record, policy)} completions{_still_read(result)}"
    if record.state in {State.DONE, State.DEGRADED} and result is not None:
        wrong = " from a run that was taken back" if publication_is_retracted(record) else ""
        absent = [name for name in policy.processors if built_without(record, name, policy)]
        without = f" without {listed(absent, policy.optional)}" if absent else ""
        generation = f"published as generation {result.generation}{_limit(record)}{wrong}{without}"
        if is_doubtful(result):
            return f"{record.state}: {generation}, but {short(result.findings)}; {_worth(result)}"
        return f"{record.state}: {_worth(result)}, {short(result.findings)}, {generation}"
    if record.state is State.FAILED:
        because = record.failure.because if record.failure else "unknown"
        return f"failed ({because}): nothing was published for generation {record.generation}{_still_read(result)}"
    trigger = record.trigger.value if record.trigger else "none"
    begun = f"{record.state}: generation {record.generation} ({trigger}{_limit(record)}), attempt {record.attempt}"
    return f"{begun}{_still_read(result) if result is not None and is_doubtful(result) else ''}"


def is_doubtful(result: BuildResult) -> bool:
    """Return whether a critical finding says that the rows cannot be believed."""
    return worst(result.findings) == FindingSeverity.CRITICAL


def _still_read(result: BuildResult | None) -> str:
    if result is None:
        return ""
    doubt = f", with {short(result.findings)}" if is_doubtful(result) else ""
    return f"; consumers still read generation {result.generation}{doubt}"


def _limit(record: DateRecord) -> str:
    """Return the instant that a person set as a limit for the rows of the generation; empty without a limit."""
    return f", as of {record.as_of:%Y-%m-%d %H:%M:%S}Z" if record.as_of is not None else ""


def _worth(result: BuildResult) -> str:
    return f"{result.row_count} rows, score {result.quality_score:.1f}, fallback {result.fallback_rate:.1%}"


def untold_text(untold: Untold, now: datetime, zone: ZoneInfo) -> str:
    """Return the text for an unpublished outcome message: `Generation 1 is published; Phase 5 has not been told`."""
    what = "failed; on call has" if untold.state == State.FAILED else "is published; Phase 5 has"
    since = "" if untold.since is None else f" since {_when(untold.since, now, zone)}"
    why = f"{in_zone(untold.error, zone)}; tried{since}" if untold.error else f"the outcome waits in the outbox{since}"
    return f"Generation {untold.generation} {what} not been told yet: {why}."


def what_next(record: DateRecord, now: datetime, policy: Policy, zone: ZoneInfo, untold: Untold | None) -> str:
    """Return the next step, the instant and the possible command; an unpublished outcome message comes first.

    Every instant is on the wall clock of *zone*, also in the words of a stored failure.
    """
    follows = in_zone(_follows(record, now, policy, zone), zone)
    if untold is None:
        told = "Phase 5 was told. " if record.state is State.DONE and not record.ignored else ""
        return f"Nothing. {told}{follows}" if told else follows
    return f"{untold_text(untold, now, zone)} A worker tries again every second. {follows}"


def _follows(record: DateRecord, now: datetime, policy: Policy, zone: ZoneInfo) -> str:
    day = record.analysis_date.isoformat()
    taken_back = _taken_back(record)
    match record.state:
        case State.WAITING:
            missing = listed(policy.missing(record), policy.optional)
            return (
                f"Waits for {missing}. Builds as soon as all {len(policy.processors)} report success; at the deadline, "
                f"{_when(record.deadline_at, now, zone)}, a worker probes the tables and falls back to Phase 3 for "
                f"missing rows{taken_back}. To build now: mlfs replay {day} --reason '…'"
            )
        case State.READY:
            if record.wake_at is not None and record.wake_at > now:
                message = record.failure.message if record.failure else ""
                return f"Attempt {record.attempt + 1} starts {_when(record.wake_at, now, zone)}. Last error: {message}"
            return "A worker claims it at once. If it stays like this, no worker is running: mlfs run"
        case State.RUNNING:
            owner = record.lease.owner if record.lease else "unknown"
            until = _when(record.lease.until_at, now, zone) if record.lease else "unknown"
            if record.giving_up and record.failure is not None:
                cancelled = record.failure.because == FailedBecause.CANCELLED
                how = "Cancelled" if cancelled else f"Given up after attempt {record.attempt}:"
                return (
                    f"{how} {record.failure.message}. The date fails as soon as the warehouse's ledger answers and "
                    "shows no publication by an attempt."
                )
            return f"{owner} is building. If it dies, its lease ends {until} and another worker starts again."
        case State.DONE if record.ignored:
            return _next_for_degraded(record, now, policy, zone)
        case State.DONE:
            return f"To build it again: mlfs replay {day} --reason '…'"
        case State.DEGRADED:
            return _next_for_degraded(record, now, policy, zone)
        case State.FAILED:
            return _next_for_failed(record, now, policy, zone)


def _taken_back(record: DateRecord) -> str:
    """Return the retracted tables with the run and the actor; empty without a retracted table."""
    latest = {entry.processor: entry for entry in record.retractions if entry.processor in record.ignored}
    tables = (f"{name} ({entry.identity}, taken back by {entry.actor})" for name, entry in sorted(latest.items()))
    return f"; no build reads what lies in the table: {', '.join(tables)}" if latest else ""


def _next_for_degraded(record: DateRecord, now: datetime, policy: Policy, zone: ZoneInfo) -> str:
    day = record.analysis_date.isoformat()
    replay = f"mlfs replay {day} --reason '…'"
    missing = [name for name in policy.missing(record) if name not in policy.optional]
    doubted = sorted(doubted_processors(record) - {*missing})
    needed = "required " if policy.missing(record) else ""
    if now >= record.upgrade_cutoff_at:
        if not (missing or doubted):
            return f"Nothing by itself: all {needed}completions are in. To build it again: {replay}"
        wrong = ", ".join((*missing, *doubted))
        return f"The upgrade window is closed{_taken_back(record)}. After the repair of {wrong}: {replay}"
    cutoff, named = _when(record.upgrade_cutoff_at, now, zone), ", ".join(doubted)
    runs_again = f"; built again, too, when {named} runs again, because a critical finding names it" if doubted else ""
    if missing:
        by_itself = f"Built again by itself when one of these completes before {cutoff}: {', '.join(missing)}"
        return f"{by_itself}{_taken_back(record)}{_looks(record, policy)}{runs_again}. By hand: {replay}"
    if awaited_tables(record, policy):
        looks = f"{_looks(record, policy)}{runs_again}"
        return f"All {needed}completions are in; built again by itself when rows come{looks}. By hand: {replay}"
    if doubted:
        return (
            f"Built again by itself when {named} runs again before {cutoff}: a critical finding names it. "
            f"By hand: {replay}"
        )
    return f"Nothing by itself: all {needed}completions are in. To build it again: {replay}"


def _looks(record: DateRecord, policy: Policy) -> str:
    """Return the tables probed until the cutoff; empty without a probed table."""
    awaited = ", ".join(sorted(awaited_tables(record, policy)))
    return f"; the worker also looks each minute, from the deadline on, for rows of {awaited}" if awaited else ""


def _next_for_failed(record: DateRecord, now: datetime, policy: Policy, zone: ZoneInfo) -> str:
    replay = f"mlfs replay {record.analysis_date.isoformat()} --reason '…'"
    if record.failure is not None and record.failure.because == FailedBecause.CANCELLED:
        return f"Nothing by itself: a cancelled date waits for a person. To build it: {replay}"
    missing = listed(policy.holding_back(record, now), policy.optional)
    wait = f"Once all have reported, it is built by itself (missing: {missing}). " if missing else ""
    if record.wake_at is not None and record.result is not None:
        cutoff, awaited = _when(record.upgrade_cutoff_at, now, zone), ", ".join(sorted(awaited_tables(record, policy)))
        wait += f"Until {cutoff} the worker probes the tables of {awaited}; new rows upgrade the publication. "
    elif record.wake_at is not None:
        deadline = _when(record.wake_at, now, zone)
        wait += f"At the deadline, {deadline}, it is tried again by itself with what is in the tables then. "
    return f"{wait}After the repair: {replay}"


def _when(instant: datetime, now: datetime, zone: ZoneInfo) -> str:
    """Return wall clock and distance: `23:25 EST (in 12 min)`."""
    return f"{wall_clock(instant, now, zone)} ({distance(instant - now)})"


def wall_clock(instant: datetime, now: datetime, zone: ZoneInfo) -> str:
    """Return an instant on the wall clock of *zone*; add the day if the day differs from the day of *now*."""
    local = instant.astimezone(zone)
    return f"{local:%H:%M %Z}" if local.date() == now.astimezone(zone).date() else f"{local:%Y-%m-%d %H:%M %Z}"


def in_zone(text: str, zone: ZoneInfo) -> str:
    """Return a text with each instant of the text (`2024-12-16 04:25Z`) on the wall clock of *zone*.

    The identity of a run that is an instant becomes `run of 2024-12-15 23:25:00 EST`.
    """

    def local(found: re.Match[str]) -> str:
        if found["option"]:
            return found.group(0)
        offset = "+00:00" if found["offset"] in {"Z", " UTC"} else found["offset"]
        try:
            instant = datetime.fromisoformat(f"{found['day']} {found['minute']}{found['second'] or ''}{offset}")
            there = instant.astimezone(zone)
        except (ValueError, OverflowError):  # the digits are no instant
            return found.group(0)
        run = "run of " if found["run"] else ""
        return run + there.strftime("%Y-%m-%d %H:%M:%S %Z" if found["second"] else "%Y-%m-%d %H:%M %Z")

    return _INSTANT.sub(local, text)


def distance(span: timedelta) -> str:
    """Return a time span in words: `in 12 min`, `3 h ago`."""
    seconds = abs(span.total_seconds())
    if seconds < 90:  # noqa: PLR2004 - below 90 s, minutes would be too coarse
        text = f"{seconds:.0f} s"
    elif seconds < 90 * 60:
        text = f"{seconds / 60:.0f} min"
    elif seconds < 48 * 3600:
        text = f"{seconds / 3600:.0f} h"
    else:
        text = f"{seconds / 86400:.0f} days"
    return f"in {text}" if span.total_seconds() >= 0 else f"{text} ago"


def arrival_text(entry: Mapping[str, Any], zone: ZoneInfo) -> str:
    """Return the line of a processor: status, instant, rows."""
    if entry["status"] == "missing":
        since = datetime.fromisoformat(entry["awaited_since"]).astimezone(zone)
        optional = " (optional)" if entry["optional"] else ""
        return f"not reported{optional}, awaited since {since:%Y-%m-%d %H:%M %Z}"
    if entry["status"] == RETRACTED:
        latest = entry["retractions"][-1]
        at = datetime.fromisoformat(latest["at"]).astimezone(zone)
        run, at_text = in_zone(latest["run"], zone), f"{at:%Y-%m-%d %H:%M:%S %Z}"
        return f"{run} was taken back at {at_text} by {latest['by']}: {latest['reason']}; awaits another run"
    at = datetime.fromisoformat(entry["completed_at"]).astimezone(zone)
    rows = "" if entry["row_count"] is None else f", {entry['row_count']} rows"
    found = " (rows found, no event came)" if entry["status"] == CompletionStatus.FOUND else ""
    error = f": {in_zone(entry['error'], zone)}" if entry["error"] else ""
    return f"{entry['status']} at {at:%Y-%m-%d %H:%M:%S %Z}{rows}{found}{error}"
