"""The stored form of a `DateRecord`: JSON with a schema number, older numbers upgraded on read.

A stored record must be readable by the next release and by the one before it, so fields are only ever added, with a
default. A change that an old worker would misread takes a new schema number and an entry in `_UPGRADES`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from schemas.fault_words import in_plain_words
from statemachine.invariants import violations
from statemachine.model import DateRecord

SCHEMA = 1
# Half a character (a lone surrogate) can be spelled in JSON, and no page can show one. Nothing that is stored has any.
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
_ADAPTER: TypeAdapter[DateRecord] = TypeAdapter(DateRecord)

# Schema number -> function from that number's dictionary to the next number's.
_UPGRADES: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = MappingProxyType({})


class UnreadableRecord(ValueError):
    """The stored bytes are no record this release can read: damaged, or from a newer release."""


def encode_record(record: DateRecord) -> bytes:
    """Return the stored form of a sound record; `change_violations` checks each change before the commit."""
    body = _ADAPTER.dump_json(_plain(record), exclude_defaults=True)
    return b'{"schema":%d,%b' % (SCHEMA, body[1:])


def decode_record(stored: bytes) -> DateRecord:
    """Return the record of a stored form of this schema number or an older number.

    Raises:
        UnreadableRecord: Not readable, or the record breaks a rule of `violations`.
    """
    try:
        body = json.loads(stored)
        if _HALF_CHARACTER.search(stored):
            json.dumps(body, ensure_ascii=False).encode()
        schema = body.pop("schema")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as exc:
        raise UnreadableRecord(f"no JSON object with a schema number: {exc}") from exc
    if not isinstance(schema, int) or schema > SCHEMA:
        raise UnreadableRecord(f"schema {schema!r} is not known here; this release reads up to {SCHEMA}")
    try:
        for number in range(schema, SCHEMA):
            body = _UPGRADES[number](body)
        record = _ADAPTER.validate_python(body, strict=False)
    except ValidationError as exc:
        faults = [f"{fault['where']} {fault['what']}" for fault in in_plain_words(exc.errors())]
        raise UnreadableRecord(f"schema {schema}: {'; '.join(faults)}") from exc
    except KeyError as exc:
        raise UnreadableRecord(f"schema {schema}: {exc}") from exc
    if broken := violations(record):
        raise UnreadableRecord(f"{record.analysis_date}: breaks {', '.join(broken)}")
    return record


def _plain(record: DateRecord) -> DateRecord:
    """Return the record with dictionaries for pydantic in place of read-only views; the store keeps the revision."""
    return replace(record, completions=dict(record.completions), claimed_runs=dict(record.claimed_runs), revision="")
