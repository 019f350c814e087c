"""Kinds of hostile messages, each as bytes: where fuzzing starts, and what every parser of ours must bear."""

import base64
import json
from collections.abc import Iterator
from typing import Any

GOOD: dict[str, Any] = {
    "processor": "player_daily_cache",
    "analysis_date": "2024-12-15",
    "status": "success",
    "row_count": 449,
    "run_id": "nightly-1",
    "completed_at": "2024-12-15T23:05:00-05:00",
    "error": None,
}
DATES = (
    "0001-01-01",
    "9999-12-31",
    "2024-02-30",
    "2024-12-15' OR 1=1 --",
    "２０２４-１２-１５",  # noqa: RUF001 - digits that are not ASCII
    "2024-12-15\n",
    "20241215",
    "2024-W50-7",
    "2124-12-15",
    "",
)
PROCESSORS = (
    "player_daily_cache`; DROP TABLE x; --",
    "Player_Daily_Cache",
    "рlayer_daily_cache",  # noqa: RUF001 - a Cyrillic letter
    "player_daily_cache\x00",
    "",
    "x" * 10_000,
)
INSTANTS = (
    "2024-12-15",
    "2024-12-15T23:05:00",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "1734321600",
    "now",
    "2024-12-15T24:61:00Z",
)
NUMBERS = ("NaN", "Infinity", "-Infinity", "1e309", "-1", "true", '"400"', "1.0", "9" * 5000, "null", "[]", "1e3")
RAW = (
    b"",
    b"completed!",
    b"null",
    b"[]",
    b'"text"',
    b"0",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\x00}\x00",
    b"\x80",
    b"[" * 100_000,
    b'{"a":' * 20_000,
    b'{"status": "failed", "status": "success"}',
    b'{"error": "\\ud800"}',
    b'{"error": "\\u0000"}',
    b"{} {}",
    b"{'processor': 1}",
)


# How a body is nested: what opens one level, and what closes it.
SHAPES = {
    "lists": (b"[", b"]"),
    "objects": (b'{"x":', b"}"),
    "texts with brackets": (b'["[{", ', b"]"),
}


def messages() -> Iterator[bytes]:
    """Give one body of every kind."""
    yield json.dumps(GOOD).encode()
    yield json.dumps({name: GOOD[name] for name in ("processor", "analysis_date", "status")}).encode()
    changed = (
        *({"analysis_date": text} for text in DATES),
        *({"processor": text} for text in PROCESSORS),
        *({"completed_at": text} for text in INSTANTS),
        *({"timestamp": text, "completed_at": None} for text in INSTANTS),
        *({"status": text} for text in ("found", "SUCCESS", "", 1, None, ["success"])),
        *({"run_id": text} for text in ("", "x" * 201, "\ud800", 7, "'; --")),
        *({"error": text} for text in ("\ud800", "x" * 5000, {}, "\x1b[2J")),
        {"unknown": {"nested": [1, 2, {"deep": None}]}},
    )
    for change in changed:
        yield json.dumps({**GOOD, **change}).encode()
    for number in NUMBERS:
        yield json.dumps(GOOD).replace("449", number).encode()
    yield from RAW


def pushes() -> Iterator[bytes]:
    """Give bodies of push requests: the messages in their envelope, and broken envelopes."""
    for body in messages():
        yield _wrapped({"data": base64.b64encode(body).decode()[:40_000], "messageId": "1"})
    good = base64.b64encode(json.dumps(GOOD).encode()).decode()
    yield _wrapped({"data": good, "messageId": "1", "attributes": {"analysis_date": "2024-12-16"}})
    yield _wrapped({"data": good.rstrip("=") + "_-", "messageId": "1"})
    yield _wrapped({"data": good, "messageId": 1, "publishTime": "2024-12-15T23:05:00.123456789Z"})
    yield _wrapped({"data": None})
    yield b'{"message": null, "subscription": null}'
    yield b'{"subscription": "s"}'


def nested(shape: str, depth: int) -> bytes:
    """Return a good message with one field more, by which the body is nested *depth* levels deep."""
    opened, closed = SHAPES[shape]
    inner = opened * (depth - 1) + b"1" + closed * (depth - 1)
    return json.dumps(GOOD).encode()[:-1] + b', "deep": ' + inner + b"}"


def sized(size: int) -> Iterator[bytes]:
    """Yield bodies of about *size* bytes: a long text, a flat list, many keys, digits, and bytes that are no text."""
    head = json.dumps(GOOD).encode()[:-1]
    yield head + b', "more": "' + b"x" * size + b'"}'
    yield head + b', "more": [' + b"[]," * (size // 3) + b"1]}"
    yield head + b", " + b", ".join(b'"k%d": 1' % number for number in range(size // 10)) + b', "last": 1}'
    yield head + b', "more": ' + b"9" * size + b"}"
    yield b'"\\' * (size // 3)
    yield b"\x00" * size


def with_one_field(data: bytes) -> bytes:
    """Give a good message in which one field is what *data* says: a text, a number, or any JSON."""
    chosen, text = data[:1], data[1:].decode("utf-8", "surrogateescape")
    number = chosen[0] if chosen else 0
    name = sorted(GOOD)[number % len(GOOD)]
    match number // len(GOOD) % 3:
        case 0:
            value = json.dumps(text)
        case 1:
            value = str(int.from_bytes(data[1:40], signed=True))
        case _:
            value = text
    rest = json.dumps({key: GOOD[key] for key in GOOD if key != name})
    return f'{{"{name}": {value}, {rest[1:]}'.encode("utf-8", "surrogateescape")


def _wrapped(message: dict[str, Any]) -> bytes:
    return json.dumps({"message": message, "subscription": "projects/p/subscriptions/s"}).encode()
