"""Dead-letter subscription for `mlfs dlq`: bounded unary calls of Google's client.

A dead letter is leased, sent to the source topic and then acknowledged. A crash between both steps leaves the dead
letter in the subscription: a second redrive may publish the message twice, which changes no outcome.
"""

import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import grpc
from google.api_core import exceptions as google_errors

from schemas.dead_letter import DeadLetter
from worker.adapters.pubsub.connection import (
    CALL_RETRY,
    CALL_TIMEOUT_S,
    plain_publisher_client,
    subscriber_client,
    translated,
)
from worker.dead_letters import LEASE_S, HeldLetter

# A request may hold 512 KiB of ids.
IDS_MAX = 500
_FAULTS = (google_errors.GoogleAPIError, grpc.RpcError)


class DeadLetterSubscription:
    """Leased access to the dead letters of a subscription. Not thread-safe; the caller closes the connection."""

    def __init__(
        self, *, project: str, subscription: str, source_topic: str, local_address: str | None, quiet_s: float
    ) -> None:
        """Connect to the subscription and to the source topic.

        Args:
            project: Project of topics and subscriptions.
            subscription: Short name of the dead-letter subscription.
            source_topic: Short name of the topic to which messages are sent again.
            local_address: `host:port` of a local server; None for Google.
            quiet_s: Seconds without a message after which the subscription counts as empty.
        """
        self._subscriber: Any = subscriber_client(local_address)
        self._publisher: Any = plain_publisher_client(local_address)
        self._path: str = self._subscriber.subscription_path(project, subscription)
        self._topic: str = self._publisher.topic_path(project, source_topic)
        self._quiet_s = quiet_s
        self._connected = False

    def take(self, limit: int) -> Sequence[HeldLetter]:
        """Lease at most *limit* waiting dead letters; empty when no further message comes.

        Raises:
            Unavailable: The bus does not answer.
            Fatal: There is no such subscription, or no right to read it.
        """
        received = self._first_pull(limit) or self._pull(limit)
        if received:
            self._set_deadline([item.ack_id for item in received], LEASE_S)
        return [HeldLetter(letter=_letter(item.message), handle=item.ack_id) for item in received]

    def _first_pull(self, limit: int) -> Sequence[Any]:
        """Pull without waiting for messages, but with time for a connection, so that an unreachable bus is an error."""
        if self._connected:
            return ()
        request = {"subscription": self._path, "max_messages": limit, "return_immediately": True}
        try:
            with warnings.catch_warnings():
                # Deprecated for polling. A single call distinguishes an unreachable bus from an empty subscription.
                warnings.simplefilter("ignore", DeprecationWarning)
                answer = self._subscriber.pull(request=request, timeout=CALL_TIMEOUT_S, retry=None)
        except _FAULTS as exc:
            raise translated(exc, f"cannot read {self._path}") from exc
        self._connected = True
        return list(answer.received_messages)

    def _pull(self, limit: int) -> Sequence[Any]:
        request = {"subscription": self._path, "max_messages": limit}
        try:
            answer = self._subscriber.pull(request=request, timeout=self._quiet_s, retry=None)
        except google_errors.DeadlineExceeded:
            return ()
        except _FAULTS as exc:
            raise translated(exc, f"cannot read {self._path}") from exc
        return list(answer.received_messages)

    def give_back(self, held: Collection[HeldLetter]) -> None:
        """End the leases, so that the messages wait again.

        Raises:
            Unavailable: The bus does not answer; the leases end after ten minutes.
        """
        self._set_deadline([letter.handle for letter in held], 0)

    def send_again(self, letters: Sequence[DeadLetter]) -> None:
        """Publish all letters to the source topic, or no letter, and wait for the confirmation.

        Raises:
            Unavailable: The bus confirmed no publication; the letters may or may not be published.
            Fatal: There is no such topic, or no right to publish to it.
        """
        messages = [
            {
                "data": letter.data,
                "attributes": letter.attributes_to_resend(),
                "ordering_key": letter.ordering_key,
            }
            for letter in letters
        ]
        request = {"topic": self._topic, "messages": messages}
        try:
            self._publisher.publish(request=request, timeout=CALL_TIMEOUT_S, retry=CALL_RETRY)
        except _FAULTS as exc:
            raise translated(exc, f"cannot publish to {self._topic}") from exc

    def remove(self, held: Collection[HeldLetter]) -> None:
        """Acknowledge dead letters.

        Raises:
            Unavailable: The bus does not answer; the bus delivers the messages again.
        """
        for ids in _parts([letter.handle for letter in held]):
            request = {"subscription": self._path, "ack_ids": ids}
            try:
                self._subscriber.acknowledge(request=request, timeout=CALL_TIMEOUT_S, retry=CALL_RETRY)
            except _FAULTS as exc:
                raise translated(exc, f"cannot acknowledge in {self._path}") from exc

    def _set_deadline(self, handles: Sequence[str], seconds: int) -> None:
        for ids in _parts(handles):
            request = {"subscription": self._path, "ack_ids": ids, "ack_deadline_seconds": seconds}
            try:
                self._subscriber.modify_ack_deadline(request=request, timeout=CALL_TIMEOUT_S, retry=CALL_RETRY)
            except _FAULTS as exc:
                raise translated(exc, f"cannot lease from {self._path}") from exc

    def close(self) -> None:
        """Close the connections."""
        self._subscriber.close()
        self._publisher.transport.close()


def _parts(handles: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(handles), IDS_MAX):
        yield handles[start : start + IDS_MAX]


def _letter(message: Any) -> DeadLetter:  # noqa: ANN401 - the client is untyped
    return DeadLetter(
        message_id=message.message_id,
        published_at=message.publish_time,
        data=message.data,
        attributes=dict(message.attributes),
        ordering_key=message.ordering_key,
    )
