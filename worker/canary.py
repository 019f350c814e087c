"""Canary: a synthetic journey every five minutes through topic, state store, sweep and warehouse.

Model: the sweep begins a journey and publishes a message to the topic of the completions. Any worker receives the
message and stores a completion of the canary's only processor, by the engine and the store of the analysis dates. The
next sweep fires the timer of the record, claims the build, and the build writes, reads and deletes a row in the
warehouse. The commit of the record ends the journey. `Step` names the steps, and `Canary.ages` the age of each.

Guarantees: the canary has keys of its own in the store, and outcomes of the canary stay there, so no page, metric of a
date or consumer meets the canary. The row in the warehouse has a reason to be left out and no ledger row, so no view
shows the row. The sweep waits for neither the bus nor the warehouse, and no error of the canary ends a sweep.

Of several replicas one begins each journey, and any replica continues. After a crash at any step the next journey is
received, decided and built like the first; the next build also deletes the row of a build that died.
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

import structlog

from schemas.completion import Delivery
from statemachine.events import BuildClaimed, BuildCommitted, BuildFailed, CompletionReceived, TimerFired
from statemachine.model import (
    BuildResult,
    Completion,
    CompletionStatus,
    DateRecord,
    FailureKind,
    OnRerun,
    Policy,
    State,
)
from statemachine.reasons import Reason
from worker.engine import Engine
from worker.errors import CorruptRecord, PipelineError, Unavailable
from worker.features.model import BuildKey, Statement
from worker.features.plan import plan_of
from worker.ports import Clock, OutgoingMessage, Publisher, RequestLog, StateStore, Warehouse

log = structlog.get_logger(__name__)

CANARY_DATE = date(1900, 1, 1)
"""Analysis date of every journey; no league played."""

CANARY = "mlfs-canary"
"""Attribute of the messages, with the name of the pipeline; also the processor of the canary's completion."""

CANARY_KEYS = "canary"
"""Part of the names of the canary's keys in the state store."""

EVERY = timedelta(minutes=5)
# The next try after an error of the warehouse, and no limit of tries: the journey ends when the warehouse is back.
CANARY_POLICY = Policy(
    processors=(CANARY,), attempts_max=1_000_000_000, retry_delay=timedelta(minutes=1), rerun=OnRerun.REBUILD
)
OUTBOX_BATCH_MAX = 100
_ORDER = timedelta(milliseconds=1)

RunAside = Callable[[date, Callable[[], None]], bool]


class Step(StrEnum):
    """Step of a journey, in this order. A label of metrics, so the set is closed."""

    SWEPT = "swept"
    """A sweep began the journey."""
    PUBLISHED = "published"
    """The bus confirmed the message."""
    RECEIVED = "received"
    """The message arrived at a worker."""
    STORED = "stored"
    """The state store took the completion."""
    DECIDED = "decided"
    """A sweep fired the timer, and the build was claimed."""
    BUILT = "built"
    """The warehouse wrote, read and deleted the row, and the state store took the result: the end of the journey."""


def instants_of(record: DateRecord) -> Mapping[Step, datetime]:
    """Return the last instant (UTC) of each step that a stored record of the canary shows."""
    found: dict[Step, datetime] = {}
    if (completion := record.completions.get(CANARY)) is not None:
        found |= {Step.PUBLISHED: completion.completed_at, Step.RECEIVED: completion.received_at}
        found[Step.STORED] = completion.received_at
    if (result := record.result) is not None:
        found |= {
            Step.DECIDED: result.committed_at - timedelta(seconds=result.duration_s),
            Step.BUILT: result.committed_at,
        }
    if record.lease is not None:
        found[Step.DECIDED] = record.lease.claimed_at
    return MappingProxyType(found)


def try_warehouse(warehouse: Warehouse, key: BuildKey, at: datetime) -> None:
    """Write a row that no view shows, read the row, and delete the row with the rows of builds that died.

    Raises:
        Unavailable: The warehouse does not answer, or the row is not there: another build of the canary deleted it.
        Fatal: The warehouse refuses a statement.
    """
    pipeline, day = warehouse.pipeline, {"analysis_date": key.analysis_date}
    build = {**day, "build_id": key.build_id}
    values = {**build, "build_generation": key.generation, "built_at": at}
    warehouse.stage(key, plan_of("canary", values, pipeline))
    found = len(warehouse.query(plan_of("left_out", build, pipeline)))
    deleted = warehouse.delete_rows(Statement(name="clear_canary", sql=pipeline.text("clear_canary"), parameters=day))
    if not (found and deleted):
        raise Unavailable(f"{key.build_id}: {found} rows of the canary were read, {deleted} deleted")


