"""The local Pub/Sub server and Google's emulator, held to the same promises through Google's real client.

Every test of the first part runs against both peers. Where they are known to differ, the test asserts, for each peer,
what `DIFFERENCES` says of it: if one day a peer changes its mind, the test fails and the table is corrected. The second
part is about what only the local server promises: restarts, `kill -9`, exclusiveness, an orderly end.

The emulator is part of the Google Cloud SDK. It is looked for in `PUBSUB_EMULATOR_HOME` (the directory that holds its
`bin`), else next to the `gcloud` on the path; where there is none, or no Java, its half of the suite is skipped.
"""

import base64
import contextlib
import http.server
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.subscriber.exceptions import AcknowledgeError, AcknowledgeStatus
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from tests.conftest import free_port
from tests.support.compose_runner.local import find_emulator
from worker.errors import Refused
from worker.local.pubsub.faults import FaultHooks
from worker.local.pubsub.server import PubSubServer

LOCAL, EMULATOR = "local", "google-emulator"
WAIT_S = 15
PROJECT = "projects/conformance"

DIFFERENCES = {
    # The emulator stores the filter and delivers everything; the real service applies it.
    "a filter is applied": {LOCAL: True, EMULATOR: False},
    "a filter that cannot be read is refused": {LOCAL: True, EMULATOR: False},
    # The real service replays the key from the refused message on; the emulator sends that one message out of order.
    "what follows the refusal of 1 among 0 1 2": {LOCAL: ["1", "2"], EMULATOR: ["1"]},
    # The emulator redelivers at once the first time, whatever the retry policy says.
    "the first retry waits for the minimum backoff": {LOCAL: True, EMULATOR: False},
    # The real service's minimum is 10 s.
    "an ack deadline of 5 s is refused": {LOCAL: True, EMULATOR: False},
    # Documented limits that the emulator does not check.
    "an attribute called goog... is refused": {LOCAL: True, EMULATOR: False},
    "subscriptions of a missing topic are not found": {LOCAL: True, EMULATOR: False},
    # The emulator knows no labels of topics.
    "the labels of a topic can be changed": {LOCAL: True, EMULATOR: False},
    # The local server has no snapshots; it says so.
    "a snapshot can be taken": {LOCAL: False, EMULATOR: True},
    # The emulator takes it, and has nowhere to post to.
    "an endpoint without a host is refused": {LOCAL: True, EMULATOR: False},
    # The emulator keeps the wish for an OpenID token and sends none; the local server, which cannot sign one, says so.
    "a push subscription with an OpenID token can be created": {LOCAL: False, EMULATOR: True},
    # The real service and the local server refuse it; the emulator hands the messages to both.
    "a pushed subscription can be pulled": {LOCAL: False, EMULATOR: True},
}


