"""The shell around one store, and hand-written stand-ins for the outside: the bus, the warehouse, the clock."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from statemachine.model import Policy
from tests.support.nights import CALENDAR, EVENING, POLICY
from worker.adapters.memory_store import MemoryStore
from worker.engine import Engine, Topics
from worker.errors import Fenced, PipelineError, Unavailable
from worker.features.catalogue import BLOCKS, UPSTREAM
from worker.features.model import BuildKey, LedgerRow, Publication, Statement
from worker.observer import Decided, Observer
from worker.ports import OutgoingMessage, StateStore

WORKER = "worker-a"


class ModelClock:
    """A clock that stands still until it is moved."""

    def __init__(self, start: datetime = EVENING) -> None:
        self.instant = start

    def now(self) -> datetime:
        return self.instant

    def forward(self, span: timedelta) -> None:
        self.instant += span


class Notes(Observer):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.decisions: list[Decided] = []
        self.deliveries: list[tuple[str, str]] = []
        self.refusals: list[str] = []
        self.builds: list[tuple[str, str]] = []
        self.published: list[str] = []
        self.not_published: list[str] = []

    def decided(self, decided: Decided) -> None:
        self.decisions.append(decided)

    def received(self, outcome: str, processor: str, seconds: float) -> None:  # noqa: ARG002 - the hook's shape
        self.deliveries.append((outcome, processor))

    def refused(self, reason: str, detail: str) -> None:  # noqa: ARG002 - the hook's shape
        self.refusals.append(reason)

    def built(self, mode: str, result: str, seconds: float) -> None:  # noqa: ARG002 - the hook's shape
        self.builds.append((mode, result))

    def relayed(self, message: OutgoingMessage, message_id: str) -> None:  # noqa: ARG002 - the hook's shape
        self.published.append(message.event_id)

    def relay_failed(self, message: OutgoingMessage, error: str) -> None:  # noqa: ARG002 - the hook's shape
        self.not_published.append(message.event_id)


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
    """A `Warehouse` of one staged night and a real ledger.

    `faults` are raised by the named method, one a call; `meanwhile` runs when a build is staged.
    """

    def __init__(self) -> None:
        self.ledger: dict[date, LedgerRow] = {}
        self.players = 450
        self.published: list[BuildKey] = []
        self.executions: list[Mapping[str, Any]] = []
        self.faults: dict[str, list[PipelineError]] = {}
        self.lose_reply_of_publish = False
        self.meanwhile: Callable[[], None] = lambda: None

    def _may_fail(self, method: str) -> None:
        if self.faults.get(method):
            raise self.faults[method].pop(0)

    def columns(self, table: str) -> Mapping[str, str]:
        self._may_fail("columns")
        return UPSTREAM[table]

    def query(self, statement: Statement) -> Sequence[Mapping[str, Any]]:
        self._may_fail(statement.name)
        return [{"processor": block.processor, "row_count": self.players} for block in BLOCKS]

    def stage(self, key: BuildKey, select: Statement) -> None:  # noqa: ARG002 - the port's shape
        self._may_fail("stage")
        self.meanwhile()

    def query_staged(self, key: BuildKey, statement: Statement) -> Sequence[Mapping[str, Any]]:  # noqa: ARG002
        self._may_fail("query_staged")
        return [self._counts(key.analysis_date)]

    def _counts(self, night: date) -> Mapping[str, Any]:
        counts: dict[str, Any] = {
            "row_count": self.players,
            "left_out_count": 0,
            "required_nulls": 0,
            "newest_source_date": night,
        }
        for block in BLOCKS:
            cells = sum(1 for _ in block.features) if hasattr(block, "features") else 0
            counts[f"{block.name}_players"] = self.players
            counts[f"{block.name}_phase4_cells"] = self.players * cells
            counts[f"{block.name}_phase3_cells"] = 0
        return counts

    def publish(self, publication: Publication) -> None:
        self._may_fail("publish")
        request, report = publication.request, publication.report
        key, night = request.key, request.key.analysis_date
        held = self.ledger.get(night)
        if held is not None and (held.generation, held.attempt) > key.token:
            raise Fenced(f"{night}: the ledger holds generation {held.generation}")
        self.published.append(key)
        self.ledger[night] = LedgerRow(
            analysis_date=night,
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
        )
        if self.lose_reply_of_publish:
            self.lose_reply_of_publish = False
            raise Unavailable("the reply was lost")

    def read_ledger(self, analysis_date: date) -> LedgerRow | None:
        self._may_fail("read_ledger")
        return self.ledger.get(analysis_date)

    def drop_staged(self, key: BuildKey) -> None:
        """There is no staging table."""

    def log_execution(self, row: Mapping[str, Any]) -> None:
        self.executions.append(row)
