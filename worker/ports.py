"""Ports of the worker: one Protocol for each dependency, and the values that cross a port.

`worker.adapters` holds the implementations; `tests/contract` holds the rules for every implementation. A method that
stores takes effect as a whole or not at all, so a crash during a call leaves the state before or after the call.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Protocol

from pydantic import PlainSerializer

from statemachine.model import CompletionStatus, DateRecord
from worker.errors import PipelineError
from worker.features.arrivals import Arrival
from worker.features.model import BuildKey, LedgerRow, Publication, Statement, StatementEstimate, StepCost
from worker.features.pipeline import Pipeline


class Warehouse(Protocol):
    """Warehouse in which features are built and published: BigQuery in the cloud, DuckDB on one machine.

    A warehouse is opened for one pipeline. Every method may raise `Unavailable` (another attempt may succeed) or
    `Fatal` (another attempt would fail the same way).
    """

    @property
    def pipeline(self) -> Pipeline:
        """Return the pipeline whose tables the warehouse writes."""

    def ensure_tables(self) -> None:
        """Create the absent datasets and tables of the product. Repeatable."""

    def prepare_builds(self) -> None:
        """Prepare the statements and libraries of the first build; send no query."""

    def columns(self, table: str) -> Mapping[str, str]:
        """Return the columns of `dataset.table` as {name: BigQuery type}; empty if the table does not exist."""

    def columns_of(self, tables: Collection[str]) -> Mapping[str, Mapping[str, str]]:
        """Return the columns of several tables, by table; empty for a table that is absent or denied to this account.

        Names of tables and columns are compared without case.
        """

    def query(self, statement: Statement) -> Sequence[Mapping[str, Any]]:
        """Run one SELECT and return the rows as dictionaries."""

    def query_all(self, statements: Sequence[Statement]) -> Sequence[Sequence[Mapping[str, Any]] | PipelineError]:
        """Run several SELECTs side by side; return the rows of each in order, or the error of the statement."""

    def stage(self, key: BuildKey, select: Statement) -> None:
        """Store the rows of *select* in `generations`, invisible to every view, once for each attempt.

        Staging the same attempt again succeeds without effect.
        """

    def claim(self, key: BuildKey, at: datetime, claimant: str) -> None:
        """Claim the analysis date for an attempt: the ledger refuses every older attempt afterwards.

        A repeated claim of the same claimant succeeds without effect, until the attempt is committed. After the state
        store has lost a record, two claimants may claim the same fencing token; only the first claim succeeds.

        Args:
            key: Analysis date and fencing token.
            at: Instant of the claim. UTC.
            claimant: Name of the claim, unique to an attempt of a worker.

        Raises:
            Fenced: A newer attempt has claimed the analysis date, another claimant holds the same fencing token, or the
                generation or a newer generation is committed.
        """

    def claimed_token(self, analysis_date: date) -> tuple[int, int]:
        """Return the newest claimed (generation, attempt) of the analysis date; (0, 0) without a claim."""

    def publish(self, publication: Publication) -> None:
        """Append to the quality history, then set the pointer to the staged rows of an attempt, in one statement.

        The statement has no effect unless the claimant holds the newest claim, no equal or newer generation is
        published, and every scored row is stored. Publishing the same attempt again succeeds without effect, so the
        ledger resolves a lost reply.

        Raises:
            Fenced: Another claimant has claimed the analysis date, or the generation is published; consumers read the
                same rows as before.
            Fatal: A scored row is absent.
        """

    def read_ledger(self, analysis_date: date) -> LedgerRow | None:
        """Return the ledger row of the published generation; None if the analysis date has no publication."""

    def read_ledger_since(self, first: date) -> Sequence[LedgerRow]:
        """Return the ledger rows of the published generations from *first* on, by analysis date."""

    def log_execution(self, row: Mapping[str, Any]) -> None:
        """Append a row of `records.execution_row` to the execution log."""

    def log_history(self, row: Mapping[str, Any]) -> None:
        """Append a row of `records.history_row` to the quality history, after a refusal by the quality gate."""

    def log_replay(self, row: Mapping[str, Any]) -> None:
        """Append a row to the replay audit, before the replay takes effect."""

    def record_arrivals(self, arrivals: Sequence[Arrival]) -> None:
        """Append the arrivals that the table of arrivals lacks, compared by `arrivals.IDENTITY`. Repeatable.

        Args:
            arrivals: One or more, no two with the same identity.
        """

    def estimate(self, statement: Statement) -> StatementEstimate:
        """Check one SELECT and return the estimated size and cost, without running the SELECT."""

    def costs(self, since: datetime, until: datetime) -> Sequence[StepCost]:
        """Return the costs of the pipeline's jobs that began in [*since*, *until*), UTC, newest day first."""

    def delete_rows(self, change: Statement) -> int:
        """Run one DELETE on `generations`; return the number of deleted rows. Repeatable."""

    def export_features(self, analysis_date: date, build_id: str, path: str) -> int:
        """Write the published rows of one build to a .parquet, .csv or .jsonl file; return the number of rows."""

    def close(self) -> None:
        """Release connections and files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMessage:
    """Message for the bus, as stored in the outbox.

    Attributes:
        event_id: Deterministic id, by which a consumer drops a repeated message.
        topic: Short topic name, without the project.
        data: JSON body.
        attributes: Message attributes.
        ordering_key: Analysis date, so that the generations of an analysis date stay in order.
    """

    event_id: str
    topic: str
    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEntry:
    """Entry of the outbox.

    Attributes:
        entry_id: Id given by the store.
        message: Message to publish.
        queued_at: Instant of the commit by the store's clock, UTC; None if the store keeps no time.
        error: Error of the last publication; empty before the first publication.
    """

    entry_id: str
    message: OutgoingMessage
    queued_at: datetime | None = None
    error: str = ""


_Instant = Annotated[datetime, PlainSerializer(datetime.isoformat, return_type=str)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Report of a processor that a change added to the record, or the rows that a probe found.

    Attributes:
        processor: Processor of the report.
        run: Identity of the run, as in `statemachine.model.Completion.identity`.
        status: success, failed or found.
        completed_at: End of the run. UTC.
        row_count: Rows according to the report; None if not reported.
    """

    processor: str
    run: str
    status: CompletionStatus
    completed_at: _Instant
    row_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One change of one analysis date.

    Attributes:
        at: Instant of the decision. UTC.
        event: Name of the event.
        before: State before the change.
        after: State after the change.
        reason: Reason of the decision.
        generation: Generation after the change.
        attempt: Attempt after the change.
        actor: Worker or person.
        detail: A sentence with the facts of the change.
        reports: Reports that count since the change; the store enters the analysis date among the unwritten arrivals.
    """

    at: _Instant
    event: str
    before: str
    after: str
    reason: str
    generation: int
    attempt: int
    actor: str
    detail: str
    reports: tuple[Report, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Commit of one decision, stored as a whole or not at all.

    Attributes:
        record: New record; the version is the old version plus one, the revision is the old revision.
        operation_id: Name of the commit: a commit sent twice is stored once. Becomes the revision of the record.
        messages: Messages for the outbox.
        history: Entry for the history; None for a renewal of a lease.
        expires_after_s: Seconds until the store deletes a finished analysis date; None keeps the date.
    """

    record: DateRecord
    operation_id: str
    messages: Sequence[OutgoingMessage] = ()
    history: HistoryEntry | None = None
    expires_after_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedMessage:
    """Short copy of a refused message, kept for a person."""

    reason: str
    detail: str
    message_id: str
    received_at: datetime
    data: bytes
    attributes: Mapping[str, str]