@dataclass
class Peer:
    """A server under test, and clients for it."""

    name: str
    address: str
    publisher: pubsub_v1.PublisherClient = field(init=False)
    subscriber: pubsub_v1.SubscriberClient = field(init=False)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.publisher, self.subscriber = connect(self.address)

    def close(self) -> None:
        self.publisher.stop()
        self.publisher.transport.close()
        self.subscriber.close()

    def expected(self, difference: str) -> object:
        return DIFFERENCES[difference][self.name]

    def topic(self) -> str:
        name = f"{PROJECT}/topics/topic-{os.getpid()}-{next(self._numbers)}"
        self.publisher.create_topic(name=name)
        return name

    def subscribe(self, topic: str, **settings: object) -> str:
        name = f"{PROJECT}/subscriptions/sub-{os.getpid()}-{next(self._numbers)}"
        self.subscriber.create_subscription(request={"name": name, "topic": topic, **settings})
        return name

    def publish(self, topic: str, *bodies: str, key: str = "", **attributes: str) -> list[str]:
        futures = [self.publisher.publish(topic, body.encode(), key, **attributes) for body in bodies]
        return [future.result(WAIT_S) for future in futures]

    def pull(self, subscription: str, limit: int = 100) -> list:
        """Pull until something comes."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            response = self.subscriber.pull(subscription=subscription, max_messages=limit, timeout=WAIT_S)
            if response.received_messages:
                return list(response.received_messages)
        return []

    def pull_bodies(self, subscription: str, count: int) -> list[str]:
        """Pull and acknowledge until *count* messages have come."""
        bodies = []
        while len(bodies) < count and (received := self.pull(subscription, count - len(bodies))):
            bodies += [one.message.data.decode() for one in received]
            self.subscriber.acknowledge(subscription=subscription, ack_ids=[one.ack_id for one in received])
        return bodies

    def is_empty(self, subscription: str) -> bool:
        """Whether nothing can be delivered now; the client calls that question deprecated, and answers it."""
        with pytest.warns(DeprecationWarning, match="return_immediately"):
            response = self.subscriber.pull(subscription=subscription, max_messages=1, return_immediately=True)
        return not response.received_messages

    @contextlib.contextmanager
    def stream(self, subscription: str, callback: Callable, **settings) -> Iterator:
        flow = pubsub_v1.types.FlowControl(**settings)
        future = self.subscriber.subscribe(subscription, callback, flow, await_callbacks_on_shutdown=True)
        try:
            yield future
        finally:
            future.cancel()
            with contextlib.suppress(exceptions.GoogleAPICallError):
                future.result(WAIT_S)


def connect(address: str) -> tuple[pubsub_v1.PublisherClient, pubsub_v1.SubscriberClient]:
    """Make the real clients, wired as a program would be."""
    anonymous = AnonymousCredentials()
    publisher = pubsub_v1.PublisherClient(
        publisher_options=pubsub_v1.types.PublisherOptions(enable_message_ordering=True),
        transport=PublisherGrpcTransport(channel=grpc.insecure_channel(address), credentials=anonymous),
    )
    channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)])
    return publisher, pubsub_v1.SubscriberClient(
        transport=SubscriberGrpcTransport(channel=channel, credentials=anonymous)
    )


@contextlib.contextmanager
def emulator(script: Path) -> Iterator[str]:
    """Run the emulator; gives its address once it answers."""
    port = free_port()
    environment = {**os.environ, "JAVA_OPTS": "-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"}
    process = subprocess.Popen(
        [script, "--host=127.0.0.1", f"--port={port}"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(30)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(WAIT_S)


@pytest.fixture(scope="session", params=[LOCAL, EMULATOR])
def peer(request, tmp_path_factory) -> Iterator[Peer]:
    with contextlib.ExitStack() as stack:
        if request.param == LOCAL:
            journal = tmp_path_factory.mktemp("pubsub") / "journal.sqlite"
            address = stack.enter_context(PubSubServer(journal)).address
        else:
            script = find_emulator()
            if isinstance(script, str):
                pytest.skip(script)
            address = stack.enter_context(emulator(script))
        server = Peer(request.param, address)
        stack.callback(server.close)
        yield server


def is_refused(call: Callable[[], object], *errors: type[exceptions.GoogleAPICallError]) -> bool:
    try:
        call()
    except errors:
        return True
    return False


# Administration


def test_a_topic_lives_from_its_creation_to_its_deletion(peer):
    """Create, get, list, delete; a second creation and a lookup afterwards are refused by the right error."""
    topic = peer.topic()
    assert peer.publisher.get_topic(topic=topic).name == topic
    assert topic in [one.name for one in peer.publisher.list_topics(project=PROJECT)]
    with pytest.raises(exceptions.AlreadyExists):
        peer.publisher.create_topic(name=topic)
    peer.publisher.delete_topic(topic=topic)
    with pytest.raises(exceptions.NotFound):
        peer.publisher.get_topic(topic=topic)
    with pytest.raises(exceptions.NotFound):
        peer.publisher.delete_topic(topic=topic)


def test_a_subscription_keeps_its_settings_and_shows_them(peer):
    """Everything given at creation is there afterwards, next to the documented defaults."""
    topic, dead = peer.topic(), peer.topic()
    name = peer.subscribe(
        topic,
        ack_deadline_seconds=20,
        enable_message_ordering=True,
        retain_acked_messages=True,
        retry_policy={"minimum_backoff": Duration(seconds=1)},
        dead_letter_policy={"dead_letter_topic": dead},
    )
    found = peer.subscriber.get_subscription(subscription=name)
    assert (found.name, found.topic, found.ack_deadline_seconds) == (name, topic, 20)
    assert found.enable_message_ordering
    assert found.retain_acked_messages
    assert found.message_retention_duration == timedelta(days=7)
    assert found.retry_policy.minimum_backoff == timedelta(seconds=1)
    assert found.retry_policy.maximum_backoff == timedelta(seconds=600)
    assert found.dead_letter_policy.max_delivery_attempts == 5
    assert name in peer.publisher.list_topic_subscriptions(topic=topic)
    assert name in [one.name for one in peer.subscriber.list_subscriptions(project=PROJECT)]


def test_a_subscription_is_updated_only_where_the_mask_says_so(peer):
    """Fields outside the mask stay as they were; a mask that is empty or unknown is refused."""
    name = peer.subscribe(peer.topic(), ack_deadline_seconds=20)
    update = {"name": name, "ack_deadline_seconds": 30, "retain_acked_messages": True}
    update_subscription = peer.subscriber.update_subscription
    update_subscription(subscription=update, update_mask=FieldMask(paths=["ack_deadline_seconds"]))
    found = peer.subscriber.get_subscription(subscription=name)
    assert (found.ack_deadline_seconds, found.retain_acked_messages) == (30, False)
    for paths in ([], ["zork"], ["enable_message_ordering"]):
        with pytest.raises(exceptions.InvalidArgument):
            update_subscription(subscription=update, update_mask=FieldMask(paths=paths))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"ack_deadline_seconds": 601}, exceptions.InvalidArgument),
        ({"message_retention_duration": Duration(seconds=60)}, exceptions.InvalidArgument),
        ({"message_retention_duration": Duration(seconds=32 * 86_400)}, exceptions.InvalidArgument),
        ({"retry_policy": {"maximum_backoff": Duration(seconds=601)}}, exceptions.InvalidArgument),
        ({"dead_letter_policy": {"dead_letter_topic": f"{PROJECT}/topics/none"}}, exceptions.NotFound),
        ({"topic": f"{PROJECT}/topics/none"}, exceptions.NotFound),
    ],
)
def test_a_subscription_outside_the_limits_is_refused(peer, settings, error):
    """With the status the caller's own handling depends on."""
    with pytest.raises(error):
        peer.subscribe(**{"topic": peer.topic(), **settings})