class Canary:
    """The canary's part of a process. Thread-safe."""

    def __init__(  # noqa: PLR0913 - one collaborator each
        self,
        *,
        engine: Engine,
        store: StateStore,
        requests: RequestLog,
        publisher: Publisher,
        topic: str,
        warehouse: Warehouse,
        clock: Clock,
        worker: str,
        publish_aside: RunAside,
        build_aside: RunAside,
    ) -> None:
        """Store the collaborators; until the first journey each step counts as taken now.

        Args:
            engine: Engine with `CANARY_POLICY` on *store*.
            store: Store with keys of the canary's own.
            requests: Log by which one replica begins a journey.
            publisher: Publisher of the bus.
            topic: Topic of the completions.
            warehouse: Warehouse of the builds.
            clock: The store's clock.
            worker: Name of the process.
            publish_aside: Runs a publication on a separate thread.
            build_aside: Runs a build on a separate thread.
        """
        self._engine = engine
        self._store = store
        self._requests = requests
        self._publisher = publisher
        self._topic = topic
        self._warehouse = warehouse
        self._clock = clock
        self._worker = worker
        self._publish_aside = publish_aside
        self._build_aside = build_aside
        self._begun = -1
        self._lock = threading.Lock()
        self._seen = dict.fromkeys(Step, clock.now())

    def ages(self) -> Mapping[str, float]:
        """Return the seconds since each step was last taken, in the order of the steps.

        The step at which journeys stop is the oldest: each earlier step was taken again. Equal instants keep the order
        of the steps.
        """
        now = self._clock.now()
        return {
            step: max(0.0, (now - self._seen[step] - place * _ORDER).total_seconds()) for place, step in enumerate(Step)
        }

    def run_once(self) -> None:
        """Begin a journey if one is due, and continue the journey in the store; called by each sweep."""
        try:
            self._begin()
            self._continue()
        except CorruptRecord as exc:
            log.warning("canary_record_set_aside", error=str(exc))
            self._store.quarantine(CANARY_DATE)
        except PipelineError as exc:
            log.warning("canary_postponed", kind=type(exc).__name__, error=str(exc))

    def receive(self, delivery: Delivery) -> None:
        """Store the completion of a message of the canary; ignore the message of another pipeline's canary.

        Raises:
            Unavailable: The state store does not answer.
        """
        if delivery.attributes[CANARY] != self._warehouse.pipeline.name:
            return
        now = self._clock.now()
        self._note({Step.RECEIVED: now})
        completion = Completion(
            processor=CANARY,
            status=CompletionStatus.SUCCESS,
            identity=f"message:{delivery.message_id}",
            completed_at=min(delivery.published_at, now),
            received_at=now,
            message_id=delivery.message_id,
        )
        self._note(instants_of(self._engine.apply(CANARY_DATE, CompletionReceived(completion=completion)).record))

    def _note(self, instants: Mapping[Step, datetime]) -> None:
        with self._lock:
            for step, at in instants.items():
                self._seen[step] = max(self._seen[step], at)

    def _begin(self) -> None:
        now = self._clock.now()
        number = int(now.timestamp() // EVERY.total_seconds())
        if number == self._begun:
            return
        self._begun = number
        self._note({Step.SWEPT: now})
        self._publish_aside(CANARY_DATE, lambda: self._publish(number))

    def _publish(self, number: int) -> None:
        """Publish the message of a journey, unless another replica does."""
        try:
            if self._requests.begin(f"canary:{number}", CANARY, 2 * EVERY) is not None:
                return
        except PipelineError as exc:
            # A second message does no harm, and the journey shows at which step the store is away.
            log.warning("canary_published_without_store", error=str(exc))
        pipeline = self._warehouse.pipeline.name
        message = OutgoingMessage(
            event_id=f"canary:{number}",
            topic=self._topic,
            data=b"The canary of a worker: no completion. Workers acknowledge the message.",
            attributes={CANARY: pipeline},
        )
        try:
            self._publisher.publish(message)
        except PipelineError as exc:
            log.warning("canary_not_published", topic=self._topic, kind=type(exc).__name__, error=str(exc))
            return
        self._note({Step.PUBLISHED: self._clock.now()})

    def _continue(self) -> None:
        record = self._store.load(CANARY_DATE)
        if record is None:
            return
        self._note(instants_of(record))
        if record.wake_at is None or self._clock.now() < record.wake_at:
            return
        if self._engine.apply(CANARY_DATE, TimerFired()).reason is Reason.BUILD_DUE:
            self._build_aside(CANARY_DATE, self._build)

    def _build(self) -> None:
        try:
            self._claim_and_build()
        except PipelineError as exc:
            log.warning("canary_not_built", kind=type(exc).__name__, error=str(exc))

    def _claim_and_build(self) -> None:
        claimant, begun_at = uuid.uuid4().hex, self._clock.now()
        claimed = self._engine.apply(CANARY_DATE, BuildClaimed(worker=self._worker, claimant=claimant))
        if claimed.reason is not Reason.CLAIMED:
            return
        record = claimed.record
        self._note(instants_of(record))
        key = BuildKey(analysis_date=CANARY_DATE, generation=record.generation, attempt=record.attempt)
        try:
            try_warehouse(self._warehouse, key, begun_at)
        except PipelineError as exc:
            log.warning("canary_not_built", kind=type(exc).__name__, error=str(exc))
            failed = BuildFailed(
                generation=key.generation,
                attempt=key.attempt,
                claimant=claimant,
                failure=FailureKind.UNAVAILABLE,
                message=str(exc),
            )
            self._engine.apply(CANARY_DATE, failed)
            return
        committed = BuildCommitted(result=_result(key, begun_at, self._clock.now()), claimant=claimant)
        self._note(instants_of(self._engine.apply(CANARY_DATE, committed).record))
        for entry in self._store.outbox(OUTBOX_BATCH_MAX):
            # No relay reads this outbox: an outcome of the canary is for no consumer.
            self._store.remove_from_outbox(entry.entry_id)


def _result(key: BuildKey, begun_at: datetime, ended_at: datetime) -> BuildResult:
    return BuildResult(
        generation=key.generation,
        attempt=key.attempt,
        state=State.DONE,
        row_count=0,
        quality_score=0.0,
        component_total=0.0,
        components={},
        fallback_rate=0.0,
        missing_rate=0.0,
        severity=None,
        dependency_rows={},
        left_out=1,
        committed_at=ended_at,
        duration_s=(ended_at - begun_at).total_seconds(),
    )
