"""A second connection that asks a subscription for one message: how a silent stream is told from an idle one.

The question is a unary pull. It needs no right that the stream does not need, and it works alike on Google's service,
its emulator and the local server. What it finds is a delivery like any other: it must be settled.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from google.api_core import exceptions as google_errors
from google.pubsub_v1.types import PullRequest

from schemas.completion import Delivery
from worker.adapters.pubsub_connection import subscriber_client, translated

PROBE_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A message that waited, leased to this process."""

    ack_id: str
    delivery: Delivery


class Probe:
    """A connection for one question; leave it to close it."""

    def __init__(self, project: str, subscription: str, local_address: str | None) -> None:
        self._client: Any = subscriber_client(local_address)
        self._path: str = self._client.subscription_path(project, subscription)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ask(self) -> Found | None:
        """Take one message that waits now; None where there is none.

        Raises:
            Unavailable: The bus does not answer.
            Fatal: There is no such subscription, or no right to read it.
        """
        # A pull that waits would compete with a sound stream for the next message. The client's own method warns of
        # every pull that does not wait, so this is the call below it, with the routing header it would add.
        request = PullRequest(subscription=self._path, max_messages=1, return_immediately=True)
        routing = (("x-goog-request-params", f"subscription={self._path}"),)
        try:
            answer = self._client.transport.pull(request, timeout=PROBE_TIMEOUT_S, metadata=routing)
        except grpc.RpcError as exc:
            raise translated(google_errors.from_grpc_error(exc), f"cannot ask {self._path}") from exc
        for item in answer.received_messages:
            message = item.message
            delivery = Delivery(
                data=message.data,
                attributes=dict(message.attributes),
                message_id=message.message_id,
                published_at=message.publish_time,
            )
            return Found(ack_id=item.ack_id, delivery=delivery)
        return None

    def settle(self, found: Found, *, stored: bool) -> None:
        """Acknowledge the message if it is *stored*, else give it back.

        Raises:
            Unavailable: The bus does not answer; the message comes again when its lease ends.
        """
        request: dict[str, Any] = {"subscription": self._path, "ack_ids": [found.ack_id]}
        try:
            if stored:
                self._client.acknowledge(request=request, timeout=PROBE_TIMEOUT_S)
            else:
                self._client.modify_ack_deadline(request=request | {"ack_deadline_seconds": 0}, timeout=PROBE_TIMEOUT_S)
        except (google_errors.GoogleAPIError, grpc.RpcError) as exc:
            raise translated(exc, f"cannot settle a message of {self._path}") from exc
