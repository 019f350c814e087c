"""Credentials out of texts that people read: settings, log lines, errors, answers. Pure.

A credential is known by its place: user information or a query parameter of an address, elsewhere a parameter whose
name says so.
"""

import re

# Names that hold one of these anywhere, or that are one of the short words, or that end in `key`.
_NAME = (
    r"[\w.%-]*(?:passw(?:or)?d|pwd|secret|token|credential|signature|api[_.-]?key)[\w.%-]*"
    r"|(?:[\w.%-]*[_.-])?(?:auth|authorization|sig|pass|pw|sas|code)|[\w.%-]*key"
)
# In an address every parameter may be a credential, whatever its name; these are none.
_HARMLESS = r"(?:location|db|health_check_interval|ssl_\w+|prettyPrint|alt|format|limit)="
_ADDRESS = re.compile(r"(?<!\w)\w+://[^\s\"'<>]+")
_ADDRESS_PARAMETER = re.compile(rf"([?&;#](?!{_HARMLESS})[^=&;#]+=)[^&;#]+")
_PARAMETER = re.compile(rf"(?i)([?&;#](?:{_NAME})=)[^&;#\s\"'<>]+")
# A password may itself hold an @: the last one before a space ends it.
_URL_PASSWORD = re.compile(r"((?<!\w)\w+://[^:/@\s]*:)\S+@")
# Without a colon the user is the credential, as with access tokens.
_URL_USER = re.compile(r"((?<!\w)https?://)[^:/@\s?#]+@")
_CUT_URL_PASSWORD = re.compile(r"((?<!\w)\w+://[^:/@\s]*:)\S*$")
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
_BEARER = re.compile(r"(?i)\b(bearer|basic) +[\w.~+/=-]{6,}")


def masked(text: str) -> str:
    """Return *text* with `***` in the place of each credential."""
    # Quick looks spare most texts the searches: a log line has a dozen values, an intake thousands of lines a second.
    if "@" in text:
        text = _URL_USER.sub(r"\1***@", _URL_PASSWORD.sub(r"\1***@", text))
    if "=" in text:
        if "://" in text:
            text = _ADDRESS.sub(lambda found: _ADDRESS_PARAMETER.sub(r"\1***", found.group()), text)
        text = _PARAMETER.sub(r"\1***", text)
    if "eyJ" in text:
        text = _JWT.sub("***", text)
    return _BEARER.sub(r"\1 ***", text) if "earer " in text or "asic " in text else text


def masked_cut(text: str, chars: int) -> str:
    """Return the first *chars* of *text*, masked; a password at the cut is masked although its @ was cut off."""
    return masked(_CUT_URL_PASSWORD.sub(r"\1***", text[:chars]) if len(text) > chars else text)