# The keys of the store in which something unreadable can lie, by the first part of their names.
DAMAGE_KINDS = ("wake", "dates", "arrivals", "outbox", "changes", "parked", "calendar", "refused", "request")


class StateStore(Protocol):
    """Store of the records: Redis, or memory in tests. Every method may raise `Unavailable`."""

    def load(self, analysis_date: date) -> DateRecord | None:
        """Return the record; None for an unknown analysis date.

        Raises:
            CorruptRecord: The stored record is unreadable.
        """

    def commit(self, commit: Commit) -> bool:
        """Store record, wake index entry, messages and history in one step.

        Return False if version or revision of the stored record differ from the decision's record: another worker
        changed the record, or the record was lost and created again.

        Raises:
            CommitRefused: The store refuses this commit and accepts commits of other analysis dates.
        """

    def renew(self, held: DateRecord, until_at: datetime, operation_id: str) -> bool:
        """Extend the lease of *held* in the record and in the wake index; write no other part of the record.

        *operation_id* becomes the revision, so a commit decided on the record before the renewal is a conflict. False
        if version and revision are no longer those of *held*. A repeat under the same operation id is a success.

        Raises:
            CommitRefused: The store refuses this renewal and would take a renewal of another analysis date.
        """

    def load_all(self, analysis_dates: Sequence[date]) -> Mapping[date, DateRecord | None]:
        """Return several records in one trip: None for an unknown date, no entry for an unreadable record."""

    def commit_all(self, commits: Sequence[Commit]) -> Sequence[bool]:
        """Store several commits in one trip, in the given order, each as a whole or not at all.

        Several commits may belong to one analysis date. False stands for a commit that was not stored, for any cause.
        After an exception the caller sends the same commits again; no commit is stored twice.
        """

    def barrier(self) -> None:
        """Return when every earlier write is as durable as a commit; for a decision without a write."""

    def quarantine(self, analysis_date: date) -> None:
        """Set an unreadable record aside, so that the analysis date can be opened again; keep a readable record.

        The analysis date becomes due at once: after a crash of this worker the next sweep opens the date again.
        """

    def due(self, now: datetime, limit: int, skip: int = 0) -> Sequence[date]:
        """Return the due analysis dates, the longest overdue first, without the first *skip* dates."""

    def next_wake(self, after: datetime | None = None) -> datetime | None:
        """Return the earliest instant in the wake index, later than *after* if given; None without such an instant."""

    def dates(self, limit: int) -> Sequence[date]:
        """Return the latest known analysis dates, newest first."""

    def history(self, analysis_date: date) -> Sequence[HistoryEntry]:
        """Return the history of the analysis date, oldest entry first."""

    def unwritten_arrivals(self, limit: int, skip: int = 0) -> Mapping[date, int]:
        """Return analysis dates with reports that the table of arrivals may lack, without the first *skip* dates.

        Returns:
            {analysis date: mark}; each commit with reports replaces the mark of the analysis date.
        """

    def arrivals_written(self, marks: Mapping[date, int]) -> None:
        """Remove the given marks; keep a mark that a later commit has replaced."""

    def outbox(self, limit: int, after: str = "") -> Sequence[OutboxEntry]:
        """Return entries of the outbox, oldest first; with *after*, the entries behind this entry."""

    def remove_from_outbox(self, entry_id: str) -> None:
        """Remove a published message; no error if the entry is absent."""

    def outbox_size(self) -> int:
        """Return the number of entries in the outbox."""

    def note_refused(self, entry_id: str, error: str) -> None:
        """Store the error of the last publication of an outbox entry, until the entry is removed."""

    def park(self, parked: ParkedMessage) -> None:
        """Store a refused message for people; bounded, the oldest messages are deleted first."""

    def parked(self, limit: int) -> Sequence[ParkedMessage]:
        """Return the refused messages, newest first."""

    def last_opened(self) -> date | None:
        """Return the calendar's mark: the latest opened analysis date."""

    def set_last_opened(self, analysis_date: date) -> None:
        """Raise the mark to *analysis_date*; ignore a date below the mark."""

    def lower_last_opened(self, *, ceiling: date, to: date) -> bool:
        """Lower a mark above *ceiling* to *to*; return True if this call lowered the mark.

        Of several simultaneous calls a single call lowers the mark.
        """

    def check_writable(self) -> None:
        """Return if a commit is possible; raise `Unavailable` for a store that answers and refuses writes."""

    def damage_counts(self) -> Mapping[str, int]:
        """Return the number of unreadable members and keys found by this process, for each of `DAMAGE_KINDS`."""

    def close(self) -> None:
        """Release connections."""


