"""A request sent twice under one idempotency key takes effect once and gets the same answer.

The key is taken before the request runs and holds the answer afterwards. A crash in between leaves the key taken for
`PENDING`. After `PENDING` the request runs as a new request; a replay then starts a further generation at most.
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
    """Answer to a request, in a form for storage.

    Attributes:
        status: HTTP status.
        body: The JSON object.
        headers: Further headers.
    """

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class KeyInUse(Refused):
    """The caller's fault: the key stands for another request, or for a request without an answer yet.

    Attributes:
        pending: Whether the same request is running now.
    """

    def __init__(self, message: str, *, pending: bool) -> None:
        super().__init__(message)
        self.pending = pending


class IdempotentRequests:
    """Runs requests once for each caller and key."""

    def __init__(self, log: RequestLog) -> None:
        self._log = log

    def run(
        self, key: str | None, caller: str, request: Mapping[str, Any], act: Callable[[], StoredResponse]
    ) -> StoredResponse:
        """Run *act*, or return the stored answer to the same request of this caller under this key.

        Args:
            key: The caller's key; None runs *act* without remembering.
            caller: Sender of the request; keys of different callers never meet.
            request: The request as JSON values.
            act: Carries out the request. An exception frees the key again.

        Raises:
            KeyInUse: The key stands for another request, or the same request is running now.
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
            # A key that could not be freed is forgotten after PENDING; until then a repeat gets KeyInUse.
            with suppress(Unavailable):
                self._log.forget(name)
            raise
        try:
            self._log.finish(name, fingerprint, json.dumps(asdict(answer)), KEEP)
        except Unavailable as exc:
            # The request took effect, so the caller gets the answer. Until PENDING has passed a repeat gets KeyInUse.
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
