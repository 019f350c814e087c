"""Dead letters on the local Pub/Sub server: shown without loss, sent again as they were, whoever put them there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from schemas.completion import Delivery
from schemas.dead_letter import UNDELIVERED
from tests.support.nights import CACHE, EVENING, PROCESSORS
from tests.support.programs import Program
from tests.support.rigs import Rig, repair_of
from worker.adapters.pubsub.connection import ensure_topology, plain_publisher_client, subscriber_client
from worker.adapters.pubsub.dead_letters import DeadLetterSubscription
from worker.adapters.pubsub.publish import PubSubPublisher
from worker.dead_letters import PAUSE_S, Selection, looking, plan_redrive, redrive
from worker.errors import Fatal, Unavailable
from worker.intake import Intake, Verdict
from worker.local.pubsub.server import PubSubServer

PROJECT = "nba-props-platform"
TOPIC, DEAD, WORKER = "phase4-processor-success", "phase4-processor-success-dlq", "ml-feature-store-worker"
QUIET_S = 0.2


@dataclass
class Night:
    """A bus with the product's topics, and an intake that is handed what waits in the worker's subscription."""

    address: str

    def __post_init__(self) -> None:
        self.publisher = PubSubPublisher(PROJECT, self.address)
        self.rig = Rig()
        self.processors = PROCESSORS
        self.seconds = 0.0
        self.dead_letters = DeadLetterSubscription(
            project=PROJECT,
            subscription=f"{DEAD}-parked",
            source_topic=TOPIC,
            local_address=self.address,
            quiet_s=QUIET_S,
        )

    def send(self, data: bytes, **attributes: str) -> str:
        client = plain_publisher_client(self.address)
        request = {"topic": client.topic_path(PROJECT, TOPIC), "messages": [{"data": data, "attributes": attributes}]}
        answer = client.publish(request=request, timeout=10)
        client.transport.close()
        return str(answer.message_ids[0])

    def intake(self) -> Intake:
        return Intake(
            engine=self.rig.engine,
            store=self.rig.store,
            repair=repair_of(self.rig),
            dead_letters=self.publisher,
            dead_letter_topic=DEAD,
            processors=self.processors,
            earliest=date(2000, 1, 1),
            clock=self.rig.clock,
            observer=self.rig.notes,
            stopwatch=lambda: self.seconds,
        )

    def work(self) -> list[Delivery]:
        """Hand the intake what waits, as the worker does, and give what it was."""
        intake = self.intake()
        with subscriber_client(self.address) as client:
            path = client.subscription_path(PROJECT, WORKER)
            answer = client.pull(request={"subscription": path, "max_messages": 50}, timeout=10)
            deliveries = []
            for item in answer.received_messages:
                message = item.message
                delivery = Delivery(
                    data=message.data,
                    attributes=dict(message.attributes),
                    message_id=message.message_id,
                    published_at=message.publish_time,
                )
                assert intake.handle(delivery) is Verdict.ACK
                client.acknowledge(request={"subscription": path, "ack_ids": [item.ack_id]}, timeout=10)
                deliveries.append(delivery)
        return deliveries

    def shown(self) -> list[tuple[str, int]]:
        with looking(self.dead_letters, 100) as look:
            return [(held.letter.reason, held.letter.redriven) for held in look.held]

    def redrive_all(self) -> int:
        with looking(self.dead_letters, 100) as look:
            return redrive(self.dead_letters, look.held).removed

    def close(self) -> None:
        self.publisher.close()
        self.dead_letters.close()


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    with PubSubServer(tmp_path / "journal.sqlite") as server:
        ensure_topology(
            server.address,
            PROJECT,
            topics=(TOPIC, DEAD),
            subscriptions={WORKER: TOPIC, f"{DEAD}-parked": DEAD},
            at_once=frozenset({f"{DEAD}-parked"}),
        )
        night = Night(server.address)
        yield night
        night.close()


def received(data: bytes) -> Delivery:
    return Delivery(data=data, attributes={"tenant": "nba"}, message_id=data.decode()[:20], published_at=EVENING)


@contextmanager
def admin(address: str) -> Iterator[Any]:
    client = plain_publisher_client(address)
    yield client
    client.transport.close()


def completed() -> bytes:
    return json.dumps({"processor": CACHE, "analysis_date": "2024-12-15", "status": "success"}).encode()


def odds() -> bytes:
    return json.dumps({"processor": "odds", "analysis_date": "2024-12-15", "status": "success"}).encode()


def test_looking_twice_shows_the_same_and_removes_nothing(night: Night) -> None:
    night.send(b"nope")
    night.work()

    assert [("not_json", 0)] == night.shown() == night.shown()


def test_a_dead_letter_topic_that_was_missing_gets_what_came_meanwhile(night: Night) -> None:
    """Google's own client and the local server: each refusal gives the bad message back, and only that one."""
    with admin(night.address) as client:
        client.delete_topic(topic=client.topic_path(PROJECT, DEAD))
        bad, good = received(b"nope"), received(completed())
        intake = night.intake()

        assert [Verdict.RETRY, Verdict.ACK] * 3 == [intake.handle(one) for one in (bad, good) * 3]
        night.seconds += PAUSE_S
        assert [(1, Verdict.ACK), (0, Verdict.RETRY)] == list(intake.handle_all([bad, good]))

        client.create_topic(name=client.topic_path(PROJECT, DEAD))
        night.seconds += PAUSE_S
        assert intake.handle(bad) is Verdict.ACK


