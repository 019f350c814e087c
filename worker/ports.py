"""The seams of the worker: what it needs from the outside, as Protocols. Adapters live in `worker.adapters`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol

from statemachine.model import DateRecord
from worker.features.model import BuildKey, LedgerRow, Publication, Statement, StatementEstimate, StepCost
from worker.features.pipeline import Pipeline


class Warehouse(Protocol):
    """Where the features are built and published: BigQuery in the cloud, DuckDB on one machine.

    It is opened for one pipeline, whose tables it writes. Every method may raise `Unavailable` (worth another attempt)
    or `Fatal` (not).
    """

    @property
    def pipeline(self) -> Pipeline:
        """Give the pipeline whose tables it writes."""

    def ensure_tables(self) -> None:
        """Create the datasets and tables that the product writes, where they do not exist yet. Repeatable."""

    def prepare_builds(self) -> None:
        """Make ready what the first build of this process would otherwise wait for; asks nothing of the warehouse."""

    def columns(self, table: str) -> Mapping[str, str]:
        """Give the columns of `dataset.table` as {name: BigQuery type}; empty where the table does not exist."""

    def columns_of(self, tables: Collection[str]) -> Mapping[str, Mapping[str, str]]:
        """Return the columns of several tables, by table; a warehouse far away is asked for all at once."""

    def query(self, statement: Statement) -> Sequence[Mapping[str, Any]]:
        """Run one SELECT and give its rows as dictionaries."""

    def stage(self, key: BuildKey, select: Statement) -> None:
        """Store what *select* gives in `generations`, where no view shows it; once for each attempt.

        Staging the same attempt again is a success without effect.
        """

    def claim(self, key: BuildKey, at: datetime, claimant: str) -> None:
        """Take the date for this attempt: from now on the ledger refuses every older one.

        Claiming again is a success without effect for the same claimant, until the attempt is committed. Two claimants
        can meet at one (generation, attempt) after the state store has lost the date; only the first one gets it.

        Args:
            key: The date and the token.
            at: Instant of the claim. UTC.
            claimant: Unique to one attempt of one worker.

        Raises:
            Fenced: A newer attempt has claimed the date, or another claimant this one, or its generation, or a newer
                one, is committed already.
        """

    def claimed_token(self, analysis_date: date) -> tuple[int, int]:
        """Give the newest (generation, attempt) that was ever claimed for the date, (0, 0) for none."""

    def publish(self, publication: Publication) -> None:
        """Make the staged rows of an attempt what consumers see.

        Appends to the quality history, then points the ledger at the rows, in one statement. That statement changes
        nothing unless this attempt's claimant holds the newest claim, no generation as new is published, and the rows
        that were judged are there. Publishing the very same attempt again is a success without effect: a lost reply is
        resolved by the ledger.

        Raises:
            Fenced: Somebody else has claimed the date, or the generation is published already; consumers see what they
                saw before.
            Fatal: The rows that were judged are not there.
        """

    def read_ledger(self, analysis_date: date) -> LedgerRow | None:
        """Return what is published for the date; None where nothing is."""

    def read_ledger_since(self, first: date) -> Sequence[LedgerRow]:
        """Return what is published for *first* and later dates, by date."""

    def log_execution(self, row: Mapping[str, Any]) -> None:
        """Append one row to the execution log, as `records.execution_row` makes it."""

    def log_history(self, row: Mapping[str, Any]) -> None:
        """Append one row to the quality history, as `records.history_row` makes it; for rows that the gate refuses."""

    def log_replay(self, row: Mapping[str, Any]) -> None:
        """Append one row to the replay audit; before the replay takes effect."""

    def estimate(self, statement: Statement) -> StatementEstimate:
        """Check one SELECT and say what it would read and cost, without running it."""

    def costs(self, since: datetime, until: datetime) -> Sequence[StepCost]:
        """Give what the pipeline's jobs took that began in [*since*, *until*), UTC; newest day first."""

    def delete_rows(self, change: Statement) -> int:
        """Run one DELETE of rows in `generations`; return how many are gone. Repeatable."""

    def export_features(self, analysis_date: date, build_id: str, path: str) -> int:
        """Write the published rows of one build to a .parquet, .csv or .jsonl file; return the number of rows."""

    def close(self) -> None:
        """Release connections and files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMessage:
    """One message for the bus, as stored in the outbox.

    Attributes:
        event_id: Deterministic, so that a consumer can drop a repeat.
        topic: Short topic name, without the project.
        data: The JSON body.
        attributes: Message attributes.
        ordering_key: The analysis date, so that generations of one date stay in order.
    """

    event_id: str
    topic: str
    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEntry:
    """A message waiting to be published.

    Attributes:
        entry_id: The store's own id.
        message: What to publish.
        queued_at: When the store took it, by the store's clock; None where it keeps no time. UTC.
        error: What the last try to publish it met; empty before the first one.
    """

    entry_id: str
    message: OutgoingMessage
    queued_at: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One change of one date: when, what happened, from where to where, why, and by whom.

    Attributes:
        at: Instant of the decision. UTC.
        event: Name of the event.
        before: State before.
        after: State after.
        reason: Why.
        generation: After the change.
        attempt: After the change.
        actor: The worker or the person.
        detail: One sentence with the facts of this change.
    """

    at: datetime
    event: str
    before: str
    after: str
    reason: str
    generation: int
    attempt: int
    actor: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One decision on its way to the store: all of it is stored, or nothing.

    Attributes:
        record: The new record; its version is one above the one it was decided on, its revision still that one's.
        operation_id: Names this commit, so that sending it twice stores it once; the revision of what it stores.
        messages: What to publish because of it.
        history: The entry to append; None for changes nobody needs to read about (lease renewals).
        expires_after_s: Seconds until a finished date is forgotten; None keeps it.
    """

    record: DateRecord
    operation_id: str
    messages: Sequence[OutgoingMessage] = ()
    history: HistoryEntry | None = None
    expires_after_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedMessage:
    """A message that was refused, kept for a person to look at."""

    reason: str
    detail: str
    message_id: str
    received_at: datetime
    data: bytes
    attributes: Mapping[str, str]


# The keys of the store in which something unreadable can lie, by the first part of their names.
DAMAGE_KINDS = ("wake", "dates", "outbox", "changes", "parked", "calendar", "refused", "request")


class StateStore(Protocol):
    """Where the records live: Redis, or memory in tests. Every method may raise `Unavailable`."""

    def load(self, analysis_date: date) -> DateRecord | None:
        """Give the record, None for a date never seen.

        Raises:
            CorruptRecord: What is stored is not readable.
        """

    def commit(self, commit: Commit) -> bool:
        """Store record, wake index entry, messages and history in one step.

        False when version and revision are no longer those the record was decided on: somebody else changed the date,
        or it was lost and has begun anew.

        Raises:
            CommitRefused: The store refuses this commit and would take another date's.
        """

    def load_all(self, analysis_dates: Sequence[date]) -> Mapping[date, DateRecord | None]:
        """Give several records in one trip, None for a date never seen; an unreadable one is left out of the answer."""

    def commit_all(self, commits: Sequence[Commit]) -> Sequence[bool]:
        """Store several decisions in one trip, in their order; each of them whole or not at all, as `commit` does.

        Several may follow one another on one date. False stands for whatever kept one from being stored. An error
        leaves open which were stored; sending the same commits again stores none twice.
        """

    def barrier(self) -> None:
        """Return when everything stored so far is as durable as a commit; for decisions that stored nothing new."""

    def quarantine(self, analysis_date: date) -> None:
        """Set the date's record aside so that the date can begin anew; one that is readable stays where it is.

        The date becomes due at once: if this worker dies before it has begun anew, the next sweep finds it.
        """

    def due(self, now: datetime, limit: int, skip: int = 0) -> Sequence[date]:
        """Give the dates whose `wake_at` has come, the longest overdue first, after the first *skip* of them."""

    def next_wake(self, after: datetime | None = None) -> datetime | None:
        """Give the earliest `wake_at` of all dates, of those later than *after* where it is given; None for none."""

    def dates(self, limit: int) -> Sequence[date]:
        """Give the latest dates known, newest first."""

    def history(self, analysis_date: date) -> Sequence[HistoryEntry]:
        """Give what happened to the date, oldest first."""

    def outbox(self, limit: int, after: str = "") -> Sequence[OutboxEntry]:
        """Give the messages waiting to be published, oldest first, from behind the entry *after* where it is named."""

    def remove_from_outbox(self, entry_id: str) -> None:
        """Forget a published message; no error when it is gone already."""

    def outbox_size(self) -> int:
        """Count the messages waiting to be published."""

    def note_refused(self, entry_id: str, error: str) -> None:
        """Keep what the last try to publish an entry of the outbox met, until the entry is removed."""

    def park(self, parked: ParkedMessage) -> None:
        """Keep a refused message for people to see; bounded, the oldest go first."""

    def parked(self, limit: int) -> Sequence[ParkedMessage]:
        """Give the refused messages, newest first."""

    def last_opened(self) -> date | None:
        """Give the latest date that the calendar has opened."""

    def set_last_opened(self, analysis_date: date) -> None:
        """Remember it; a lower date than the stored one changes nothing."""

    def lower_last_opened(self, *, ceiling: date, to: date) -> bool:
        """Lower the mark to *to* where it is later than *ceiling*; return whether this call did so.

        Of several that find the mark too high at once, one lowers it.
        """

    def check_writable(self) -> None:
        """Return when a commit is possible; a store that answers and cannot be written to is `Unavailable`."""

    def damage_counts(self) -> Mapping[str, int]:
        """Return how much unreadable data this process has found, for each of `DAMAGE_KINDS`."""

    def close(self) -> None:
        """Release connections."""


class Publisher(Protocol):
    """Puts messages on the bus."""

    def publish(self, message: OutgoingMessage) -> str:
        """Publish and wait for the confirmation; give the bus's message id.

        Raises:
            Unavailable: Not confirmed in time; it may or may not have been published.
            PublishRefused: The bus refused the message: no such topic, no right, or a limit.
        """

    def close(self) -> None:
        """Flush and release."""


class Clock(Protocol):
    """Time for the shell. The core gets instants as arguments."""

    def now(self) -> datetime:
        """Give the present instant, aware, UTC."""

    def follow(self) -> None:
        """Set it right, where it can be wrong; every sweep begins so.

        Raises:
            Unavailable: Whose time it follows does not answer.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What is known of a request that came under the same key before.

    Attributes:
        fingerprint: What it asked for.
        answer: What it was told; None while it is still being answered.
    """

    fingerprint: str
    answer: str | None


class RequestLog(Protocol):
    """Remembers requests by key for a while, so that one sent twice takes effect once. May raise `Unavailable`."""

    def begin(self, key: str, fingerprint: str, keep: timedelta) -> Remembered | None:
        """Take the key; None when it was free, else what is known of the request that has it."""

    def finish(self, key: str, fingerprint: str, answer: str, keep: timedelta) -> None:
        """Keep the answer under the key."""

    def forget(self, key: str) -> None:
        """Free the key: the request had no effect."""


class TokenVerifier(Protocol):
    """Tells whose identity token this is."""

    def verify(self, token: str, audiences: Sequence[str]) -> str:
        """Give the verified e-mail address, lower case.

        Raises:
            Unauthenticated: The token proves nothing here.
            Unavailable: The issuer's certificates cannot be read; the token may be good.
        """
