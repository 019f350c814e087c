"""The shell around one store, and hand-written stand-ins for the outside: the bus, the warehouse, the clock."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from statemachine.model import Policy
from tests.support.generation_rows import AGREED_GAMES
from tests.support.memory_store import MemoryStore
from tests.support.nights import CALENDAR, EVENING, EVERY_TABLE_FILLED, POLICY
from worker.engine import Engine, Topics
from worker.errors import Fatal, Fenced, PipelineError, Unavailable
from worker.features.arrivals import Arrival
from worker.features.model import BuildKey, BuildPhase, LedgerRow, Publication, Statement
from worker.observing.observer import (
    BuildEnded,
    DeadLetterTopicChecked,
    Decided,
    MessageParked,
    Notice,
    OutcomeRelayed,
    PhaseEnded,
    PullingPaused,
    Received,
    StreamOpened,
    StreamProbed,
    StreamRecycled,
)
from worker.pipelines.shipped import BLOCKS, SHIPPED, features_of
from worker.ports import OutgoingMessage, StateStore
from worker.repair import Repair

WORKER = "worker-a"


class ModelClock:
    """A clock that stands still until it is moved."""

    def __init__(self, start: datetime = EVENING) -> None:
        self.instant = start

    def now(self) -> datetime:
        return self.instant

    def follow(self) -> None:
        """Nothing: it follows nobody."""

    def forward(self, span: timedelta) -> None:
        self.instant += span


class Notes:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.decisions: list[Decided] = []
        self.deliveries: list[tuple[str, str]] = []
        self.refusals: list[str] = []
        self.dead_letter_topics: list[tuple[str, bool]] = []
        self.builds: list[tuple[str, str]] = []
        self.phases: list[tuple[BuildPhase, float]] = []
        self.published: list[str] = []
        self.not_published: list[str] = []
        self.recycles: list[str] = []
        self.answers: list[str] = []
        self.pauses: list[bool] = []
        self.openings = 0

    def note(self, notice: Notice) -> None:  # noqa: C901 - one case for each notice
        match notice:
            case Decided():
                self.decisions.append(notice)
            case Received():
                self.deliveries.append((notice.outcome, notice.processor))
            case MessageParked():
                self.refusals.append(notice.reason)
            case DeadLetterTopicChecked():
                self.dead_letter_topics.append((notice.topic, notice.fault is not None))
            case BuildEnded():
                self.builds.append((notice.mode, notice.result))
            case PhaseEnded():
                self.phases.append((notice.phase, notice.seconds))
            case OutcomeRelayed():
                relayed = self.published if notice.confirmed else self.not_published
                relayed.append(notice.message.event_id)
            case StreamOpened():
                self.openings += notice.times
            case StreamRecycled():
                self.recycles.append(notice.reason)
            case StreamProbed():
                self.answers.append(notice.answer)
            case PullingPaused():
                self.pauses.append(notice.paused)


@dataclass
class Rig:
    """An engine over a store, with everything it tells others."""

    store: StateStore = field(default_factory=MemoryStore)
    clock: ModelClock = field(default_factory=ModelClock)
    policy: Policy = POLICY
    worker: str = WORKER
    notes: Notes = field(default_factory=Notes)
    started: list[date] = field(default_factory=list)
    outbox_calls: list[datetime] = field(default_factory=list)
    keep_finished: timedelta | None = None

    def __post_init__(self) -> None:
        self.engine = Engine(
            store=self.store,
            policy=self.policy,
            calendar=CALENDAR,
            clock=self.clock,
            pipeline="ml_feature_store_v2",
            topics=Topics(success="success", failure="failure"),
            worker=self.worker,
            keep_finished=self.keep_finished,
            start_build=self.started.append,
            outbox_filled=lambda: self.outbox_calls.append(self.clock.now()),
            observer=self.notes,
        )


class Bus:
    """A `Publisher` that keeps what it confirmed; `refuse` says which message it does not."""

    def __init__(self) -> None:
        self.confirmed: list[OutgoingMessage] = []
        self.refuse: Callable[[OutgoingMessage], bool] = lambda _message: False

    def publish(self, message: OutgoingMessage) -> str:
        if self.refuse(message):
            raise Unavailable(f"{message.event_id} not confirmed")
        self.confirmed.append(message)
        return str(len(self.confirmed))

    def close(self) -> None:
        """Nothing to release."""


class LedgerWarehouse:
    """What a build needs of a `Warehouse`: tables of 450 players, and a ledger that fences like the real one.

    `rows` says how many rows each Phase 4 table holds; where it holds none, Phase 3 has every cell. `faults` are raised
    by the named method or statement, one a call. `meanwhile` runs once, when a build is staged or arrivals are stored.
    """

    pipeline = SHIPPED

    def __init__(self) -> None:
        self.ledger: dict[date, LedgerRow] = {}
        self.claims: dict[date, tuple[int, int, str]] = {}
        self.rows: dict[str, int] = dict(EVERY_TABLE_FILLED)
        self.players = 450
        self.left_out = 0
        self.published: list[BuildKey] = []
        self.executions: list[Mapping[str, Any]] = []
        self.refused: list[Mapping[str, Any]] = []
        self.audits: list[Mapping[str, Any]] = []
        self.arrivals: dict[tuple[date, str, str, str], Arrival] = {}
        self.refused_nights: set[date] = set()
        self.statements: list[Statement] = []
        self.ignored: set[str] = set()
        self.faults: dict[str, list[PipelineError]] = {}
        self.lose_reply_of_publish = False
        self.meanwhile: Callable[[], object] = lambda: None

    def _may_fail(self, method: str) -> None:
        if self.faults.get(method):
            raise self.faults[method].pop(0)

    def prepare_builds(self) -> None:
        """Nothing to make ready."""

    def columns(self, table: str) -> Mapping[str, str]:
        self._may_fail("columns")
        return SHIPPED.readable[table]

    def columns_of(self, tables: Collection[str]) -> Mapping[str, Mapping[str, str]]:
        return {table: self.columns(table) for table in tables}

    def query(self, statement: Statement) -> Sequence[Mapping[str, Any]]:
        self._may_fail(statement.name)
        self.statements.append(statement)
        if statement.name == "retractions":
            return [row for row in self.audits if row["mode"] == "retract"]
        if statement.name in {"arrivals", "publications", "left_out", "profile", "profile_nights", "profile_of_build"}:
            return []
        if statement.name == "build_stats":
            return [self._counts(statement.parameters["analysis_date"])]
        return [{"processor": name, "row_count": count} for name, count in self.rows.items()]

    def query_all(self, statements: Sequence[Statement]) -> Sequence[Sequence[Mapping[str, Any]] | PipelineError]:
        return [self._answer(statement) for statement in statements]

    def _answer(self, statement: Statement) -> Sequence[Mapping[str, Any]] | PipelineError:
        try:
            return self.query(statement)
        except PipelineError as exc:
            return exc

    def stage(self, key: BuildKey, select: Statement) -> None:  # noqa: ARG002 - the port's shape
        self._may_fail("stage")
        self.statements.append(select)
        self.ignored = {block.processor for block in BLOCKS if not select.parameters.get(f"use_{block.name}", True)}
        happens, self.meanwhile = self.meanwhile, lambda: None
        happens()

    def _counts(self, night: date) -> Mapping[str, Any]:
        counts: dict[str, Any] = {
            "row_count": self.players,
            "left_out_count": self.left_out,
            "required_nulls": 0,
            "newest_source_date": night,
            **AGREED_GAMES,
        }
        for block in BLOCKS:
            cells = self.players * len(features_of(block.name))
            from_phase4 = self.rows[block.processor] > 0 and block.processor not in self.ignored
            counts[f"{block.name}_players"] = self.players
            counts[f"{block.name}_phase4_cells"] = cells if from_phase4 else 0
            counts[f"{block.name}_phase3_cells"] = 0 if from_phase4 else cells
        return counts

    def claim(self, key: BuildKey, at: datetime, claimant: str) -> None:  # noqa: ARG002 - the port's shape
        self._may_fail("claim")
        self._check_fence(key, claimant)
        self.claims[key.analysis_date] = (*key.token, claimant)

    def claimed_token(self, analysis_date: date) -> tuple[int, int]:
        self._may_fail("claimed_token")
        return self.claims.get(analysis_date, (0, 0, ""))[:2]

    def _check_fence(self, key: BuildKey, claimant: str) -> None:
        held = self.ledger.get(key.analysis_date)
        if held is not None and held.generation >= key.generation:
            raise Fenced(f"{key.build_id}: {held.build_id} is committed already")
        generation, attempt, holder = self.claims.get(key.analysis_date, (0, 0, ""))
        if (generation, attempt) > key.token or ((generation, attempt) == key.token and holder != claimant):
            raise Fenced(f"{key.build_id}: {holder} has the date")

    def publish(self, publication: Publication) -> None:
        self._may_fail("publish")
        key = publication.request.key
        self._check_fence(key, publication.request.claimant)
        self.published.append(key)
        self.ledger[key.analysis_date] = ledger_row(publication)
        if self.lose_reply_of_publish:
            self.lose_reply_of_publish = False
            raise Unavailable("the reply was lost")

    def read_ledger(self, analysis_date: date) -> LedgerRow | None:
        self._may_fail("read_ledger")
        return self.ledger.get(analysis_date)

    def log_execution(self, row: Mapping[str, Any]) -> None:
        self._may_fail("log_execution")
        self.executions.append(row)

    def log_history(self, row: Mapping[str, Any]) -> None:
        self._may_fail("log_history")
        self.refused.append(row)

    def log_replay(self, row: Mapping[str, Any]) -> None:
        self._may_fail("log_replay")
        self.audits.append(row)

    def record_arrivals(self, arrivals: Sequence[Arrival]) -> None:
        self._may_fail("record_arrivals")
        if self.refused_nights & {arrival.analysis_date for arrival in arrivals}:
            raise Fatal("a row is refused")
        self.arrivals = {arrival.identity: arrival for arrival in arrivals} | self.arrivals
        happens, self.meanwhile = self.meanwhile, lambda: None
        happens()


def ledger_row(publication: Publication) -> LedgerRow:
    request, report, key = publication.request, publication.report, publication.request.key
    return LedgerRow(
        analysis_date=key.analysis_date,
        generation=key.generation,
        attempt=key.attempt,
        build_id=key.build_id,
        state=report.earned_state,
        row_count=report.row_count,
        quality_score=report.quality_score,
        component_total=report.component_total,
        components=report.components,
        fallback_rate=report.fallback_rate,
        missing_rate=report.missing_rate,
        severity=report.severity,
        dependency_rows=publication.stats.dependency_rows,
        left_out=publication.stats.left_out_count,
        started_at=request.started_at,
        committed_at=publication.committed_at,
        findings=report.findings,
    )


def repair_of(rig: Rig, warehouse: LedgerWarehouse | None = None) -> Repair:
    ledger = warehouse or LedgerWarehouse()
    return Repair(engine=rig.engine, store=rig.store, clock=rig.clock, warehouse=ledger)
