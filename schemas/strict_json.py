"""Strict JSON: UTF-8, no NaN, no key twice in one object, a bounded depth.

A text nested deeper than `DEPTH_MAX` is refused before the parser reads the text. The parser is recursive: without
this bound, the caller's place on the stack would decide whether the parser refuses a text, or returns a value that no
encoder can write again.
"""

import json
import re
from typing import Any

# The pipeline's own messages are one deep. A newer sender's fields have room, and every stack has room for 64 levels.
DEPTH_MAX = 64
# A text from its quotation mark to its end, also where the end is missing. Possessive, so that a hostile body costs one
# pass over its bytes.
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def parse(data: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of a JSON text.

    Raises:
        ValueError: The bytes are no strict JSON; the message names the fault.
    """
    if nests_too_deep(data):
        raise ValueError(f"lists and objects are nested more than {DEPTH_MAX} levels deep, or are not closed")
    return json.loads(data.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_unique_keys)


def nests_too_deep(data: bytes) -> bool:
    """Return whether lists and objects are nested more than `DEPTH_MAX` levels deep, or unbalanced beyond so many."""
    if data.count(b"[") + data.count(b"{") <= DEPTH_MAX:
        return False
    brackets = _TEXT.sub(b"", data).translate(_ONE_KIND, _NO_BRACKETS)
    for _level in range(DEPTH_MAX):
        # Each round removes the innermost level of every branch.
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse `{"status": "failed", "status": "success"}`: the parser, not the sender, would choose the value."""
    body = dict(pairs)
    if len(body) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return body
