"""What the Redis store reads back, as values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from schemas.record import UnreadableRecord, decode_record
from statemachine.model import DateRecord
from worker.errors import CorruptRecord
from worker.ports import HistoryEntry, OutboxEntry, OutgoingMessage, ParkedMessage

_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)
_CHANGE = tuple(one.name for one in fields_of(HistoryEntry))


def record_from(analysis_date: date, fields: Sequence[bytes | None]) -> DateRecord | None:
    """Read the fields r and n of a date's hash.

    Raises:
        CorruptRecord: What is stored is not readable.
    """
    stored, revision = fields
    if stored is None:
        return None
    try:
        return replace(decode_record(stored), revision=(revision or b"").decode())
    except UnreadableRecord as exc:
        raise CorruptRecord(analysis_date, str(exc)) from exc


def millis_begun(instant: datetime) -> int:
    """Give the whole milliseconds since 1970 UTC that have passed at *instant*."""
    return (instant - _EPOCH) // _MILLISECOND


def millis_reached(instant: datetime) -> int:
    """Give the first whole millisecond since 1970 UTC at or after *instant*.

    A wake kept under an earlier one would fire too soon, find nothing due and wait for the next tick.
    """
    return -((_EPOCH - instant) // _MILLISECOND)


def change_bytes(entry: HistoryEntry) -> bytes:
    """Give the stored form of a change: its values as a JSON array, in the order of `HistoryEntry`.

    A name before each value would make it half as long again, and a date keeps seven of them for weeks.
    """
    values = [getattr(entry, name) for name in _CHANGE]
    return json.dumps([entry.at.isoformat(), *values[1:]], ensure_ascii=False, separators=(",", ":")).encode()


def changes_from(
    listed: Sequence[bytes], streamed: Sequence[tuple[bytes, Mapping[bytes, bytes]]]
) -> Sequence[HistoryEntry]:
    """Read the changes of a date, oldest first.

    Args:
        listed: As `change_bytes` made them; a value that a newer release has added at the end is passed over.
        streamed: As a worker from before ADR 0020 stores them: entries of a stream, each a JSON object with names.
    """
    changes = [_change(dict(zip(_CHANGE, json.loads(one), strict=False))) for one in listed]
    if streamed:
        changes += [_change(json.loads(fields[b"e"])) for _entry_id, fields in streamed]
        changes.sort(key=lambda one: one.at)
    return changes


def _change(stored: dict[str, Any]) -> HistoryEntry:
    return HistoryEntry(**{**stored, "at": datetime.fromisoformat(stored["at"])})


def entry_from(entry_id: bytes, fields: Mapping[bytes, bytes]) -> OutboxEntry:
    """Read an entry of the outbox stream; its id begins with the server's milliseconds since 1970 UTC."""
    milliseconds = int(entry_id.partition(b"-")[0])
    queued_at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return OutboxEntry(entry_id=entry_id.decode(), message=message_from(fields), queued_at=queued_at)


def message_from(fields: Mapping[bytes, bytes]) -> OutgoingMessage:
    """Read the message of such an entry."""
    return OutgoingMessage(
        event_id=fields[b"event_id"].decode(),
        topic=fields[b"topic"].decode(),
        data=fields[b"data"],
        attributes=json.loads(fields[b"attributes"]),
        ordering_key=fields[b"ordering_key"].decode(),
    )


def parked_fields(parked: ParkedMessage) -> dict[Any, Any]:
    """Give the stored form of a refused message: an entry of a stream."""
    return {
        "reason": parked.reason,
        "detail": parked.detail,
        "message_id": parked.message_id,
        "received_at": parked.received_at.isoformat(),
        "data": parked.data,
        "attributes": json.dumps(dict(parked.attributes)),
    }


def parked_from(fields: Mapping[bytes, bytes]) -> ParkedMessage:
    """Read an entry of the stream of refused messages."""
    return ParkedMessage(
        reason=fields[b"reason"].decode(),
        detail=fields[b"detail"].decode(),
        message_id=fields[b"message_id"].decode(),
        received_at=datetime.fromisoformat(fields[b"received_at"].decode()),
        data=fields[b"data"],
        attributes=json.loads(fields[b"attributes"]),
    )
