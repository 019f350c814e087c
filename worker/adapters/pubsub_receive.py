"""Takes what waits in a subscription, once: for commands that look, not for the worker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
from google.api_core import exceptions as google_errors

from worker.adapters.pubsub_connection import CALL_TIMEOUT_S, subscriber_client, translated

MESSAGES_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """A message taken from a subscription and acknowledged."""

    message_id: str
    data: bytes
    attributes: Mapping[str, str]


def receive_waiting(project: str, subscription: str, local_address: str | None) -> Sequence[ReceivedMessage]:
    """Take and acknowledge what waits in the subscription now; give it in the order of delivery.

    Raises:
        Unavailable: The bus does not answer.
        Fatal: There is no such subscription, or no right to read it.
    """
    client = subscriber_client(local_address)
    path = client.subscription_path(project, subscription)
    try:
        answer = client.pull(
            request={"subscription": path, "max_messages": MESSAGES_MAX, "return_immediately": True},
            timeout=CALL_TIMEOUT_S,
        )
        received = list(answer.received_messages)
        if received:
            ids = [message.ack_id for message in received]
            client.acknowledge(request={"subscription": path, "ack_ids": ids}, timeout=CALL_TIMEOUT_S)
    except (google_errors.GoogleAPIError, grpc.RpcError) as exc:
        raise translated(exc, f"cannot read {path}") from exc
    finally:
        client.close()
    return [
        ReceivedMessage(
            message_id=item.message.message_id, data=item.message.data, attributes=dict(item.message.attributes)
        )
        for item in received
    ]
