"""What a decision wants done, in the imperative.

`PublishOutcome` is stored with the record, in the outbox, by the same commit. `StartBuild` is only a hint to the
worker that made the date ready: if it dies, the wake index tells everybody else.
"""

from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

from statemachine.model import Changes, DateRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class StartBuild:
    """Claim and build the date now."""

    analysis_date: date


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOutcome:
    """Tell the consumers how a generation ended.

    Attributes:
        record: The record whose result or failure is told.
        supersedes: The generation published before this one, None when this is the first.
        changes: What this one changed; None when this is the first, and where it is not known.
    """

    record: DateRecord
    supersedes: int | None
    changes: Changes | None = None


Effect: TypeAlias = StartBuild | PublishOutcome
