"""Families of errors, by the person or system that can cure the error; masking of credentials in texts. Pure.

`schemas.completion.Refusal` is the only error outside this module: a message that can never become an event.

`masked` removes credentials from settings, log lines, errors and answers. A credential is recognised by the place: user
information or a query parameter of an address, elsewhere a parameter with the name of a credential.
"""

import re
from datetime import date


class PipelineError(Exception):
    """Base of every error raised on purpose; only the subclasses are raised."""


class Unavailable(PipelineError):
    """A dependency does not answer. Retry with backoff, a bounded number of times."""


class Denied(Unavailable):
    """The operator's fault: a dependency answers and refuses this account, because of the password or a missing right.

    Retried like an outage, because the operator may correct the account; a process that starts ends with code 1.
    """


class SourceGone(Unavailable):
    """Upstream's temporary fault: the file behind a table is absent or unreadable. Builds count the table as empty."""


class PublishRefused(Unavailable):
    """The bus answers and refuses a publish: no such topic, no right, or a message beyond a limit.

    Retried like an outage, because the operator may create the topic or grant the right.
    """


class Fatal(PipelineError):
    """Waiting cures no such error: denied access, an invalid query, a bug. Fail the analysis date at once."""


class SchemaDrift(Fatal):
    """Upstream's fault: a table or column that a statement reads is absent or has another type."""


class AccessDenied(Fatal):
    """The operator's fault: the warehouse denies this account a table, a column or an action."""


class Fenced(PipelineError):
    """A newer fencing token owns the analysis date, so this worker must stop the build."""


class InvariantBroken(PipelineError):
    """A bug: a record violates an invariant. Stop this analysis date, continue the others, page the person on call."""


class CorruptRecord(PipelineError):
    """A stored record cannot be read. The worker sets the record aside; other analysis dates are not affected.

    Attributes:
        analysis_date: Analysis date of the record.
    """

    def __init__(self, analysis_date: date, detail: str) -> None:
        super().__init__(f"the stored record of {analysis_date} is unreadable: {detail}")
        self.analysis_date = analysis_date


class CommitRefused(PipelineError):
    """The state store refused the commit of one analysis date and accepts commits of other analysis dates.

    Attributes:
        analysis_date: Analysis date of the commit.
    """

    def __init__(self, analysis_date: date, detail: str) -> None:
        super().__init__(f"the state store refused a commit of {analysis_date}: {detail}; mlfs doctor names the key")
        self.analysis_date = analysis_date


class SweepFailed(PipelineError):
    """Every analysis date of a sweep failed, so the failures have a common cause."""


class Conflict(PipelineError):
    """Other workers changed the record between load and commit, more often than the bound. Retry later."""


class Refused(PipelineError):
    """The caller's fault: the state of the analysis date excludes the request. The message names the next step."""


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
    """The caller's fault: the token is absent or invalid.

    Attributes:
        because: Class of fault, a closed set for metrics.
    """

    def __init__(self, because: str, detail: str) -> None:
        super().__init__(detail)
        self.because = because


class Forbidden(PipelineError):
    """The caller's fault: the token is valid and the role does not allow the request.

    Attributes:
        because: Class of fault, a closed set for metrics.
    """

    def __init__(self, because: str, detail: str) -> None:
        super().__init__(detail)
        self.because = because


# A long word anywhere in the name, a short word as the whole last part, or the ending `key`.
_NAME = (
    r"[\w.%-]*(?:passw(?:or)?d|pwd|secret|token|credential|signature|api[_.-]?key)[\w.%-]*"
    r"|(?:[\w.%-]*[_.-])?(?:auth|authorization|sig|pass|pw|sas|code)|[\w.%-]*key"
)
# Every other parameter of an address may be a credential.
_HARMLESS = r"(?:location|db|health_check_interval|ssl_\w+|prettyPrint|alt|format|limit)="
_ADDRESS = re.compile(r"(?<!\w)\w+://[^\s\"'<>]+")
_ADDRESS_PARAMETER = re.compile(rf"([?&;#](?!{_HARMLESS})[^=&;#]+=)[^&;#]+")
_PARAMETER = re.compile(rf"(?i)([?&;#](?:{_NAME})=)[^&;#\s\"'<>]+")
# A password may contain an @: the last @ before a space ends the password.
_URL_PASSWORD = re.compile(r"((?<!\w)\w+://[^:/@\s]*:)\S+@")
# Without a colon the user name is the credential: an access token.
_URL_USER = re.compile(r"((?<!\w)https?://)[^:/@\s?#]+@")
_CUT_URL_PASSWORD = re.compile(r"((?<!\w)\w+://[^:/@\s]*:)\S*$")
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
_BEARER = re.compile(r"(?i)\b(bearer|basic) +[\w.~+/=-]{6,}")


# Quick test: a text without a match holds no credential. Most log lines have no match, and the intake logs thousands of
# lines a second.
MAY_HOLD_CREDENTIAL = re.compile("[@=]|eyJ|[Bb]earer |[Bb]asic |BEARER |BASIC ")


def masked(text: str) -> str:
    """Return *text* with `***` in place of each credential."""
    if not MAY_HOLD_CREDENTIAL.search(text):
        return text
    text = _URL_USER.sub(r"\1***@", _URL_PASSWORD.sub(r"\1***@", text))
    if "://" in text:
        text = _ADDRESS.sub(lambda found: _ADDRESS_PARAMETER.sub(r"\1***", found.group()), text)
    text = _JWT.sub("***", _PARAMETER.sub(r"\1***", text))
    return _BEARER.sub(r"\1 ***", text)


def masked_cut(text: str, chars: int) -> str:
    """Return the first *chars* of *text*, masked; mask a password at the cut although the @ was cut off."""
    return masked(_CUT_URL_PASSWORD.sub(r"\1***", text[:chars]) if len(text) > chars else text)
