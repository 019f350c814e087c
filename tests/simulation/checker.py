"""The judge. It sees what crosses the boundary, keeps its own books, and shares no rule with the product.

Each complaint begins with the name of an invariant of DESIGN section 6.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from statemachine.model import DateRecord
from tests.simulation.doubts import Doubts
from tests.simulation.due import Due
from tests.simulation.moves import BY_A_BUILDER, COMMITTED, ENDED, MOVES, RETRACTING
from tests.simulation.plan import PROCESSORS, Schedule
from tests.simulation.raising import raises
from tests.simulation.replays import Replays
from tests.simulation.retractions import Retractions

if TYPE_CHECKING:
    from tests.simulation.bus import Message
    from tests.simulation.process import Process
    from tests.simulation.warehouse import Staged
    from worker.features.arrivals import Arrival
    from worker.features.model import BuildKey, Publication
    from worker.ports import Commit, OutgoingMessage

ATTEMPTS_MAX = 3
# A build by hand counts its attempts from here.
BY_HAND_MIN = 1000
ROWS_MIN, SCORE_MIN = 200, 75.0
# Nights of the schedules see at most two dozen triggers; more means that something starts builds by itself.
GENERATIONS_MAX = 40
CHANGES_MAX = 400


class Violation(BaseException):
    """An invariant is broken. Nothing in the product may catch it."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """One commit of the ledger, and the rows that it shows."""

    rows_made: "Staged"
    attempt: int
    state: str
    rows: int
    score: float
    components: Mapping[str, float]
    fallback_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the judge knew of the store's records at one instant; empty for a store that was emptied."""

    records: Mapping[date, DateRecord] = field(default_factory=dict)
    due: Due = field(default_factory=Due)