class Publisher(Protocol):
    """Publisher of messages on the bus."""

    def publish(self, message: OutgoingMessage) -> str:
        """Publish and wait for the confirmation; return the message id of the bus.

        Raises:
            Unavailable: No confirmation in time; the message may have been published.
            PublishRefused: The bus refused the message: unknown topic, missing right, or a limit.
        """

    def close(self) -> None:
        """Flush and release."""


class Clock(Protocol):
    """Time for the shell. The state machine gets instants as arguments."""

    def now(self) -> datetime:
        """Return the present instant, with time zone UTC."""

    def follow(self) -> None:
        """Correct the clock by the state store's time; called at the start of each sweep.

        Raises:
            Unavailable: The state store does not answer.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """Earlier request with the same key.

    Attributes:
        fingerprint: Hash of the request.
        answer: Stored answer; None while the request runs.
    """

    fingerprint: str
    answer: str | None


class RequestLog(Protocol):
    """Log of requests by key: a request sent twice takes effect once. Every method may raise `Unavailable`."""

    def begin(self, key: str, fingerprint: str, keep: timedelta) -> Remembered | None:
        """Take a free key and return None; for a taken key return the earlier request."""

    def finish(self, key: str, fingerprint: str, answer: str, keep: timedelta) -> None:
        """Store the answer under the key."""

    def forget(self, key: str) -> None:
        """Free the key: the request had no effect."""


class TokenVerifier(Protocol):
    """Verifier of identity tokens."""

    def verify(self, token: str, audiences: Sequence[str]) -> str:
        """Return the verified e-mail address, lower case.

        Raises:
            Unauthenticated: The token is invalid for these audiences.
            Unavailable: The issuer's certificates cannot be fetched; the token may be valid.
        """