@pytest.mark.parametrize("attempts", [4, 101])
def test_a_dead_letter_policy_allows_five_to_a_hundred_attempts(peer, attempts):
    """Anything else is out of range."""
    topic = peer.topic()
    with pytest.raises(exceptions.OutOfRange):
        peer.subscribe(topic, dead_letter_policy={"dead_letter_topic": topic, "max_delivery_attempts": attempts})


@pytest.mark.parametrize("name", ["events", f"{PROJECT}/topics/a", f"{PROJECT}/topics/goog-events"])
def test_a_topic_with_a_bad_name_is_refused(peer, name):
    """A name that the cloud would refuse must not work on one machine."""
    with pytest.raises(exceptions.InvalidArgument):
        peer.publisher.create_topic(name=name)


def test_a_long_list_comes_in_pages(peer):
    """The client follows the pages by itself and sees every name once."""
    topic = peer.topic()
    names = {peer.subscribe(topic) for _ in range(5)}
    listed = list(peer.publisher.list_topic_subscriptions(request={"topic": topic, "page_size": 2}))
    assert sorted(listed) == sorted(names)


def test_a_deleted_topic_leaves_its_subscriptions_with_their_backlog(peer):
    """They show `_deleted-topic_`, and what was published before can still be pulled."""
    topic = peer.topic()
    name = peer.subscribe(topic)
    peer.publish(topic, "kept")
    peer.publisher.delete_topic(topic=topic)
    assert peer.subscriber.get_subscription(subscription=name).topic == "_deleted-topic_"
    assert peer.pull_bodies(name, 1) == ["kept"]


def test_publishing_to_a_missing_topic_is_refused(peer):
    """The publisher learns at once that the topic is not there."""
    with pytest.raises(exceptions.NotFound):
        peer.publisher.publish(f"{PROJECT}/topics/none", b"x").result(WAIT_S)


def test_known_differences_in_what_is_refused_and_offered(peer):
    """Each line of the table about administration holds for this peer."""
    topic = peer.topic()
    invalid = exceptions.InvalidArgument
    observed = {
        "a filter that cannot be read is refused": is_refused(lambda: peer.subscribe(topic, filter="a = b"), invalid),
        "an ack deadline of 5 s is refused": is_refused(lambda: peer.subscribe(topic, ack_deadline_seconds=5), invalid),
        "an attribute called goog... is refused": is_refused(lambda: peer.publish(topic, "x", googly="1"), invalid),
        "subscriptions of a missing topic are not found": is_refused(
            lambda: list(peer.publisher.list_topic_subscriptions(topic=f"{PROJECT}/topics/none")), exceptions.NotFound
        ),
        "the labels of a topic can be changed": not is_refused(
            lambda: peer.publisher.update_topic(
                topic={"name": topic, "labels": {"team": "data"}}, update_mask=FieldMask(paths=["labels"])
            ),
            invalid,
        ),
        "a snapshot can be taken": not is_refused(
            lambda: peer.subscriber.create_snapshot(
                name=f"{PROJECT}/snapshots/snap-{os.getpid()}", subscription=peer.subscribe(topic)
            ),
            exceptions.MethodNotImplemented,
        ),
        "an endpoint without a host is refused": is_refused(
            lambda: peer.subscribe(topic, push_config={"push_endpoint": "http://"}), invalid
        ),
        "a push subscription with an OpenID token can be created": not is_refused(
            lambda: peer.subscribe(
                topic,
                push_config={
                    "push_endpoint": "http://127.0.0.1:9/push",
                    "oidc_token": {"service_account_email": "pusher@example.iam.gserviceaccount.com"},
                },
            ),
            exceptions.MethodNotImplemented,
        ),
        "a pushed subscription can be pulled": not is_refused(
            lambda: peer.subscriber.pull(
                subscription=peer.subscribe(topic, push_config={"push_endpoint": "http://127.0.0.1:9/push"}),
                max_messages=1,
                timeout=1,
            ),
            exceptions.FailedPrecondition,
        ),
    }
    assert observed == {difference: peer.expected(difference) for difference in observed}


