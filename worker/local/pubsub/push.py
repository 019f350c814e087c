"""Push subscriptions: the server posts each message to an endpoint, and the status of the answer acknowledges.

102, 200, 201, 202 and 204 acknowledge. Every other status, no answer within the ack deadline, and a refused connection
return the message. After a failure the whole subscription pauses, each time twice as long, up to a minute, as in the
real service; the retry policy also delays the message.

Requests carry no OpenID token: the server refuses to create a subscription with a token.
"""

import asyncio
import base64
import contextlib
import json
import ssl
from datetime import UTC, datetime
from urllib.parse import urlsplit

import structlog

from worker.local.pubsub.broker import Broker
from worker.local.pubsub.calls import Calls
from worker.local.pubsub.delivery import Deliverer, Pulse
from worker.local.pubsub.model import CallRefused, Consumer, LeasedMessage

PUSHES_AT_ONCE = 16
ACKNOWLEDGING = frozenset({102, 200, 201, 202, 204})
PAUSE_MIN_S, PAUSE_MAX_S = 0.1, 60.0

log = structlog.get_logger(__name__)


class Pusher:
    """Tasks of the push subscriptions: a task for each subscription with an endpoint."""

    def __init__(self, broker: Broker, calls: Calls, deliverer: Deliverer, pulse: Pulse) -> None:
        self._broker = broker
        self._calls = calls
        self._deliverer = deliverer
        self._pulse = pulse
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._seen = -1

    def reconcile(self) -> None:
        """Start and end tasks to match the subscriptions; cheap without changes."""
        if self._seen == self._broker.subscription_changes:
            return
        self._seen = self._broker.subscription_changes
        wanted = {(spec.name, spec.push_endpoint) for spec in self._broker.subscriptions() if spec.push_endpoint}
        for key in set(self._tasks) - wanted:
            self._tasks.pop(key).cancel()
        for key in wanted - set(self._tasks):
            self._tasks[key] = asyncio.create_task(self._run(*key))

    def close(self) -> None:
        """End all tasks; the server delivers the held messages again when the lease ends."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _run(self, name: str, endpoint: str) -> None:
        # The subscription is gone, or the server closes: no caller needs an answer.
        with contextlib.suppress(CallRefused):
            await self._serve(name, endpoint)

    async def _serve(self, name: str, endpoint: str) -> None:
        subscription = self._broker.subscription(name)
        consumer = Consumer(
            name=f"push {name}", ack_deadline_s=subscription.spec.ack_deadline_s, messages_max=PUSHES_AT_ONCE
        )
        pause_s = 0.0
        with self._deliverer.sleeper(name) as event:
            while True:
                event.clear()
                taken = self._deliverer.take(name, consumer, PUSHES_AT_ONCE)
                if not taken:
                    await event.wait()
                    continue
                sent = self._deliverer.sent(name, taken)
                answers = await asyncio.gather(*(self._push(name, endpoint, delivery) for delivery in sent))
                pause_s = 0.0 if all(answers) else min(max(PAUSE_MIN_S, 2 * pause_s), PAUSE_MAX_S)
                await asyncio.sleep(pause_s)

    async def _push(self, name: str, endpoint: str, delivery: LeasedMessage) -> bool:
        """Push a message and settle the delivery; return whether the endpoint acknowledged."""
        subscription = self._broker.subscription(name)
        body = json.dumps(envelope(name, delivery)).encode()
        try:
            async with asyncio.timeout(subscription.spec.ack_deadline_s):
                status = await post(endpoint, body)
            problem = f"answered {status}"
        except (OSError, TimeoutError, ValueError, EOFError) as exc:
            status, problem = 0, f"{type(exc).__name__}: {exc}"
        is_acknowledged = status in ACKNOWLEDGING
        if not is_acknowledged:
            log.info("push_refused", endpoint=endpoint, message_id=str(delivery.message.number), problem=problem)
        try:
            if is_acknowledged:
                self._calls.settle_deliveries(subscription, [delivery.ack_id], self._pulse.now())
            else:
                self._calls.modify_deliveries(subscription, [delivery.ack_id], 0, self._pulse.now())
        except CallRefused as exc:
            # Exactly-once delivery: the lease ended while the endpoint worked, so the message is delivered again.
            log.info("push_came_too_late", endpoint=endpoint, message_id=str(delivery.message.number), why=exc.detail)
        self._pulse.settle()
        return is_acknowledged


def envelope(subscription: str, delivery: LeasedMessage) -> dict[str, object]:
    """Return the JSON body of a push request; some fields have two names, as in the real service."""
    message = delivery.message
    published_at = datetime.fromtimestamp(message.published_at, UTC).isoformat(timespec="milliseconds")
    stamp = published_at.replace("+00:00", "Z")
    wrapped: dict[str, object] = {
        "data": base64.b64encode(message.data).decode(),
        "messageId": str(message.number),
        "message_id": str(message.number),
        "publishTime": stamp,
        "publish_time": stamp,
    }
    if message.attributes:
        wrapped["attributes"] = dict(message.attributes)
    if message.ordering_key:
        wrapped["orderingKey"] = message.ordering_key
    body: dict[str, object] = {"message": wrapped, "subscription": subscription}
    if delivery.attempt:
        body["deliveryAttempt"] = delivery.attempt
    return body


async def post(endpoint: str, body: bytes) -> int:
    """POST JSON and return the status of the answer.

    Raises:
        OSError: No server listens there, or the connection broke.
        EOFError: The answer ended before the status.
        ValueError: The answer is not HTTP.
    """
    parts = urlsplit(endpoint)
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = (
            f"POST {target} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\nContent-Type: application/json\r\n"
            f"User-Agent: mlfs-local-pubsub\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode("ascii") + body)
        await writer.drain()
        line = await reader.readline()
        if not line:
            raise EOFError("the answer is empty")
        version, _, rest = line.decode("ascii", "replace").partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
            raise ValueError(f"no HTTP answer: {line[:40]!r}")
        return int(rest[:3])
    finally:
        writer.close()
