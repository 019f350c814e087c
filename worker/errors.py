"""The families of errors, by who can cure them.

A message that can never become an event is `schemas.completion.Refusal`; everything else the product raises is here.
"""

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
