"""What pages and commands say of an outcome is read from the outbox, where the outcome waits until the bus took it."""

from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from ops.reports.checks import CheckStatus, check
from ops.reports.facts import OUTBOX_PATIENCE, DateFacts
from ops.reports.next_steps import next_steps
from ops.reports.triage import Diagnosis, diagnose
from statemachine.model import DateRecord, FailureKind, State
from tests.support.memory_store import MemoryStore
from tests.support.nights import (
    CACHE,
    DEADLINE,
    EVENING,
    NIGHT,
    POLICY,
    PROCESSORS,
    REPLAY,
    broke,
    claimed,
    committed,
    degraded,
    done,
    failed,
    success,
)
from tests.support.rigs import Bus, Notes, Rig
from worker.date_text import explanation, what_next
from worker.errors import Fatal
from worker.observing.outbox import Untold, untold_by_date
from worker.pipelines.shipped import SHIPPED
from worker.ports import Commit, OutgoingMessage
from worker.relay import Relay

ZONE = ZoneInfo("America/New_York")
GONE = "ml-feature-store-success: NotFound: 404 Topic not found"


class Stage:
    """A date that was built, and a bus that takes nothing until it is told to."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.bus = Bus()
        self.bus.refuse = lambda _message: True
        self.relay = Relay(store=self.rig.store, publisher=self.bus, observer=Notes())

    def published(self) -> None:
        for name in PROCESSORS:
            self.rig.engine.apply(NIGHT, success(name))
        self.rig.engine.apply(NIGHT, claimed())
        self.rig.engine.apply(NIGHT, committed())

    def next(self) -> str:
        record = self.rig.store.load(NIGHT)
        assert record is not None
        return what_next(record, self.rig.clock.now(), POLICY, ZONE, untold_by_date(self.rig.store).get(NIGHT))


def untold(state: State = State.DONE, error: str = GONE) -> Untold:
    return Untold(event_id=f"p:{NIGHT}:1", topic="success", state=state.value, generation=1, since=EVENING, error=error)


def test_phase_5_was_told_only_once_the_bus_has_confirmed_it() -> None:
    stage = Stage()
    stage.published()
    waiting = stage.next()
    stage.relay.run_once()
    refused = stage.next()
    stage.bus.refuse = lambda _message: False
    stage.relay.run_once()

    assert waiting.startswith(
        "Generation 1 is published; Phase 5 has not been told yet: the outcome waits in the outbox"
    )
    assert "Phase 5 has not been told yet: ml_feature_store_v2:2024-12-15:1 not confirmed; tried since" in refused
    assert "was told" not in waiting + refused
    assert stage.next().startswith("Nothing. Phase 5 was told.")
    assert untold_by_date(stage.rig.store) == {}


@pytest.mark.parametrize(
    ("record", "state", "says"),
    [
        (done(), State.DONE, "Generation 1 is published; Phase 5 has not been told yet"),
        (degraded(CACHE), State.DEGRADED, "Generation 1 is published; Phase 5 has not been told yet"),
        (failed(), State.FAILED, "Generation 1 failed; on call has not been told yet"),
    ],
    ids=["done", "degraded", "failed"],
)
def test_every_state_says_what_is_not_known_outside(record: DateRecord, state: State, says: str) -> None:
    answer = explanation(record, DEADLINE, POLICY, ZONE, untold(state))

    assert answer["next"].startswith(f"{says}: {GONE}; tried since ")
    assert (f"p:{NIGHT}:1", GONE) == (answer["not_told"]["event_id"], answer["not_told"]["error"])
    assert "was told" not in answer["next"]


def test_a_refusal_that_lasts_is_kept_as_one_that_passes() -> None:
    """A topic's schema refuses the outcome, or the topic is gone: the relay goes on, and the pages say why."""
    stage = Stage()
    stage.published()

    class Refusing(Bus):
        def publish(self, message: OutgoingMessage) -> str:
            raise Fatal(f"{message.event_id}: the topic's schema refuses it")

    Relay(store=stage.rig.store, publisher=Refusing(), observer=Notes()).run_once()

    assert "the topic's schema refuses it" in stage.next()


