"""Messages for which the product's own code raises what nobody expects: each is charged to that message alone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

from statemachine.events import CompletionReceived
from worker import engine, intake

IN_DECODE, IN_DECIDE = "raises in decode", "raises in decide"


class Unexpected(Exception):
    """Of no family that the product knows."""


def body(day: date, processor: str, where: str) -> bytes:
    """A report that looks like any other."""
    report = {"processor": processor, "analysis_date": day.isoformat(), "status": "success", "run_id": where}
    return json.dumps(report).encode()


def raises(message: bytes) -> bool:
    return any(where.encode() in message for where in (IN_DECODE, IN_DECIDE))


@contextmanager
def code_that_raises() -> Iterator[None]:
    """Let `decode` and `decide` raise for those messages."""
    decode, decide = intake.decode, engine.decide

    def decode_or_raise(delivery: Any, *rest: Any) -> Any:
        if IN_DECODE.encode() in delivery.data:
            raise Unexpected(delivery.message_id)
        return decode(delivery, *rest)

    def decide_or_raise(record: Any, event: Any, **rest: Any) -> Any:
        if isinstance(event, CompletionReceived) and event.completion.identity.endswith(IN_DECIDE):
            raise Unexpected(record.analysis_date)
        return decide(record, event, **rest)

    intake.decode, engine.decide = decode_or_raise, decide_or_raise
    try:
        yield
    finally:
        intake.decode, engine.decide = decode, decide
