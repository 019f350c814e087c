"""A reason is something that a reader can see, by every way in which it comes."""

import sys
import unicodedata

import pytest

from worker.interventions.audit import REASON_CHARS_MAX, read_reason

UNSEEN = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if unicodedata.category(chr(code)) in {"Cc", "Cf", "Zs", "Zl", "Zp", "Cs"}
]


def test_no_character_that_shows_nothing_is_a_reason() -> None:
    taken = []
    for character in [*UNSEEN, "\u3164", "\u115f", "\uffa0", "\u2800", "\u034f", "\ufe0f", "\U000e0101"]:
        try:
            taken.append(read_reason(f" {character}{character} "))
        except ValueError:
            continue

    assert len(UNSEEN) > 200
    assert taken == []


@pytest.mark.parametrize(
    "text", ["daily cache", "repariert: gestern", "日本", "تم الإصلاح", "🙂", "x", "?", "e\u0301", "\u202ex"]
)
def test_words_in_every_script_are_reasons(text: str) -> None:
    assert read_reason(f" {text}\n") == text


@pytest.mark.parametrize("text", ["", "   ", "x" * (REASON_CHARS_MAX + 1), "caf\udce9"])
def test_nothing_too_much_and_no_text_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        read_reason(text)
