"""What counts as a reason that a person gives: text that a reader can see. Pure."""

import re

REASON_CHARS_MAX = 500

# White space, controls, and what Unicode shows as nothing: format characters, fillers, variation selectors, joiners.
# Written as characters, since the readers of the API's description have no common escape beyond U+FFFF.
_BLANK = (
    "\x00-\x1f\x7f-\x9f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u17b4-\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
SEEN_PATTERN = rf"[^\s{_BLANK}]"


def read_reason(text: str) -> str:
    """Return a reason without white space around it.

    Raises:
        ValueError: The text is too long, cannot be stored, or shows nothing.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be UTF-8") from None
    if len(text) > REASON_CHARS_MAX or not re.search(SEEN_PATTERN, text):
        raise ValueError(f"must be 1 to {REASON_CHARS_MAX} characters, one of them visible")
    return text.strip()