def test_the_newest_outcome_of_a_date_is_named_with_its_topics_error() -> None:
    """The second outcome of a date is not tried while the first is refused."""
    stage = Stage()
    stage.published()
    stage.rig.engine.apply(NIGHT, REPLAY)
    stage.rig.engine.apply(NIGHT, claimed())
    stage.rig.engine.apply(NIGHT, committed(2))
    stage.relay.run_once()

    found = untold_by_date(stage.rig.store)[NIGHT]
    assert (2, "ml_feature_store_v2:2024-12-15:1 not confirmed") == (found.generation, found.error)


def test_what_is_no_outcome_of_a_date_is_passed_over() -> None:
    store = MemoryStore()
    strange = [
        OutgoingMessage(event_id="a", topic="t", data=b"", attributes={}, ordering_key=NIGHT.isoformat()),
        OutgoingMessage(event_id="b", topic="t", data=b"", attributes={"generation": "1"}, ordering_key="no date"),
    ]
    store.commit(Commit(record=replace(done(), version=1), operation_id="o", messages=strange))

    assert untold_by_date(store) == {}


def facts(record: DateRecord, waits: timedelta, error: str = GONE) -> DateFacts:
    return DateFacts(record=record, now=EVENING + waits, pipeline=SHIPPED, untold=untold(error=error))


def seen(record: DateRecord, waits: timedelta) -> Diagnosis:
    return diagnose(facts(record, waits))


def test_an_incident_begins_when_nobody_is_told_for_longer_than_a_moment() -> None:
    early, late = (seen(done(), waits) for waits in (OUTBOX_PATIENCE, OUTBOX_PATIENCE + timedelta(seconds=1)))

    assert (None, "P0") == (early.severity, late.severity)
    assert f"has not been told yet since {EVENING:%Y-%m-%d %H:%M:%S}Z: {GONE}" in "\n".join(early.symptoms)
    assert (None, True) == (late.scenario, "does not take the outcome message" in late.why)
    commands = [command for command, _purpose in next_steps(facts(done(), 2 * OUTBOX_PATIENCE), late)]
    assert "mlfs doctor" in commands
    assert not any(command.startswith("mlfs replay") for command in commands)


def test_the_daily_check_names_what_the_bus_answered() -> None:
    for waits, status in ((OUTBOX_PATIENCE, CheckStatus.AMBER), (2 * OUTBOX_PATIENCE, CheckStatus.RED)):
        [told] = [one for one in check(facts(done(), waits)) if one.name == "phase 5"]
        assert (status, f"not told yet: {GONE}") == (told.status, told.figure)


# --- what a failure takes from consumers -----------------------------------------------------------------------------


def replay_failed() -> Rig:
    """A published date whose replay found no rows."""
    stage = Stage()
    stage.published()
    for event in (REPLAY, claimed(), broke(FailureKind.NO_DATA, generation=2)):
        stage.rig.engine.apply(NIGHT, event)
    return stage.rig


def test_a_failed_replay_of_a_published_date_pages_nobody() -> None:
    rig = replay_failed()
    record = rig.store.load(NIGHT)
    assert record is not None
    assert (State.FAILED, 1) == (record.state, record.published_generation)
    [_published, told] = [entry.message for entry in rig.store.outbox(10)]

    assert explanation(record, DEADLINE, POLICY, ZONE, None)["severity"] == "P3"
    assert b'"severity":"P3"' in told.data
    found = diagnose(DateFacts(record=record, now=DEADLINE, pipeline=SHIPPED))
    assert found.severity == "P3"
    assert "consumers still read" in "\n".join(found.symptoms)


def test_a_failed_upgrade_leaves_the_severity_of_what_is_read() -> None:
    record = replace(failed(), result=degraded(CACHE).result, generation=2)
    assert record.result is not None

    for earned, severity in (("P1", "P1"), ("P2", "P2"), ("P3", "P3"), (None, "P3")):
        worth = replace(record, result=replace(record.result, severity=earned))
        assert explanation(worth, DEADLINE, POLICY, ZONE, None)["severity"] == severity


def test_a_date_that_failed_without_any_publication_is_p0() -> None:
    assert explanation(failed(), DEADLINE, POLICY, ZONE, None)["severity"] == "P0"