# Delivery


def test_a_message_arrives_as_it_was_published(peer):
    """Body, attributes, id and time; the id is the one the publisher was told."""
    topic = peer.topic()
    name = peer.subscribe(topic)
    before = datetime.now(tz=UTC)  # noqa: TID251 - compared with the server's own clock
    (message_id,) = peer.publish(topic, "body", colour="red", empty="")
    (received,) = peer.pull(name)
    assert received.message.data == b"body"
    assert dict(received.message.attributes) == {"colour": "red", "empty": ""}
    assert received.message.message_id == message_id
    assert abs(received.message.publish_time - before) < timedelta(seconds=5)


def test_every_subscription_gets_every_message(peer):
    """Subscriptions do not share; consumers of one subscription do."""
    topic = peer.topic()
    names = [peer.subscribe(topic), peer.subscribe(topic)]
    peer.publish(topic, "a", "b")
    assert [sorted(peer.pull_bodies(name, 2)) for name in names] == [["a", "b"], ["a", "b"]]


def test_a_stream_delivers_a_burst_once_each_and_acknowledges_it(peer):
    """A thousand messages, each to the callback once, and nothing is left."""
    topic = peer.topic()
    name = peer.subscribe(topic)
    inbox: queue.SimpleQueue = queue.SimpleQueue()
    with peer.stream(name, lambda message: (message.ack(), inbox.put(message.message_id))):
        published = peer.publish(topic, *[f"m{number}" for number in range(1000)])
        received = [inbox.get(timeout=WAIT_S) for _ in published]
    assert sorted(received) == sorted(published)
    assert peer.is_empty(name)


def test_two_streams_share_the_messages_of_one_subscription(peer):
    """Each message goes to one of them."""
    topic = peer.topic()
    name = peer.subscribe(topic)
    inbox: queue.SimpleQueue = queue.SimpleQueue()

    def receive(message) -> None:
        message.ack()
        inbox.put(message.message_id)

    with peer.stream(name, receive, max_messages=10), peer.stream(name, receive, max_messages=10):
        published = peer.publish(topic, *["x"] * 200)
        received = [inbox.get(timeout=WAIT_S) for _ in published]
    assert sorted(received) == sorted(published)


def test_flow_control_keeps_the_outstanding_messages_at_its_limit(peer):
    """With a limit of two never more than two callbacks run, although thirty messages wait."""
    topic = peer.topic()
    name = peer.subscribe(topic)
    peer.publish(topic, *["x"] * 30)
    lock, running, seen = threading.Lock(), [0], []
    done = threading.Event()

    def receive(message) -> None:
        with lock:
            running[0] += 1
            seen.append(running[0])
        threading.Event().wait(0.005)
        with lock:
            running[0] -= 1
        message.ack()
        if len(seen) == 30:
            done.set()

    with peer.stream(name, receive, max_messages=2):
        assert done.wait(WAIT_S)
    assert max(seen) <= 2


def test_a_nine_megabyte_message_passes(peer):
    """The documented limit is 10 MB."""
    topic = peer.topic()
    name = peer.subscribe(topic)
    body = "x" * 9_000_000
    peer.publish(topic, body)
    (received,) = peer.pull(name)
    assert len(received.message.data) == len(body)


def test_a_refused_message_comes_again_under_its_old_id(peer):
    """First refused, then acknowledged: two deliveries of one message, and without a policy no attempt number."""
    topic = peer.topic()
    name = peer.subscribe(topic)
    inbox: queue.SimpleQueue = queue.SimpleQueue()
    refused = threading.Event()

    def receive(message) -> None:
        inbox.put((message.message_id, message.delivery_attempt))
        if refused.is_set():
            message.ack()
        else:
            refused.set()
            message.nack()

    with peer.stream(name, receive):
        (message_id,) = peer.publish(topic, "a")
        assert [inbox.get(timeout=WAIT_S) for _ in range(2)] == [(message_id, None)] * 2


