"""Turns a subscription back in time, so that what was acknowledged comes again: for recovery after the store was lost.

Needs retained messages: `retain_acked_messages` on the subscription, or retention on the topic. A repeat that is known
changes nothing, so going back too far is harmless and too little is not.
"""

from datetime import datetime

import grpc
from google.api_core import exceptions as google_errors

from worker.adapters.pubsub_connection import CALL_TIMEOUT_S, subscriber_client, translated


def seek(project: str, subscription: str, local_address: str | None, to: datetime) -> None:
    """Deliver everything published since *to* (aware) again, as far as it was retained.

    Raises:
        Unavailable: The bus does not answer.
        Fatal: There is no such subscription, or no right to seek in it.
    """
    client = subscriber_client(local_address)
    path = client.subscription_path(project, subscription)
    try:
        client.seek(request={"subscription": path, "time": to}, timeout=CALL_TIMEOUT_S)
    except (google_errors.GoogleAPIError, grpc.RpcError) as exc:
        raise translated(exc, f"cannot seek in {path}") from exc
    finally:
        client.close()