def test_a_message_sent_again_is_the_one_it_was(night: Night) -> None:
    night.send(odds(), topic="x", tenant="nba")
    [first] = night.work()

    assert night.redrive_all() == 1

    [again] = night.work()
    ours = {
        "mlfs_redriven": "1",
        "mlfs_message_id": first.message_id,
        "mlfs_published_at": first.published_at.isoformat(),
    }
    assert (odds(), {"topic": "x", "tenant": "nba", **ours}) == (again.data, dict(again.attributes))


def test_a_message_whose_cause_was_repaired_counts_and_is_gone(night: Night) -> None:
    night.send(odds())
    night.work()
    assert [("unknown_processor", 0)] == night.shown()

    night.processors = (*PROCESSORS, "odds")
    night.redrive_all()
    night.work()

    assert ("recorded", "odds") == night.rig.notes.deliveries[-1]
    assert [] == night.shown()


def test_a_message_refused_again_comes_back_with_its_count_raised(night: Night) -> None:
    night.send(b"nope")
    for count in range(3):
        night.work()
        assert [("not_json", count)] == night.shown()
        night.redrive_all()


def test_what_pubsub_itself_forwarded_is_sent_again_from_beside_what_was_refused(night: Night) -> None:
    """The subscription's own dead-letter policy gives up after five deliveries without an acknowledgement."""
    with subscriber_client(night.address) as client:
        path = client.subscription_path(PROJECT, WORKER)
        dead_topic = f"projects/{PROJECT}/topics/{DEAD}"
        policy = {"dead_letter_topic": dead_topic, "max_delivery_attempts": 5}
        changed = {"name": path, "dead_letter_policy": policy, "retry_policy": None}
        mask = {"paths": ["dead_letter_policy", "retry_policy"]}
        client.update_subscription(request={"subscription": changed, "update_mask": mask}, timeout=10)
        body = json.dumps({"processor": CACHE, "analysis_date": "2024-12-15", "status": "success"}).encode()
        night.send(body, tenant="nba")
        for _ in range(5):
            [item] = client.pull(request={"subscription": path, "max_messages": 1}, timeout=10).received_messages
            refused = {"subscription": path, "ack_ids": [item.ack_id], "ack_deadline_seconds": 0}
            client.modify_ack_deadline(request=refused, timeout=10)
    night.send(b"nope")
    night.work()
    with looking(night.dead_letters, 100) as look:
        plan = plan_redrive(look, Selection(reasons=frozenset({UNDELIVERED})), count_max=10, subscription=WORKER)
        [forwarded] = [held.letter for held in plan.chosen]
        redrive(night.dead_letters, plan.chosen)

    [again] = night.work()

    assert "not acknowledged in 5 deliveries to ml-feature-store-worker" == forwarded.detail
    first_published_at = forwarded.attributes["CloudPubSubDeadLetterSourceTopicPublishTime"]
    assert dict(again.attributes) == {
        "tenant": "nba",
        "mlfs_redriven": "1",
        "mlfs_message_id": forwarded.message_id,
        "mlfs_published_at": first_published_at,
    }
    assert ("recorded", CACHE) == night.rig.notes.deliveries[-1]
    assert [("not_json", 0)] == night.shown()


def test_a_subscription_that_is_not_there_and_a_bus_that_is_away_are_told_apart(night: Night) -> None:
    def read(address: str, subscription: str) -> None:
        queue = DeadLetterSubscription(
            project=PROJECT, subscription=subscription, source_topic=TOPIC, local_address=address, quiet_s=QUIET_S
        )
        try:
            queue.take(1)
        finally:
            queue.close()

    with pytest.raises(Fatal, match=r"cannot read .*nowhere"):
        read(night.address, "nowhere")
    with pytest.raises(Unavailable, match="cannot read"):
        read("127.0.0.1:1", f"{DEAD}-parked")


@pytest.fixture
def program(night: Night, tmp_path: Path, valkey_url: str) -> Program:
    return Program(tmp_path / "data", {"MLFS_PUBSUB": f"emulator://{night.address}", "MLFS_REDIS_URL": valkey_url})


def dlq(program: Program, *arguments: str) -> Any:
    return program.json_here("dlq", *arguments, "--wait", "0.2")


def test_the_commands_plan_first_and_then_send_again_what_was_chosen(night: Night, program: Program) -> None:
    night.send(odds())
    night.send(b"nope")
    night.work()
    chosen = ("redrive", "--reason", "unknown_processor")

    planned = dlq(program, *chosen, "--dry-run")
    done = dlq(program, *chosen, "--yes")
    listed = dlq(program, "list")

    assert (1, False, []) == (len(planned["chosen"]), planned["applied"], planned["redriven"])
    assert (True, None) == (done["applied"], done["error"])
    assert done["redriven"] == [planned["chosen"][0]["message_id"]]
    assert [("not_json", "nope")] == [(one["reason"], one["body"]) for one in listed["waiting"]]
    assert ["1"] == [delivery.attributes["mlfs_redriven"] for delivery in night.work()]


def test_without_a_yes_nothing_is_sent_again(night: Night, program: Program) -> None:
    night.send(b"nope")
    night.work()

    declined = program.run("dlq", "redrive", "--wait", "0.2")
    unknown = program.run("dlq", "redrive", "--wait", "0.2", "--message-id", "no-such", "--yes")

    assert (2, 2) == (declined.returncode, unknown.returncode)
    assert "not among the dead letters: no-such" in unknown.stderr
    assert [("not_json", 0)] == night.shown()
