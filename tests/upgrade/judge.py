"""The judge of an upgrade run: what record, history, ledger, tables and messages of a night must say together.

It knows neither the versions nor the moves of the run. Complaints begin with the name of an invariant. What a record
must keep by itself is the product's own list, `statemachine.invariants`; which moves are legal is the simulator's.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from statemachine.invariants import violations as contradictions
from statemachine.model import DateRecord
from tests.simulation.moves import ENDED, MOVES
from worker.ports import HistoryEntry

RESCUES = {"rescue_started", "rescue_follows"}
FIRED = {"found_all", "deadline_passed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is left of a night.

    Attributes:
        night: The date.
        expected: The state it must have ended in.
        replays: How many were asked for.
        reported: The processors that reported success.
        record: The stored record.
        history: The stored changes.
        publications: What the quality history says of each publication that the ledger lists.
        stored: How many rows lie in the table of all generations, by build.
        ledger: The ledger's row, None for none.
        visible: Build generation of the published rows, and how many have it.
        outcomes: Every message about the night that a subscriber got.
    """

    night: date
    expected: str
    replays: int
    reported: frozenset[str]
    record: DateRecord | None
    history: Sequence[HistoryEntry]
    publications: Sequence[Mapping[str, Any]]
    stored: Mapping[str, int]
    ledger: Mapping[str, Any] | None
    visible: Mapping[int, int]
    outcomes: Sequence[Mapping[str, Any]]

    @property
    def rescues(self) -> int:
        """How often a failed night began anew because a report came after it had failed."""
        return sum(entry.reason in RESCUES for entry in self.history)

    @property
    def looks(self) -> int:
        """How often a night that had failed before its deadline was built again at it."""
        return sum(entry.reason in FIRED and entry.before == "failed" for entry in self.history)

    @property
    def generations(self) -> int:
        """How many there must be: the night's own, and one for each replay, rescue and look at the deadline."""
        return 1 + self.replays + self.rescues + self.looks


def violations(evidence: Evidence) -> list[str]:
    """Name everything that is wrong with a night; nothing if it is sound."""
    if evidence.record is None:
        return [f"{evidence.night}: no acked completion lost: there is no record"]
    found = [
        *_record(evidence, evidence.record),
        *_history(evidence, evidence.record),
        *_ledger(evidence),
        *_told(evidence),
    ]
    return [f"{evidence.night}: {what}" for what in found]


def _record(evidence: Evidence, record: DateRecord) -> Iterator[str]:
    yield from (f"record sound: {rule}" for rule in contradictions(record))
    if record.state != evidence.expected:
        yield f"same final result: it is {record.state}, not {evidence.expected}"
    if record.generation != evidence.generations:
        told = " ".join(f"{entry.reason}:{entry.generation}.{entry.attempt}" for entry in evidence.history)
        yield f"one request, one generation: {record.generation} after {evidence.generations} triggers: {told}"
    # Failing is what three reports of a night without a roster lead to; the fourth may come after that, but only once.
    if max(evidence.rescues, evidence.looks) > (evidence.expected == "failed"):
        told = f"{evidence.rescues} rescues, {evidence.looks} looks at its deadline"
        yield f"terminal states stable: {told}, and it ends {evidence.expected}"
    kept = {name for name, one in record.completions.items() if one.status == "success"}
    if kept != evidence.reported:
        yield f"no acked completion lost: {sorted(evidence.reported ^ kept)}"


def _history(evidence: Evidence, record: DateRecord) -> Iterator[str]:
    before: HistoryEntry | None = None
    for entry in evidence.history:
        state = before.after if before else None
        allowed = MOVES[state].get(entry.after, set())
        if before is not None and entry.before != before.after:
            yield f"monotone version: {entry.reason} starts from {entry.before}, the change before left {before.after}"
        if entry.reason not in allowed:
            yield f"legal move: {state} -> {entry.after} because of {entry.reason}"
        if before is not None and (entry.generation, entry.attempt) < (before.generation, before.attempt):
            yield f"monotone generation: {entry.reason} goes back to {entry.generation}.{entry.attempt}"
        if before is not None and state in ENDED and entry.after not in ENDED and entry.generation <= before.generation:
            yield f"terminal states stable: {entry.reason} reopens generation {entry.generation}"
        before = entry
    if record.version < len(evidence.history):
        yield f"monotone version: {len(evidence.history)} changes, version {record.version}"
    claims = Counter((one.generation, one.attempt) for one in evidence.history if one.reason == "claimed")
    yield from (f"one owner per token: {token} claimed {times} times" for token, times in claims.items() if times > 1)
    ends = Counter(one.generation for one in evidence.history if one.reason.startswith("committed_"))
    yield from (f"one commit per generation: {one} reported {times} times" for one, times in ends.items() if times > 1)


def _ledger(evidence: Evidence) -> Iterator[str]:
    commits = Counter(row["generation"] for row in evidence.publications)
    yield from (f"one commit per generation: {one} listed {times} times" for one, times in commits.items() if times > 1)
    for row in evidence.publications:
        left = evidence.stored.get(row["build_id"], 0)
        if left != row["row_count"]:
            yield f"published rows can be read again: {left} of {row['row_count']} of {row['build_id']}"
    result = evidence.record.result if evidence.record else None
    if evidence.expected == "failed":
        if commits or evidence.visible or result:
            yield "gate respected: a failed night has published something"
        return
    if evidence.ledger is None or result is None:
        yield "done => committed: ledger or record knows of no commit"
        return
    named = ("generation", "attempt", "row_count", "quality_score", "fallback_rate")
    mine, theirs = {name: getattr(result, name) for name in named}, {name: evidence.ledger[name] for name in named}
    if mine != theirs:
        yield f"published => committed: the record says {mine}, the ledger {theirs}"
    if evidence.visible != {result.generation: result.row_count}:
        yield f"all or nothing: readers see {dict(evidence.visible)}, not generation {result.generation}"
    if set(commits) != set(range(1, evidence.generations + 1)):
        yield f"one commit per generation: {sorted(commits)} of {evidence.generations}"


def _told(evidence: Evidence) -> Iterator[str]:
    by_id: dict[str, Mapping[str, Any]] = {}
    for outcome in evidence.outcomes:
        if by_id.setdefault(outcome["event_id"], outcome) != outcome:
            yield f"a repeat is the same message: {outcome['event_id']}"
    told = {outcome["generation"]: outcome for outcome in by_id.values()}
    if set(told) != set(range(1, evidence.generations + 1)):
        yield f"done => published: generations {sorted(told)} of {evidence.generations} were told"
    published = {row["generation"]: row for row in evidence.publications}
    for generation, outcome in told.items():
        if outcome["state"] == "failed":
            if generation in published:
                yield f"failed => not published: generation {generation}"
            continue
        row = published.get(generation)
        named = ("state", "row_count", "quality_score", "component_total")
        if row is None or any(outcome[name] != row[name] for name in named):
            yield f"published => committed: generation {generation} is told otherwise than published"
