"""Conversion between stored bytes of the state store and values."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields as fields_of
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from schemas.record import UnreadableRecord, decode_record
from statemachine.invariants import YEARS
from statemachine.model import CompletionStatus, DateRecord
from worker.errors import CorruptRecord
from worker.ports import HistoryEntry, OutboxEntry, OutgoingMessage, ParkedMessage, Report

_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)
# Exceptions raised by reading malformed bytes.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError, RecursionError)
# Fields of the hash of an analysis date: the record, the revision, the version, and the last renewal of the lease.
FIELDS = ("r", "n", "v", "l")
_CHANGE = tuple(field.name for field in fields_of(HistoryEntry))


def record_from(analysis_date: date, fields: Sequence[bytes | None]) -> DateRecord | None:
    """Read the `FIELDS` of the hash of an analysis date.

    Raises:
        CorruptRecord: The stored bytes are not readable.
    """
    stored, revision, version, renewal = fields
    if stored is None:
        return None
    try:
        record = replace(decode_record(stored), revision=(revision or b"").decode())
    except (UnreadableRecord, UnicodeDecodeError) as exc:
        raise CorruptRecord(analysis_date, str(exc)) from exc
    if version != str(record.version).encode() or record.analysis_date != analysis_date:
        # A commit compares the version beside the record: with a wrong version every commit would be a conflict.
        found = f"version {record.version} of {record.analysis_date}"
        raise CorruptRecord(analysis_date, f"{found} lies under another name, or beside version {version!r}")
    return record if renewal is None else _with_renewal(record, renewal)


def _with_renewal(record: DateRecord, renewal: bytes) -> DateRecord:
    """Return the record with the renewed lease; without the renewal after a later commit, or if unreadable.

    Without an unreadable renewal the lease ends earlier; the next renewal replaces the unreadable renewal.
    """
    revision, _, until = renewal.partition(b" ")
    if revision != record.revision.encode():
        return record
    with suppress(*UNREADABLE):
        return record.with_lease_until(_instant(until.decode()).astimezone(UTC))
    return record


def millis_begun(instant: datetime) -> int:
    """Return the whole milliseconds since 1970 UTC that have passed at *instant*."""
    return (instant - _EPOCH) // _MILLISECOND


def millis_reached(instant: datetime) -> int:
    """Return the first whole millisecond since 1970 UTC at or after *instant*.

    An entry of the wake index with an earlier millisecond would fire too soon, find no due timer and wait for the next
    tick.
    """
    return -((_EPOCH - instant) // _MILLISECOND)


def change_bytes(entry: HistoryEntry) -> bytes:
    """Return the stored form of a change: the values as a JSON array, in the order of `HistoryEntry`.

    Names before the values would add half the length, and an analysis date keeps about seven changes for weeks. Only a
    change with reports has the last value.
    """
    _at, *values, reports = [getattr(entry, name) for name in _CHANGE]
    if reports:
        values.append(
            [(told.processor, told.run, told.status, told.completed_at.isoformat(), told.row_count) for told in reports]
        )
    return json.dumps([entry.at.isoformat(), *values], ensure_ascii=False, separators=(",", ":")).encode()


def change_from(stored: bytes) -> HistoryEntry:
    """Read a change written by `change_bytes`; ignore values that a newer release added at the end.

    Raises:
        UNREADABLE: The bytes have another form.
    """
    stored_values = dict(zip(_CHANGE, json.loads(stored), strict=False))
    reports = tuple(_report_from(values) for values in stored_values.get("reports", ()))
    change = HistoryEntry(**{**stored_values, "at": _instant(stored_values["at"]), "reports": reports})
    numbers = (change.generation, change.attempt)
    words = (change.event, change.before, change.after, change.reason, change.actor, change.detail)
    if not all(isinstance(number, int) for number in numbers) or not all(isinstance(word, str) for word in words):
        raise TypeError("a value of a change has another type")
    "".join(words).encode()  # raises for half a surrogate pair, which no page can show
    return change


def _report_from(values: Sequence[Any]) -> Report:
    processor, run, status, completed_at, row_count, *_newer = values
    if not isinstance(processor, str) or not isinstance(run, str) or not isinstance(row_count, int | None):
        raise TypeError("a value of a report has another type")
    f"{processor}{run}".encode()  # as above
    return Report(
        processor=processor,
        run=run,
        status=CompletionStatus(status),
        completed_at=_instant(completed_at),
        row_count=row_count,
    )


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    if not YEARS[0] <= instant.year <= YEARS[1]:
        raise ValueError(f"{text} is on no wall clock")
    return instant


def entry_from(entry: tuple[bytes, Mapping[bytes, bytes]]) -> OutboxEntry:
    """Read an entry of the outbox stream; the entry id begins with the server's milliseconds since 1970 UTC.

    Raises:
        UNREADABLE: The bytes have another form.
    """
    entry_id, fields = entry
    milliseconds = int(entry_id.partition(b"-")[0])
    queued_at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    message = OutgoingMessage(
        event_id=fields[b"event_id"].decode(),
        topic=fields[b"topic"].decode(),
        data=fields[b"data"],
        attributes=_attributes(fields[b"attributes"]),
        ordering_key=fields[b"ordering_key"].decode(),
    )
    return OutboxEntry(entry_id=entry_id.decode(), message=message, queued_at=queued_at)


def _attributes(stored: bytes) -> Mapping[str, str]:
    attributes: Mapping[str, str] = json.loads(stored)
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in attributes.items()):
        raise TypeError("an attribute is no text")
    return attributes


def parked_fields(parked: ParkedMessage) -> dict[Any, Any]:
    """Return the stored form of a refused message: the fields of a stream entry."""
    return {
        "reason": parked.reason,
        "detail": parked.detail,
        "message_id": parked.message_id,
        "received_at": parked.received_at.isoformat(),
        "data": parked.data,
        "attributes": json.dumps(dict(parked.attributes)),
    }


def parked_from(entry: tuple[bytes, Mapping[bytes, bytes]]) -> ParkedMessage:
    """Read an entry of the stream of refused messages.

    Raises:
        UNREADABLE: The bytes have another form.
    """
    fields = entry[1]
    return ParkedMessage(
        reason=fields[b"reason"].decode(),
        detail=fields[b"detail"].decode(),
        message_id=fields[b"message_id"].decode(),
        received_at=_instant(fields[b"received_at"].decode()),
        data=fields[b"data"],
        attributes=_attributes(fields[b"attributes"]),
    )
