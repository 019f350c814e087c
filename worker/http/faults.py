"""What is wrong with an input, in the words of whoever sent it: the field and what is allowed there. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from worker.http.models import KEY_PATTERN, RELATIVE_PATTERN, SAID_PATTERN

_DATE = "must be a date like 2024-12-15"
_PATTERNS: Mapping[str, str] = {
    RELATIVE_PATTERN: "must be today, tonight or yesterday",
    SAID_PATTERN: "must be more than white space",
    KEY_PATTERN: "must be 1 to 200 visible ASCII characters without a space",
}
_WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "extra_forbidden": "is not known here; leave it out",
    "json_invalid": "must be JSON",
    "bool_type": "must be true or false, without quotes",
    "bool_parsing": "must be true or false",
    "string_type": "must be a text",
    "string_too_short": "must be {min_length} characters or more",
    "string_too_long": "must be {max_length} characters or fewer",
    "model_attributes_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": "must be a day of the calendar, like 2024-12-15",
}
"""By the kind of fault, as pydantic names it."""


def in_plain_words(faults: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Give `where` and `what` of each wrong field; a field that allows several kinds of value is named once.

    Args:
        faults: As pydantic reports them (`loc`, `type`, `ctx`, `msg`).
    """
    told: dict[str, list[str]] = {}
    for fault in faults:
        # Deeper than body and field lie the kinds of value that were tried.
        where = ".".join(part for part in fault["loc"][:2] if isinstance(part, str))
        told.setdefault(where, []).append(_words(fault))
    return [{"where": where, "what": _either(whats)} for where, whats in told.items()]


def _words(fault: Mapping[str, Any]) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "value_error":
        return str(fault["msg"]).removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], "has characters that are not allowed here")
    return _WORDS.get(kind, "is none of the values that are allowed here").format_map(context)


def _either(whats: Iterable[str]) -> str:
    first, *others = dict.fromkeys(whats)
    return ", or ".join([first, *(other.removeprefix("must be ") for other in others)])
