"""One night as values: its instants, its reports, and the events that a worker would send. No clock anywhere."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from zoneinfo import ZoneInfo

from statemachine.decide import Decision, decide
from statemachine.events import (
    BuildClaimed,
    BuildCommitted,
    BuildFailed,
    CompletionReceived,
    CompletionRetracted,
    Event,
    ReplayRequested,
    TimerFired,
)
from statemachine.model import (
    BuildResult,
    Completion,
    CompletionStatus,
    DateRecord,
    FailureKind,
    Finding,
    FindingSeverity,
    Policy,
    State,
)
from worker.calendar import Calendar, WallClock

NIGHT = date(2024, 12, 15)
MORNING = datetime(2024, 12, 15, 15, 0, tzinfo=UTC)
EVENING = datetime(2024, 12, 16, 4, 0, tzinfo=UTC)
DEADLINE = datetime(2024, 12, 16, 4, 25, tzinfo=UTC)
CUTOFF = datetime(2024, 12, 16, 4, 50, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)

DEFENSE, SHOTS, FACTORS, CACHE = PROCESSORS = (
    "team_defense_zone_analysis",
    "player_shot_zone_analysis",
    "player_composite_factors",
    "player_daily_cache",
)
POLICY = Policy(processors=PROCESSORS)
EVERY_TABLE_FILLED = dict.fromkeys(PROCESSORS, 400)
NO_ROWS = dict.fromkeys(PROCESSORS, 0)

CALENDAR = Calendar(
    zone=ZoneInfo("America/New_York"),
    deadline=WallClock.read("23:25"),
    upgrade_cutoff=WallClock.read("23:50"),
    season_start=(10, 15),
    season_end=(6, 30),
    skip_dates=frozenset(),
    drain_grace=timedelta(seconds=20),
    catch_up_days=7,
)


def unseen(night: date = NIGHT) -> DateRecord:
    """The record of a date nobody has heard of yet."""
    return CALENDAR.fresh_record(night, MORNING)


def completion(
    processor: str,
    status: CompletionStatus = CompletionStatus.SUCCESS,
    *,
    run: str = "1",
    at: datetime = EVENING,
    rows: int | None = 400,
) -> Completion:
    return Completion(
        processor=processor, status=status, identity=f"run:{run}", completed_at=at, received_at=at, row_count=rows
    )


def success(processor: str, *, run: str = "1", at: datetime = EVENING) -> CompletionReceived:
    return CompletionReceived(completion=completion(processor, run=run, at=at))


def failure(processor: str, *, run: str = "1", at: datetime = EVENING) -> CompletionReceived:
    return CompletionReceived(completion=completion(processor, CompletionStatus.FAILED, run=run, at=at, rows=None))


def result(
    generation: int = 1,
    attempt: int = 1,
    state: State = State.DONE,
    *,
    rows: Mapping[str, int] | None = None,
    findings: tuple[Finding, ...] = (),
) -> BuildResult:
    done = state is State.DONE
    return BuildResult(
        generation=generation,
        attempt=attempt,
        state=state,
        row_count=450,
        quality_score=99.9 if done else 82.0,
        component_total=99.9 if done else 70.5,
        components={"phase4_availability": 40.0 if done else 20.0},
        fallback_rate=0.0 if done else 0.5,
        missing_rate=0.0,
        severity=None if done else "P2",
        dependency_rows=dict(EVERY_TABLE_FILLED if rows is None else rows),
        left_out=3,
        committed_at=DEADLINE,
        duration_s=1.5,
        findings=findings,
    )


def finding(processor: str = "", severity: FindingSeverity = FindingSeverity.CRITICAL) -> Finding:
    """A reason to doubt the rows of *processor*."""
    return Finding(
        check="claimed_rows_differ",
        severity=severity,
        subject=processor or "the schedule",
        observed="the table holds 1 rows",
        expected="400 rows, by the event of the processor",
        next_step="run the processor again",
        processor=processor,
    )


def claimed(worker: str = "worker-a", ledger_claim: tuple[int, int] | None = (0, 0)) -> BuildClaimed:
    return BuildClaimed(worker=worker, ledger_claim=ledger_claim)


def committed(
    generation: int = 1,
    attempt: int = 1,
    state: State = State.DONE,
    *,
    rows: Mapping[str, int] | None = None,
    findings: tuple[Finding, ...] = (),
) -> BuildCommitted:
    return BuildCommitted(result=result(generation, attempt, state, rows=rows, findings=findings))


def broke(kind: FailureKind, generation: int = 1, attempt: int = 1, message: str = "it broke") -> BuildFailed:
    return BuildFailed(generation=generation, attempt=attempt, failure=kind, message=message)


def probed(rows: Mapping[str, int] = NO_ROWS) -> TimerFired:
    return TimerFired(probe=dict(rows))


def closed(generation: int = 1) -> TimerFired:
    """The ledger was closed to the generation, and held no commit of it."""
    return TimerFired(closed_generation=generation)


def retract(processor: str, *, run: str = "1", rebuild: bool = False, request_id: str = "") -> CompletionRetracted:
    """A person takes back what a run announced."""
    return CompletionRetracted(
        processor=processor,
        identity=f"run:{run}",
        actor="ana",
        reason="it wrote last week's rows",
        rebuild=rebuild,
        request_id=request_id,
    )


REPLAY = ReplayRequested(actor="ana", reason="bad rows upstream")


def told(record: DateRecord, event: Event, now: datetime = EVENING, policy: Policy = POLICY) -> Decision:
    """What the core decides about one event."""
    return decide(record, event, now=now, policy=policy)


def after(record: DateRecord, *events: Event, now: datetime = EVENING, policy: Policy = POLICY) -> DateRecord:
    """The record after all *events* at one instant."""
    return reduce(lambda before, event: told(before, event, now, policy).record, events, record)


def waiting(*processors: str) -> DateRecord:
    """A date that waits, with successes of *processors*."""
    return after(unseen(), *(success(name) for name in processors or PROCESSORS[:1]))


def joined() -> DateRecord:
    """A date made ready by its fourth success."""
    return waiting(*PROCESSORS)


def retracted(processor: str = DEFENSE) -> DateRecord:
    """A date that waits for another run of *processor*, whose first one was taken back."""
    return after(waiting(processor), retract(processor))


def running() -> DateRecord:
    """A joined date that worker-a builds since EVENING."""
    return after(joined(), claimed())


def done() -> DateRecord:
    return after(running(), committed())


def without(*missing: str) -> dict[str, int]:
    """Rows in each table, none in those of *missing*."""
    return {name: 0 if name in missing else 400 for name in PROCESSORS}


def past_deadline(*missing: str) -> DateRecord:
    """A date made ready by its deadline, without the success or rows of *missing*."""
    present = [success(name) for name in PROCESSORS if name not in missing]
    return after(after(unseen(), *present), probed(without(*missing)), now=DEADLINE)


def fallback_running(*missing: str) -> DateRecord:
    return after(past_deadline(*missing), claimed(), now=DEADLINE)


def degraded(*missing: str) -> DateRecord:
    """A date published at its deadline without *missing*."""
    rows = without(*missing)
    return after(fallback_running(*missing), committed(state=State.DEGRADED, rows=rows), now=DEADLINE)


def doubted(*processors: str, severity: FindingSeverity = FindingSeverity.CRITICAL) -> DateRecord:
    """A joined date, published as degraded because a finding names each of *processors*."""
    findings = tuple(finding(name, severity) for name in processors)
    return after(running(), committed(state=State.DEGRADED, findings=findings))


def failed(kind: FailureKind = FailureKind.GATE_REFUSED, *missing: str) -> DateRecord:
    """A date whose fallback build ended without a commit."""
    ended = after(fallback_running(*(missing or (CACHE,))), broke(kind), now=DEADLINE)
    return after(ended, closed(), now=DEADLINE)


def evening_zone(now: datetime) -> str:
    """Name a zone in which it is evening: the league's day neither begins nor ends while the night is played."""
    ahead = (20 - now.hour + 11) % 24 - 11
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/GMT"