def test_a_lease_that_ends_brings_the_message_back(peer):
    """Nobody acknowledged within the second that was left, so another pull gets it."""
    topic = peer.topic()
    name = peer.subscribe(topic)
    peer.publish(topic, "a")
    (first,) = peer.pull(name)
    peer.subscriber.modify_ack_deadline(subscription=name, ack_ids=[first.ack_id], ack_deadline_seconds=1)
    assert peer.is_empty(name)
    (second,) = peer.pull(name)
    assert second.message.message_id == first.message.message_id


def test_a_retry_policy_delays_a_refused_message(peer):
    """With a minimum of one second, the second delivery comes a second after the refusal."""
    topic = peer.topic()
    name = peer.subscribe(
        topic, retry_policy={"minimum_backoff": Duration(seconds=1), "maximum_backoff": Duration(seconds=2)}
    )
    peer.publish(topic, "a")
    (first,) = peer.pull(name)
    refused_at = time.monotonic()
    peer.subscriber.modify_ack_deadline(subscription=name, ack_ids=[first.ack_id], ack_deadline_seconds=0)
    peer.pull(name)
    waited_s = time.monotonic() - refused_at
    assert (waited_s >= 0.95) == peer.expected("the first retry waits for the minimum backoff")


def test_a_message_that_is_always_refused_ends_at_the_dead_letter_topic(peer):
    """Attempts one to five, then the copy, which says where it comes from."""
    topic, dead = peer.topic(), peer.topic()
    graveyard = peer.subscribe(dead)
    name = peer.subscribe(topic, dead_letter_policy={"dead_letter_topic": dead, "max_delivery_attempts": 5})
    attempts: queue.SimpleQueue = queue.SimpleQueue()
    with peer.stream(name, lambda message: (attempts.put(message.delivery_attempt), message.nack())):
        peer.publish(topic, "poison", kind="bad")
        (received,) = peer.pull(graveyard)
    assert [attempts.get(timeout=WAIT_S) for _ in range(5)] == [1, 2, 3, 4, 5]
    attributes = dict(received.message.attributes)
    published_at = datetime.fromisoformat(attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime"))
    assert abs(published_at.replace(tzinfo=UTC) - received.message.publish_time) < timedelta(minutes=1)
    assert attributes == {
        "kind": "bad",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": name.rsplit("/", maxsplit=1)[-1],
        "CloudPubSubDeadLetterSourceSubscriptionProject": PROJECT.rsplit("/", maxsplit=1)[-1],
    }


def test_a_filter_keeps_other_messages_away(peer):
    """Two published, one wanted."""
    topic = peer.topic()
    name = peer.subscribe(topic, filter='attributes.status = "success"')
    peer.publish(topic, "failed", status="failed")
    peer.publish(topic, "success", status="success")
    first = peer.pull_bodies(name, 1)
    is_applied = first == ["success"] and peer.is_empty(name)
    assert is_applied == peer.expected("a filter is applied")


def test_messages_of_one_ordering_key_come_in_order(peer):
    """Three keys of twenty messages each, interleaved by the publisher."""
    topic = peer.topic()
    name = peer.subscribe(topic, enable_message_ordering=True)
    inbox: queue.SimpleQueue = queue.SimpleQueue()
    for number in range(20):
        for key in "abc":
            peer.publisher.publish(topic, str(number).encode(), key)
    with peer.stream(name, lambda message: (inbox.put((message.ordering_key, message.data)), message.ack())):
        received = [inbox.get(timeout=WAIT_S) for _ in range(60)]
    for key in "abc":
        assert [int(data) for its_key, data in received if its_key == key] == list(range(20))


def test_the_refusal_of_one_message_replays_its_ordering_key(peer):
    """After 0 1 2 with 1 refused, the later ones come again behind it, so that the order is restored."""
    topic = peer.topic()
    name = peer.subscribe(topic, enable_message_ordering=True)
    peer.publish(topic, "0", "1", "2", key="k")
    zero, one, two = peer.pull(name)
    peer.subscriber.acknowledge(subscription=name, ack_ids=[zero.ack_id])
    peer.subscriber.modify_ack_deadline(subscription=name, ack_ids=[one.ack_id], ack_deadline_seconds=0)
    peer.subscriber.acknowledge(subscription=name, ack_ids=[two.ack_id])
    expected = peer.expected("what follows the refusal of 1 among 0 1 2")
    assert peer.pull_bodies(name, len(expected)) == expected
    assert peer.is_empty(name)


# Push


@contextlib.contextmanager
def endpoint(*statuses: int) -> Iterator[tuple[str, queue.SimpleQueue]]:
    """A URL that answers with *statuses*, the last of them for ever, and what was posted there."""
    answers, inbox = list(statuses), queue.SimpleQueue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            inbox.put((self.path, dict(self.headers), json.loads(body)))
            self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/pubsub/push?token=1", inbox
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_push_subscription_posts_each_message_until_it_is_accepted(peer):
    """Refused with 500, accepted with 204; path and query are kept, the envelope is the documented one."""
    topic = peer.topic()
    with endpoint(500, 204) as (url, inbox):
        name = peer.subscribe(topic, push_config={"push_endpoint": url})
        assert peer.subscriber.get_subscription(subscription=name).push_config.push_endpoint == url
        (message_id,) = peer.publish(topic, "body", colour="red")
        (path, headers, first), (_, _, second) = (inbox.get(timeout=WAIT_S) for _ in range(2))
        assert first == second
        peer.subscriber.delete_subscription(subscription=name)
    message = first["message"]
    assert (path, first["subscription"]) == ("/pubsub/push?token=1", name)
    assert headers["Content-Type"].startswith("application/json")
    assert "Authorization" not in headers
    assert (base64.b64decode(message["data"]), message["attributes"]) == (b"body", {"colour": "red"})
    assert {message["messageId"], message["message_id"]} == {message_id}
    assert message["publishTime"] == message["publish_time"]
    assert datetime.fromisoformat(message["publishTime"]).tzinfo is not None


def test_what_an_endpoint_accepted_is_not_posted_again(peer):
    """Ten messages, ten posts, whatever their order."""
    topic = peer.topic()
    with endpoint(200) as (url, inbox):
        name = peer.subscribe(topic, push_config={"push_endpoint": url})
        published = peer.publish(topic, *[f"m{number}" for number in range(10)])
        received = [inbox.get(timeout=WAIT_S)[2]["message"]["messageId"] for _ in published]
        peer.subscriber.modify_push_config(subscription=name, push_config={})
    assert sorted(received) == sorted(published)
    assert inbox.empty()
    assert peer.is_empty(name)


def test_a_subscription_without_its_endpoint_is_pulled_again(peer):
    """What nobody accepted while it was pushed is still there."""
    topic = peer.topic()
    name = peer.subscribe(topic, push_config={"push_endpoint": f"http://127.0.0.1:{free_port()}/"})
    peer.publish(topic, "kept")
    peer.subscriber.modify_push_config(subscription=name, push_config={})
    assert peer.pull_bodies(name, 1) == ["kept"]


@pytest.mark.parametrize("url", ["ftp://example.com/", "push"])
def test_an_endpoint_that_is_no_url_is_refused(peer, url):
    """A typing error must not become a subscription that loses everything silently."""
    with pytest.raises(exceptions.InvalidArgument):
        peer.subscribe(peer.topic(), push_config={"push_endpoint": url})


# Acknowledgements


@pytest.mark.parametrize("call", ["acknowledge", "modify_ack_deadline"])
def test_an_ack_id_that_the_server_never_gave_is_refused(peer, call):
    """As an invalid argument, with or without exactly-once delivery."""
    settings = {} if call == "acknowledge" else {"ack_deadline_seconds": 20}
    for exactly_once in (False, True):
        name = peer.subscribe(peer.topic(), enable_exactly_once_delivery=exactly_once)
        with pytest.raises(exceptions.InvalidArgument):
            getattr(peer.subscriber, call)(request={"subscription": name, "ack_ids": ["garbage"], **settings})


def test_acknowledging_twice_is_no_error_without_exactly_once_delivery(peer):
    """Acknowledgement is repeatable, so a client may repeat what it is not sure of."""
    topic = peer.topic()
    name = peer.subscribe(topic)
    peer.publish(topic, "a")
    (received,) = peer.pull(name)
    for _ in range(2):
        peer.subscriber.acknowledge(subscription=name, ack_ids=[received.ack_id])


def test_exactly_once_tells_the_callback_whether_its_acknowledgement_counted(peer):
    """The first message's ack id is still good; the second one's lease was ended behind its back."""
    topic = peer.topic()
    name = peer.subscribe(topic, enable_exactly_once_delivery=True)
    outcomes: queue.SimpleQueue = queue.SimpleQueue()
    spoilt = threading.Event()

    def receive(message) -> None:
        if message.data == b"spoilt" and not spoilt.is_set():
            spoilt.set()
            peer.subscriber.modify_ack_deadline(subscription=name, ack_ids=[message.ack_id], ack_deadline_seconds=0)
        try:
            outcomes.put((message.data, message.ack_with_response().result(WAIT_S)))
        except AcknowledgeError as error:
            outcomes.put((message.data, error.error_code))

    with peer.stream(name, receive):
        peer.publish(topic, "good")
        assert outcomes.get(timeout=WAIT_S) == (b"good", AcknowledgeStatus.SUCCESS)
        peer.publish(topic, "spoilt")
        results = {outcomes.get(timeout=WAIT_S) for _ in range(2)}
    assert results == {(b"spoilt", AcknowledgeStatus.INVALID_ACK_ID), (b"spoilt", AcknowledgeStatus.SUCCESS)}


# Seek


def test_a_seek_into_the_past_replays_what_was_acknowledged(peer):
    """All three, although each was acknowledged."""
    topic = peer.topic()
    name = peer.subscribe(topic, retain_acked_messages=True)
    start = datetime.now(tz=UTC) - timedelta(minutes=1)  # noqa: TID251 - an instant before the server's first message
    peer.publish(topic, "a", "b", "c")
    assert sorted(peer.pull_bodies(name, 3)) == ["a", "b", "c"]
    peer.subscriber.seek(request={"subscription": name, "time": start})
    assert sorted(peer.pull_bodies(name, 3)) == ["a", "b", "c"]


def test_a_seek_into_the_future_discards_the_backlog(peer):
    """Nothing that was published before is delivered."""
    topic = peer.topic()
    name = peer.subscribe(topic)
    peer.publish(topic, "a", "b")
    later = datetime.now(tz=UTC) + timedelta(minutes=1)  # noqa: TID251 - an instant after the server's last message
    peer.subscriber.seek(request={"subscription": name, "time": later})
    assert peer.is_empty(name)


# Streams and their ends


def test_a_stream_on_a_missing_subscription_ends_with_not_found(peer):
    """The client's future says so, instead of trying for ever."""
    future = peer.subscriber.subscribe(f"{PROJECT}/subscriptions/none", lambda _: None)
    with pytest.raises(exceptions.NotFound):
        future.result(WAIT_S)


def test_deleting_a_subscription_ends_its_streams_with_not_found(peer):
    """A worker learns that its subscription is gone."""
    topic = peer.topic()
    name = peer.subscribe(topic)
    inbox: queue.SimpleQueue = queue.SimpleQueue()
    future = peer.subscriber.subscribe(name, lambda message: (message.ack(), inbox.put(message)))
    peer.publish(topic, "a")
    inbox.get(timeout=WAIT_S)
    peer.subscriber.delete_subscription(subscription=name)
    with pytest.raises(exceptions.NotFound):
        future.result(WAIT_S)


# What only the local server promises


@contextlib.contextmanager
def connected(server: PubSubServer) -> Iterator[Peer]:
    peer = Peer(LOCAL, server.address)
    try:
        yield peer
    finally:
        peer.close()


def test_what_was_not_acknowledged_is_delivered_after_a_restart(tmp_path):
    """Same file, same port: the acknowledged message stays away, the leased one and a new one are delivered at once."""
    server = PubSubServer(tmp_path / "journal.sqlite")
    server.start()
    with connected(server) as peer:
        topic = peer.topic()
        name = peer.subscribe(topic)
        peer.publish(topic, "done")
        assert peer.pull_bodies(name, 1) == ["done"]
        peer.publish(topic, "leased")
        assert len(peer.pull(name)) == 1
    server.stop()
    with PubSubServer(tmp_path / "journal.sqlite", port=server.port) as restarted, connected(restarted) as peer:
        peer.publish(topic, "new")
        inbox: queue.SimpleQueue = queue.SimpleQueue()
        with peer.stream(name, lambda message: (message.ack(), inbox.put(message.data))):
            assert {inbox.get(timeout=WAIT_S) for _ in range(2)} == {b"leased", b"new"}


def test_a_push_subscription_goes_on_after_a_restart(tmp_path):
    """What its endpoint had not accepted before is posted by the next server."""
    server = PubSubServer(tmp_path / "journal.sqlite")
    server.start()
    with endpoint(503) as (url, inbox), connected(server) as peer:
        topic = peer.topic()
        name = peer.subscribe(topic, push_config={"push_endpoint": url})
        peer.publish(topic, "waits")
        inbox.get(timeout=WAIT_S)
        server.stop()
    with endpoint(200) as (url, inbox), PubSubServer(tmp_path / "journal.sqlite") as server, connected(server) as peer:
        peer.subscriber.modify_push_config(subscription=name, push_config={"push_endpoint": url})
        assert base64.b64decode(inbox.get(timeout=WAIT_S)[2]["message"]["data"]) == b"waits"


KILLABLE = """
import sys, threading
from pathlib import Path
from worker.local.pubsub.server import PubSubServer
server = PubSubServer(Path(sys.argv[1]))
server.start()
print(server.address, flush=True)
threading.Event().wait()
"""


def test_no_confirmed_message_is_lost_when_the_server_is_killed(tmp_path):
    """`kill -9` right after the confirmations: a new server on the same journal delivers every one of them."""
    journal = tmp_path / "journal.sqlite"
    with subprocess.Popen([sys.executable, "-c", KILLABLE, journal], stdout=subprocess.PIPE, text=True) as process:
        victim = Peer(LOCAL, process.stdout.readline().strip())
        topic = victim.topic()
        name = victim.subscribe(topic)
        published = victim.publish(topic, *[f"m{number}" for number in range(500)])
        process.send_signal(signal.SIGKILL)
    victim.close()
    with PubSubServer(journal) as server, connected(server) as peer:
        received = []
        while len(received) < len(published):
            received += [one.message.message_id for one in peer.pull(name, 1000)]
    assert sorted(received) == sorted(published)


def test_a_server_without_a_journal_forgets_everything():
    """It says so by its constructor; nothing is written anywhere."""
    with PubSubServer() as server, connected(server) as peer:
        topic = peer.topic()
    server.start()
    with connected(server) as peer, pytest.raises(exceptions.NotFound):
        peer.publisher.get_topic(topic=topic)
    server.stop()


def test_a_second_server_gets_neither_the_port_nor_the_journal_of_the_first(tmp_path):
    """Each refusal names what is taken; the first server goes on."""
    with PubSubServer(tmp_path / "journal.sqlite") as first, connected(first) as peer:
        with pytest.raises(Refused, match=first.address):
            PubSubServer(port=first.port).start()
        with pytest.raises(Refused, match="journal"):
            PubSubServer(tmp_path / "journal.sqlite").start()
        assert peer.topic()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.10", "::"])  # noqa: S104 - refused, which is the point
def test_the_server_refuses_addresses_that_others_can_reach(host):
    """It has no authentication."""
    with pytest.raises(Refused, match="loopback"):
        PubSubServer(host=host)


def test_stopping_tells_open_streams_to_try_again_and_leaves_no_thread_behind():
    """`UNAVAILABLE` is what makes the real client open its stream again. Stopping twice is stopping once."""
    before = threading.enumerate()
    server = PubSubServer()
    server.start()
    with connected(server) as peer:
        topic = peer.topic()
        first = {"subscription": peer.subscribe(topic), "stream_ack_deadline_seconds": 10}
        requests: queue.SimpleQueue = queue.SimpleQueue()
        requests.put(pubsub_v1.types.StreamingPullRequest(first))
        responses = peer.subscriber.streaming_pull(iter(requests.get, None))
        peer.publish(topic, "a")
        assert next(responses).received_messages[0].message.data == b"a"
        server.stop()
        server.stop()
        with pytest.raises(exceptions.ServiceUnavailable):
            next(responses)
        requests.put(None)
    left = [thread for thread in threading.enumerate() if thread not in before]
    assert "pubsub-server" not in [thread.name for thread in left]


class Echo(FaultHooks):
    """Delivers everything twice and loses every acknowledgement."""

    def on_deliver(self, _subscription, deliveries):
        return [*deliveries, *deliveries]

    def on_acknowledge(self, _subscription, _ack_ids):
        return []


def test_faults_come_between_the_server_and_its_clients():
    """What they make of deliveries and acknowledgements is what client and broker see."""
    with PubSubServer(faults=Echo()) as server, connected(server) as peer:
        topic = peer.topic()
        name = peer.subscribe(topic)
        peer.publish(topic, "a")
        ack_ids = [one.ack_id for one in peer.pull(name)]
        assert len(ack_ids) == 2
        peer.subscriber.acknowledge(subscription=name, ack_ids=ack_ids)
        peer.subscriber.modify_ack_deadline(subscription=name, ack_ids=ack_ids[:1], ack_deadline_seconds=0)
        assert not peer.is_empty(name)


def test_servers_side_by_side_do_not_know_each_other():
    """Two in one process, with the same names in each."""
    with PubSubServer() as one, PubSubServer() as two, connected(one) as first, connected(two) as second:
        topic = first.topic()
        second.publisher.create_topic(name=topic)
        names = [first.subscribe(topic), second.subscribe(topic)]
        first.publish(topic, "of the first")
        second.publish(topic, "of the second")
        assert first.pull_bodies(names[0], 1) == ["of the first"]
        assert second.pull_bodies(names[1], 1) == ["of the second"]
