"""Faults of an input in plain words, for settings, commands, definitions and HTTP. Pure.

Pydantic finds the faults. Pydantic's phrases name Python types, so no phrase of pydantic leaves this module.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_CHOICES = re.compile(r"\^\((\w+(?:\|\w+)+)\)\$")
_DATE = "must be a date like 2024-12-15"
_NUMBER = "must be a number"
_WHOLE = "must be a whole number"
_OBJECT = "must be a JSON object"
_WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "extra_forbidden": "is not known here; leave it out",
    "json_invalid": "must be JSON",
    "bool_type": "must be true or false, without quotes",
    "bool_parsing": "must be true or false",
    "string_type": "must be a text",
    "string_unicode": "must be UTF-8",
    "string_too_short": "must be {min_length} characters or more",
    "string_too_long": "must be {max_length} characters or fewer",
    "too_short": "must have {min_length} entries or more",
    "too_long": "must have {max_length} entries or fewer",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": "has too many digits",
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "must be a number, neither infinite nor NaN",
    "decimal_parsing": _NUMBER,
    "decimal_type": _NUMBER,
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "model_attributes_type": _OBJECT,
    "model_type": _OBJECT,
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": "must be a day of the calendar, like 2024-12-15",
    "datetime_type": "must be an instant like 2024-12-15T23:25:00Z",
    "datetime_parsing": "must be an instant like 2024-12-15T23:25:00Z",
    "datetime_from_date_parsing": "must be an instant like 2024-12-15T23:25:00Z",
    "timezone_aware": "must name its zone, like 2024-12-15T23:25:00Z",
}
"""By the kind of fault, as pydantic names it."""


def words_of(fault: Mapping[str, Any], patterns: Mapping[str, str] | None = None) -> str:
    """Return the fault as the end of a sentence beginning with the name of the field.

    Args:
        fault: As pydantic reports it (`type`, `ctx`, `msg`).
        patterns: Words for a text that does not match a regular expression, by the regular expression.
    """
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "value_error":
        return str(context.get("error", "has a wrong value"))
    if kind == "string_pattern_mismatch":
        if choices := _CHOICES.fullmatch(context["pattern"]):
            *others, last = choices[1].split("|")
            return f"must be {', '.join(others)} or {last}"
        return (patterns or {}).get(context["pattern"], "has characters that are not allowed here")
    return _WORDS.get(kind, "is none of the values that are allowed here").format_map(context)


def in_plain_words(
    faults: Sequence[Mapping[str, Any]], patterns: Mapping[str, str] | None = None
) -> list[dict[str, str]]:
    """Return place and fault of each wrong field; a field with several allowed types is named once.

    Args:
        faults: As pydantic reports them (`loc`, `type`, `ctx`, `msg`).
        patterns: As `words_of` takes them.
    """
    told: dict[str, list[str]] = {}
    for fault in faults:
        # Deeper than body and field lie the kinds of value that were tried.
        where = ".".join(part for part in fault["loc"][:2] if isinstance(part, str))
        told.setdefault(where, []).append(words_of(fault, patterns))
    return [{"where": where, "what": _either(whats)} for where, whats in told.items()]


def _either(whats: Iterable[str]) -> str:
    first, *others = dict.fromkeys(whats)
    return ", or ".join([first, *(other.removeprefix("must be ") for other in others)])