@dataclass(slots=True)
class Checker:
    """What must hold at each step."""

    schedule: Schedule
    records: dict[date, DateRecord] = field(default_factory=dict)
    commits: dict[tuple[date, int], Committed] = field(default_factory=dict)
    newest: dict[date, int] = field(default_factory=dict)
    claims: dict[date, tuple[int, int]] = field(default_factory=dict)
    holders: dict[tuple[date, int, int], str] = field(default_factory=dict)
    sent: set[tuple[date, str, str]] = field(default_factory=set)
    owed: dict[str, date] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    dead_letters: set[str] = field(default_factory=set)
    changes: dict[date, int] = field(default_factory=dict)
    given_up: set[tuple[date, int]] = field(default_factory=set)
    operations: set[str] = field(default_factory=set)
    replays_asked: dict[date, int] = field(default_factory=dict)
    replays_done: dict[date, int] = field(default_factory=dict)
    audited: set[tuple[date, str, str]] = field(default_factory=set)
    requests: set[str] = field(default_factory=set)
    cancels: set[date] = field(default_factory=set)
    retractions: Retractions = field(default_factory=Retractions)
    counted: set[tuple[date, str, str, str]] = field(default_factory=set)
    due: Due = field(default_factory=Due)
    replays: Replays = field(default_factory=Replays)
    doubts: Doubts = field(default_factory=Doubts)

    def demand(self, holds: bool, invariant: str, detail: str) -> None:
        if not holds:
            raise Violation(invariant, detail)

    def about(self, body: bytes) -> tuple[date, str, str] | None:
        """What a message reports, read without the product; None for one that reports nothing."""
        if raises(body):
            return None
        try:
            said = json.loads(body)
            day = date.fromisoformat(said["analysis_date"])
        except (ValueError, TypeError, KeyError):
            return None
        true = (
            said["processor"] in PROCESSORS and said["status"] in {"success", "failed"} and day in self.schedule.nights
        )
        return (day, said["processor"], said["status"]) if true else None

    # --- the store ---------------------------------------------------------------------------------------------------

    def committed(self, process: "Process", commit: "Commit") -> None:
        """One change was stored."""
        after = commit.record
        day = after.analysis_date
        before = self.records.get(day)
        # A look that found nothing is so usual that no history tells it.
        reason = str(commit.history.reason) if commit.history is not None else "still_missing"
        what = f"{day} {before.state if before else None} -> {after.state} ({reason}, by {process.name})"
        self.records[day] = after
        self.due.follow(before, after, process.world.now)
        self.changes[day] = self.changes.get(day, 0) + 1
        known = before.completions if before is not None else {}
        self.counted |= {
            (day, name, one.identity, str(one.status))
            for name, one in after.completions.items()
            if known.get(name) != one
        }
        self._retracted(before, after, reason, what)
        self._monotone(before, after, what)
        self._move(before, after, reason, what)
        self._quiet(before, commit, what)
        self._justified(process, before, after, reason, what)
        self._told(before, commit, reason, what)
        overlooked = self.doubts.overlooked(after, process.clock.now())
        self.demand(not overlooked, "a doubted run is replaced by the next", f"{what}: {sorted(overlooked)}")

    def renewed(self, process: "Process", day: date, until_at: datetime) -> None:
        """A lease was extended, and nothing else of the record was stored."""
        before = self.records.get(day)
        assert before is not None
        what = f"{day} renewed until {until_at:%H:%M:%S} (lease_renewed, by {process.name})"
        self.demand(before.lease is not None and not before.giving_up, "fenced owners change nothing", what)
        self.changes[day] = self.changes.get(day, 0) + 1
        self.demand(self.changes[day] <= CHANGES_MAX, "everything bounded", what)
        after = before.with_lease_until(until_at)
        self._move(before, after, "lease_renewed", what)
        self.records[day] = after
        self.due.follow(before, after, process.world.now)

    def _retracted(self, before: DateRecord | None, after: DateRecord, reason: str, what: str) -> None:
        """Whether what a person takes back is audited first, stays, and is asked for."""
        day, known = after.analysis_date, before.retractions if before else ()
        self.demand(after.retractions[: len(known)] == known, "no retraction lost", what)
        for one in after.retractions[len(known) :]:
            self.demand((day, one.processor, one.identity) in self.audited, "audit before effect", what)
            self.demand(reason in RETRACTING, "legal move", what)
            self.retractions.add(day, one, str(before.state) if before else "waiting")
        for completion in after.completions.values():
            counts = completion.status in {"success", "found"}
            back = counts and any(
                one.processor == completion.processor and one.identity == completion.identity
                for one in after.retractions
            )
            self.demand(not back, "a retracted run does not count", f"{what}: {completion.processor}")
        if reason == "claimed":
            self.retractions.claimed(after)
            self.doubts.claimed(after)

    def _monotone(self, before: DateRecord | None, after: DateRecord, what: str) -> None:
        day = after.analysis_date
        self.demand(after.version == (before.version if before else 0) + 1, "monotone version", what)
        self.demand(after.generation <= GENERATIONS_MAX, "everything bounded", what)
        by_hand = after.attempt >= BY_HAND_MIN and (day, after.generation) in self.commits
        self.demand(after.attempt <= ATTEMPTS_MAX or by_hand, "everything bounded", what)
        self.demand(self.changes[after.analysis_date] <= CHANGES_MAX, "everything bounded", what)
        if before is None:
            return
        token, next_token = (before.generation, before.attempt), (after.generation, after.attempt)
        self.demand(next_token >= token, "monotone generation", f"{what}: {token} -> {next_token}")
        for name, completion in before.completions.items():
            if completion.status == "success" and not self.retractions.excuse(after.analysis_date, completion):
                kept = after.completions.get(name)
                self.demand(
                    kept is not None and kept.status == "success", "no acked completion lost", f"{what}: {name}"
                )
        same = (before.deadline_at, before.upgrade_cutoff_at) == (after.deadline_at, after.upgrade_cutoff_at)
        self.demand(same, "deadline never moves", what)

    def _move(self, before: DateRecord | None, after: DateRecord, reason: str, what: str) -> None:
        allowed = MOVES[str(before.state) if before else None].get(str(after.state), set())
        stable = before is not None and before.state in ENDED
        self.demand(reason in allowed, "terminal states stable" if stable else "legal move", what)
        if before is None:
            return
        if before.state in ENDED and after.state not in ENDED:
            self.demand(after.generation > before.generation, "terminal states stable", what)
        if reason in BY_A_BUILDER | {"lease_renewed"}:
            owner = before.lease.owner if before.lease else None
            self.demand(what.endswith(f"by {owner})"), "fenced owners change nothing", f"{what}: owner is {owner}")

    def _quiet(self, before: DateRecord | None, commit: "Commit", what: str) -> None:
        """What no history tells changes only when something is due next."""
        if commit.history is not None:
            return
        after, known = commit.record, before
        same = known is not None and after == replace(known, version=after.version, wake_at=after.wake_at)
        self.demand(same and not commit.messages, "history tells every change", what)

    def _justified(
        self, process: "Process", before: DateRecord | None, after: DateRecord, reason: str, what: str
    ) -> None:
        """Whether what the decision stands on is true outside, too."""
        day, now = after.analysis_date, process.clock.now()
        counted = {name for name, completion in after.completions.items() if completion.status in {"success", "found"}}
        if after.state == "waiting":
            self.demand(counted != set(PROCESSORS), "ready <=> four successes", what)
        for name, completion in after.completions.items():
            if completion.status == "found":
                continue
            true = (day, name, str(completion.status)) in self.sent
            self.demand(true, "ready <=> four successes", f"{what}: {name} never reported {completion.status}")
        if reason in {"join_complete", "found_all"}:
            self.demand(counted == set(PROCESSORS), "ready <=> four successes", what)
        if reason == "found_all":
            found = {name for name, one in after.completions.items() if one.status == "found"}
            self.demand(found <= process.probed.get(day, frozenset()), "ready <=> four successes", what)
        if reason in {"found_all", "deadline_passed"} and before is not None:
            self.demand(now >= before.deadline_at, "deadline not early", what)
        if reason == "deadline_passed":
            self._fallback_justified(process, after, counted, what)
        if reason == "lease_expired" and before is not None and before.lease is not None:
            self.demand(now >= before.lease.until_at, "lease respected", what)

    def _fallback_justified(self, process: "Process", after: DateRecord, counted: set[str], what: str) -> None:
        missing = set(PROCESSORS) - counted
        self.demand(bool(missing), "fallback only when something was missing", what)
        if process.probe_failed:
            return
        filled = process.probed.get(after.analysis_date, frozenset())
        failed = {name for name, one in after.completions.items() if one.status == "failed"}
        taken_back = {one.processor for one in after.retractions}
        unjust = (missing & filled) - failed - taken_back
        self.demand(not unjust, "fallback only when something was missing", f"{what}: {sorted(unjust)} had rows")

    def _told(self, before: DateRecord | None, commit: "Commit", reason: str, what: str) -> None:
        """Whether an outcome is stored together with the change that makes it one."""
        after = commit.record
        day = after.analysis_date
        for message in commit.messages:
            about = json.loads(message.data)["analysis_date"]
            self.demand(about == day.isoformat() == message.ordering_key, "one date never touches another", what)
            self.owed[message.event_id] = day
        event_ids = {message.event_id for message in commit.messages}
        if reason in COMMITTED:
            assert after.result is not None
            wanted = f"{day}:{after.result.generation}"
            self.demand(any(one.endswith(wanted) for one in event_ids), "done => published", what)
        if reason in {"retries_exhausted", "fatal_error"}:
            self.demand((day, after.generation) not in self.commits, "failed => not published", what)
            self.given_up.add((day, after.generation))
        if after.state == "failed" and (before is None or before.state != "failed"):
            wanted = f"{day}:{after.generation}"
            self.demand(any(one.endswith(wanted) for one in event_ids), "failed => published", what)
        if after.result is not None:
            known = self.commits.get((day, after.result.generation))
            true = known is not None and (known.attempt, known.state, known.rows, known.score) == (
                after.result.attempt,
                after.result.state,
                after.result.row_count,
                after.result.quality_score,
            )
            self.demand(true, "published => committed", f"{what}: the record's result is not the ledger's")
        if reason in {"cancelled", "cancelling"}:
            self.demand(day in self.cancels, "audit before effect", what)
        if reason == "replay_accepted":
            self.demand(after.request_id in self.requests, "audit before effect", what)
            self.replays_done[day] = self.replays_done.get(day, 0) + 1
            once = self.replays_done[day] <= self.replays_asked.get(day, 0)
            self.demand(once, "one request, one generation", what)
            self.replays.accepted(after)
        fault = self.replays.fault(before, after, reason)
        self.demand(not fault, "a replay leads to a build of its own", f"{what}: {fault}")

    def answered(self, commit: "Commit", *, stored: bool) -> None:
        """A commit that was stored is never called a conflict: its sender would decide a second time."""
        what = f"{commit.record.analysis_date}: what was stored is refused when it is sent again"
        self.demand(stored or commit.operation_id not in self.operations, "one request, one generation", what)
        if stored:
            self.operations.add(commit.operation_id)

    def snapshot(self) -> Books:
        return Books(records=dict(self.records), due=self.due.copy())

    def store_restored(self, books: Books) -> None:
        """The store was lost, or went back in time."""
        self.records, self.due = dict(books.records), books.due.copy()
        self.owed.clear()
        self.operations.clear()
        self.replays_done.clear()
        self.replays.lost()

    def forget(self, day: date) -> None:
        """The store has no record of the date any more."""
        self.records.pop(day, None)
        self.due.forget(day)

    def outbox(self, waiting: set[str]) -> None:
        """What the outbox holds now: an outcome leaves it only by being published."""
        gone = [event_id for event_id in self.owed if event_id not in waiting]
        for event_id in gone:
            self.demand(event_id in self.told, "done => published", f"{event_id} left the outbox unpublished")
            del self.owed[event_id]

    # --- the warehouse -----------------------------------------------------------------------------------------------

    def request_audited(self, row: Mapping[str, Any]) -> None:
        """One row of the audit was written; each request has one."""
        self.demand(row["request_id"] not in self.requests, "one request, one audit row", row["request_id"])
        self.requests.add(row["request_id"])
        if row["mode"] == "cancel":
            self.cancels.add(row["analysis_date"])
        if row["mode"] == "retract":
            self.audited.add((row["analysis_date"], row["processor"], row["run"]))

    def ledger_claimed(self, key: "BuildKey", claimant: str) -> None:
        newest = self.claims.get(key.analysis_date, (0, 0))
        self.demand(key.token >= newest, "fenced owners change nothing", f"{key.build_id} claimed after {newest}")
        self.claims[key.analysis_date] = key.token
        holder = self.holders.setdefault((key.analysis_date, *key.token), claimant)
        self.demand(holder == claimant, "one owner per token", f"{key.build_id}: {claimant} beside {holder}")

    def ledger_committed(self, publication: "Publication", staged: "Staged", worth: Mapping[str, Any] | None) -> None:
        """The ledger points at rows; *worth* is what the history says of them."""
        key, report = publication.request.key, publication.report
        day, name = key.analysis_date, key.build_id
        # An attempt of a zombie stores rows like any other; only the attempt that has the date is shown, with its own.
        by_owner = publication.request.claimant.partition("/")[0] == staged.stored_by
        self.demand(staged.build_id == name and by_owner, "fenced owners change nothing", f"{name} shows {staged}")
        said = worth and (worth["row_count"], worth["quality_score"], worth["state"])
        true = said == (report.row_count, report.quality_score, str(report.earned_state))
        self.demand(true, "published => committed", f"{name}: the history says {said}")
        self.demand((day, key.generation) not in self.commits, "one commit per generation", name)
        self.demand(key.generation > self.newest.get(day, 0), "monotone ledger generation", name)
        self.demand(key.token >= self.claims.get(day, (0, 0)), "fenced owners change nothing", name)
        holder = self.holders.get((day, *key.token))
        self.demand(holder == publication.request.claimant, "one owner per token", f"{name}: {holder} has claimed it")
        self.demand(report.row_count >= ROWS_MIN and report.quality_score >= SCORE_MIN, "gate respected", name)
        # The tables are counted before they are read; rows that come in between count as late.
        counted = {processor for processor, rows in publication.stats.dependency_rows.items() if rows}
        wrong = staged.used & self.retractions.banned.get((day, *key.token), frozenset())
        self.demand(not wrong, "no build reads what was taken back", f"{name}: {sorted(wrong)}")
        self.retractions.built(key, staged.used)
        doubted = self.doubts.judged(publication)
        critical = {one.processor for one in report.findings if one.severity == "critical" and one.processor}
        self.demand(critical == doubted, "a doubted build is degraded", f"{name}: {critical}, not {doubted}")
        full = staged.filled & counted >= set(PROCESSORS) - self.schedule.optional and not staged.forced and not doubted
        state = str(report.earned_state)
        self.demand(
            state == ("done" if full else "degraded"), "fallback only when something was missing", f"{name} {state}"
        )
        self.replays.published(publication)
        self.newest[day] = key.generation
        self.demand((day, key.generation) not in self.given_up, "failed => not published", name)
        self.commits[day, key.generation] = Committed(
            rows_made=staged,
            attempt=key.attempt,
            state=state,
            rows=report.row_count,
            score=report.quality_score,
            components=dict(report.components),
            fallback_rate=report.fallback_rate,
        )

    def arrivals_recorded(self, arrivals: Sequence["Arrival"]) -> None:
        """The table of arrivals takes rows: only of reports that counted, each once."""
        identities = [arrival.identity for arrival in arrivals]
        self.demand(self.counted >= {*identities}, "each counted report arrives once", f"{identities} did not count")
        self.demand(len({*identities}) == len(identities), "each counted report arrives once", f"{identities} twice")

    def rows_kept(self, stored: Mapping[str, "Staged"]) -> None:
        """What was ever published lies there, unchanged."""
        for (day, generation), commit in self.commits.items():
            made = commit.rows_made
            kept = stored.get(made.build_id)
            what = f"{day} g{generation}: {made} became {kept}"
            self.demand(kept == made, "a published generation can be read again", what)

    # --- the bus -----------------------------------------------------------------------------------------------------

    def published(self, message: "OutgoingMessage") -> None:
        self.told.add(message.event_id)
        if message.topic == "dead":
            self._parked(message)
            return
        body: dict[str, Any] = json.loads(message.data)
        if message.topic == "failure":
            self.demand(body["state"] == "failed", "published => committed", message.event_id)
            return
        known = self.commits.get((date.fromisoformat(body["analysis_date"]), body["generation"]))
        self.demand(known is not None, "published => committed", message.event_id)
        assert known is not None
        said = (body["state"], body["row_count"], body["quality_score"], body["components"], body["fallback_rate"])
        true = (known.state, known.rows, known.score, known.components, known.fallback_rate)
        self.demand(said == true, "published => committed", f"{message.event_id}: {said} but the ledger has {true}")

    def _parked(self, message: "OutgoingMessage") -> None:
        """Whether a message in the dead-letter topic belongs there: no good one ever does."""
        self.dead_letters.add(message.attributes["mlfs_message_id"])
        reason = message.attributes["mlfs_reason"]
        right = reason == "unreadable" if raises(message.data) else bool(reason)
        self.demand(right, "bad input is parked with a reason", f"{message.event_id}: {reason}")
        self.demand(
            self.about(message.data) is None, "bad input is parked with a reason", f"{message.event_id} is good"
        )

    def acked(self, message: "Message", about: tuple[date, str, str] | None, *, store_lost: bool) -> None:
        """The product acknowledges a message; *about* is what it reports, None for one that reports nothing."""
        name = f"m{message.number}"
        if about is None:
            self.demand(name in self.dead_letters, "bad input is parked with a reason", name)
            return
        if store_lost:
            return
        day, processor, status = about
        record = self.records.get(day)
        kept = record.completions.get(processor) if record is not None else None
        true = kept is not None and (status == "failed" or kept.status == "success")
        true = true or self.retractions.excuse_message(day, processor, message)
        self.demand(true, "ack after durable write", f"{name} {about} is acknowledged, the record has {kept}")
