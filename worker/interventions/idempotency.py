"""A request that is sent twice under one `Idempotency-Key` takes effect once and is answered the same.

The key is taken before anything happens and holds the answer afterwards. A worker that dies in between leaves it taken
for `PENDING`; after that the request runs as if it were new, which the state machine bears: a replay is one more
generation.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

import structlog

from worker.errors import Refused, Unavailable
from worker.ports import RequestLog

KEY_PATTERN = r"^[!-~]{1,200}$"

log = structlog.get_logger(__name__)

KEEP = timedelta(hours=24)
# Longer than any request may take.
PENDING = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """What a request is told, in a form that can be kept and told again.

    Attributes:
        status: HTTP status.
        body: The JSON object.
        headers: Further headers.
    """

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class KeyInUse(Refused):
    """The caller's fault: the key stands for another request, or for one that is not answered yet.

    Attributes:
        pending: Whether the same request is just being answered.
    """

    def __init__(self, message: str, *, pending: bool) -> None:
        super().__init__(message)
        self.pending = pending


class IdempotentRequests:
    """Runs requests once per caller and key."""

    def __init__(self, log: RequestLog) -> None:
        self._log = log

    def run(
        self, key: str | None, caller: str, request: Mapping[str, Any], act: Callable[[], StoredResponse]
    ) -> StoredResponse:
        """Run *act*, or give the answer that this caller got under this key before.

        Args:
            key: The caller's key; None runs *act* without remembering.
            caller: Who asks; keys of different callers never meet.
            request: What is asked for, JSON values.
            act: Does it. When it raises, the key is free again.

        Raises:
            KeyInUse: The key stands for another request, or for one that is just being answered.
            Unavailable: The log of requests does not answer; nothing was done.
        """
        if key is None:
            return act()
        name = _digest([caller, key])
        fingerprint = _digest(request)
        known = self._log.begin(name, fingerprint, PENDING)
        if known is not None:
            return _answer_again(key, fingerprint, known.fingerprint, known.answer)
        try:
            answer = act()
        except BaseException:
            # What stays behind is forgotten after PENDING; until then a repeat is told to wait.
            with suppress(Unavailable):
                self._log.forget(name)
            raise
        try:
            self._log.finish(name, fingerprint, json.dumps(asdict(answer)), KEEP)
        except Unavailable as exc:
            # It has happened, so its caller is told; who asks again before PENDING is over is told to wait.
            log.warning("answer_not_kept", error=str(exc))
        return answer


def _answer_again(key: str, fingerprint: str, known_fingerprint: str, known_answer: str | None) -> StoredResponse:
    if known_fingerprint != fingerprint:
        raise KeyInUse(f"the idempotency key {key!r} was used for another request; take a new key", pending=False)
    if known_answer is None:
        raise KeyInUse(f"the request with idempotency key {key!r} is still being answered; ask again", pending=True)
    return StoredResponse(**json.loads(known_answer))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
