"""The families of errors, by who can cure them.

A message that can never become an event is `schemas.completion.Refusal`; everything else the product raises is here.

Credentials out of texts that people read: settings, log lines, errors, answers. Pure.

A credential is known by its place: user information or a query parameter of an address, elsewhere a parameter whose
name says so.
"""

import re
from datetime import date


class PipelineError(Exception):
    """The base of every error raised on purpose. Raise one of its families instead."""


class Unavailable(PipelineError):
    """The weather's fault: something outside does not answer. Retry with backoff, bounded."""


class Denied(Unavailable):
    """The operator's fault: a part answers and refuses this account, by its password or a missing right.

    Repeated like any outage, since the account may be corrected meanwhile; a process that starts ends with code 1.
    """


class SourceGone(Unavailable):
    """The upstream's fault, and it may pass: the file behind a linked table is not there. Only its readers suffer."""


class PublishRefused(Unavailable):
    """The bus answers and refuses a publish: no such topic, no right, or a message beyond a limit.

    Repeated like any outage, since the topic may be created and the right be granted meanwhile.
    """


class Fatal(PipelineError):
    """Nobody outside can cure it by waiting: denied access, an invalid query, a bug. Fail the date at once."""


class SchemaDrift(Fatal):
    """The upstream's fault: a table or a column that the build reads is gone or has another type."""


class Fenced(PipelineError):
    """Not an error of the world: a newer (generation, attempt) owns the date, so this worker must stop."""


class InvariantBroken(PipelineError):
    """Our fault: a record contradicts itself. Stop this date, leave the others alone, page someone."""


class CorruptRecord(PipelineError):
    """A stored record cannot be read. It is set aside and only its own date suffers.

    Attributes:
        analysis_date: Whose record it is.
    """

    def __init__(self, analysis_date: date, detail: str) -> None:
        super().__init__(f"the stored record of {analysis_date} is unreadable: {detail}")
        self.analysis_date = analysis_date


class CommitRefused(PipelineError):
    """The state store refused the commit of one analysis date, and would store the commit of another one.

    Attributes:
        analysis_date: The date of the commit.
    """

    def __init__(self, analysis_date: date, detail: str) -> None:
        super().__init__(f"the state store refused a commit of {analysis_date}: {detail}; mlfs doctor names the key")
        self.analysis_date = analysis_date


class SweepFailed(PipelineError):
    """No analysis date of a sweep could be handled, although each failed by a fault of its own: the cause is shared."""


class Conflict(PipelineError):
    """Somebody else changed the record between load and commit, more often than the bound allows. Retry later."""


class Refused(PipelineError):
    """The caller's fault: the request makes no sense in this state. Says what to do instead."""


class TwoDates(Refused):
    """The caller's fault: a word may mean either of two analysis dates, and the request would change one of them.

    Attributes:
        dates: The two dates.
    """

    def __init__(self, word: str, ending: date, begun: date, wall_clock: str) -> None:
        super().__init__(
            f"at {wall_clock} {word!r} may mean {ending:%A} {ending}, whose night is ending, or {begun:%A} {begun}, "
            f"which has begun; write the date in place of {word!r}: {ending} or {begun}"
        )
        self.dates = (ending, begun)


class BadSettings(ValueError):
    """The operator's fault: one or more settings are wrong. The message lists all faults."""


class Unauthenticated(PipelineError):
    """The caller's fault: nobody is shown, or by a token that proves nothing.

    Attributes:
        because: The class of fault, a closed set for metrics.
    """

    def __init__(self, because: str, detail: str) -> None:
        super().__init__(detail)
        self.because = because


class Forbidden(PipelineError):
    """The caller's fault: known, and not allowed.

    Attributes:
        because: The class of fault, a closed set for metrics.
    """

    def __init__(self, because: str, detail: str) -> None:
        super().__init__(detail)
        self.because = because


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
