"""The simulated warehouse: canned answers that agree with simulated tables, and the ledger of the real ones.

A publication is two steps, as on BigQuery: what the rows are worth is written, then the ledger points at the rows. A
process may die, stand still or lose the reply between them. On DuckDB both are one transaction: less can happen.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from statemachine.model import BuildMode
from tests.simulation.boundary import SLOW_S, Boundary
from tests.simulation.doubts import CLAIMED, CRITICAL_SHARE
from tests.simulation.plan import PROCESSORS, Night
from tests.support.generation_rows import AGREED_GAMES
from worker.errors import Fatal, Fenced, PipelineError
from worker.features.findings import Check, Levels
from worker.features.model import BuildKey, LedgerRow, Publication, Statement
from worker.features.records import check_fence, has_published, holds_claim, published_row, read_ledger_row
from worker.pipelines.shipped import BLOCKS, SHIPPED, features_of

if TYPE_CHECKING:
    from tests.simulation.checker import Checker
    from tests.simulation.process import Process

Row = dict[str, Any]
_CLAIMS = {Check.CLAIMED_ROWS_DIFFER: Levels(note=0.0, critical=CRITICAL_SHARE)}
_PIPELINE = replace(SHIPPED, findings=replace(SHIPPED.findings, levels=_CLAIMS))
_CELLS = {block.name: len(features_of(block.name)) for block in BLOCKS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """The rows of one attempt: what the tables held when it read them, and which process stored them."""

    build_id: str
    stored_by: str
    filled: frozenset[str]
    used: frozenset[str]
    forced: bool
    phase3: bool
    players: int


class Tables:
    """The one warehouse of a run. The ledger's rules are those of the claim and publish statements."""

    def __init__(self, nights: Mapping[date, Night], checker: "Checker", sabotage: frozenset[str]) -> None:
        self._nights = nights
        self._checker = checker
        self.sabotage = sabotage
        self.rows: dict[tuple[date, str], int] = {}
        self.filled_at: dict[tuple[date, str], datetime] = {}
        self.ledger: dict[date, Row] = {}
        self.history: dict[str, Row] = {}
        self.target: dict[date, tuple[int, int]] = {}
        self.staged: dict[str, Staged] = {}
        self.pointed: set[str] = set()
        self.copies: set[date] = set()
        self.executions = 0
        self.audit: list[Row] = []

    def fill(self, night: date, processor: str, now: datetime, rows: int = CLAIMED) -> None:
        self.rows[night, processor] = rows
        self.filled_at.setdefault((night, processor), now)

    def filled(self, night: date) -> frozenset[str]:
        return frozenset(name for name in PROCESSORS if self.rows.get((night, name)))

    def stage(self, key: BuildKey, select: Statement, stored_by: str = "") -> None:
        """Store the rows of an attempt, once: rows that are there stay as they are."""
        if key.build_id not in self.staged or not self.staged[key.build_id].players:
            self.staged[key.build_id] = self._select(key, select, stored_by)
        if "rows_shared" in self.sabotage:
            beside = [build_id for build_id in self.staged if build_id.startswith(f"{key.analysis_date}-")]
            self.staged |= dict.fromkeys(beside, self._select(key, select, stored_by))
        self._checker.rows_kept(self.staged)

    def _select(self, key: BuildKey, select: Statement, stored_by: str) -> Staged:
        # A night of the look-back, opened once the calendar's mark was corrected, is none of the schedule.
        day = key.analysis_date
        night = self._nights.get(day) or Night(day=day, phase3=True, players=400)
        if select.name == "yesterday":
            return self._copied(key, select.parameters, stored_by)
        wanted = {block.processor for block in BLOCKS if select.parameters[f"use_{block.name}"]}
        if "reads_retracted" in self.sabotage and wanted:
            wanted = set(PROCESSORS)
        return Staged(
            build_id=key.build_id,
            stored_by=stored_by,
            filled=self.filled(night.day),
            used=self.filled(night.day) & wanted,
            forced=not wanted,
            phase3=night.phase3,
            players=night.players,
        )

    def _copied(self, key: BuildKey, window: Mapping[str, date], stored_by: str) -> Staged:
        """The rows of the latest night that was built itself, all of them a fallback; nobody where there is none."""
        built = (
            day
            for day, row in self.ledger.items()
            if window["earliest_date"] <= day <= window["previous_date"]
            if row["generation"] and day not in self.copies
        )
        source = max(built, default=None)
        players = 0 if source is None else self.history[self.ledger[source]["build_id"]]["row_count"]
        return Staged(
            build_id=key.build_id,
            stored_by=stored_by,
            filled=frozenset(),
            used=frozenset(),
            forced=True,
            phase3=True,
            players=players,
        )

    def log_replay(self, row: Row) -> None:
        if "audit_skipped" in self.sabotage:
            return
        self.audit.append(row)
        self._checker.request_audited(row)

    def taken_back(self, first: date, last: date) -> list[Row]:
        return [row for row in self.audit if row["mode"] == "retract" and first <= row["analysis_date"] <= last]

    def claim(self, key: BuildKey, claimant: str) -> None:
        row = self.ledger.get(key.analysis_date)
        if "fence_off" not in self.sabotage:
            check_fence(self._claims(key.analysis_date), key, claimant, "build")
        if row is None:
            row = self.ledger[key.analysis_date] = {"generation": 0, "build_id": None, "committed_at": None}
        row |= {"claimed_generation": key.generation, "claimed_attempt": key.attempt, "claimed_by": claimant}
        self._checker.ledger_claimed(key, claimant)

    def claimed_token(self, analysis_date: date) -> tuple[int, int]:
        row = self.ledger.get(analysis_date)
        return (row["claimed_generation"], row["claimed_attempt"]) if row is not None else (0, 0)

    def publish(self, publication: Publication) -> None:
        """Both steps at once."""
        self.judge(publication)
        self.point(publication)

    def judge(self, publication: Publication) -> None:
        """Write what the rows are worth, once and without asking the fence: no reader sees it before the pointer."""
        self.history.setdefault(publication.request.key.build_id, published_row(publication, BLOCKS))

    def point(self, publication: Publication) -> None:
        """Point the ledger at the rows."""
        key = publication.request.key
        row = self.ledger.get(key.analysis_date)
        claimant = publication.request.claimant
        if row is not None and has_published([row], key, claimant):
            return
        if "publishes_nothing" in self.sabotage:
            return
        if "fence_off" not in self.sabotage:
            check_fence(self._claims(key.analysis_date), key, claimant, "publish")
            if not holds_claim(self._claims(key.analysis_date), key, claimant):
                raise Fenced(f"{key.build_id} may not publish: {claimant} has not claimed it")
        staged = self._staged(key.build_id)
        if "names_no_attempt" in self.sabotage:
            same = f"{key.analysis_date}-g{key.generation}-"
            staged = next(one for name, one in self.staged.items() if name.startswith(same))
        if self.counts(key.build_id)["row_count"] != publication.report.row_count:
            raise Fatal(f"the rows of {key.build_id} are not those that were judged")
        pointer = {"generation": key.generation, "build_id": key.build_id, "committed_at": publication.committed_at}
        self.ledger[key.analysis_date] = (row or {}) | pointer
        copied = publication.request.mode is BuildMode.YESTERDAY
        (self.copies.add if copied else self.copies.discard)(key.analysis_date)
        self.target[key.analysis_date] = key.token
        self.pointed.add(key.build_id)
        self._checker.ledger_committed(publication, staged, self.history.get(key.build_id))
        self._checker.rows_kept(self.staged)

    def _claims(self, analysis_date: date) -> list[Row]:
        return [self.ledger[analysis_date]] if analysis_date in self.ledger else []

    def _staged(self, build_id: str) -> Staged:
        if build_id not in self.staged:
            raise Fatal(f"no rows of {build_id} are stored")
        return self.staged[build_id]

    def read_ledger(self, analysis_date: date) -> LedgerRow | None:
        row = self.ledger.get(analysis_date)
        if row is None or not row["generation"]:
            return None
        return read_ledger_row(self.history[row["build_id"]] | {"committed_at": row["committed_at"]}, BLOCKS)

    def read_ledger_since(self, first: date) -> list[LedgerRow]:
        rows = (self.read_ledger(day) for day in sorted(self.ledger) if day >= first)
        return [row for row in rows if row is not None]

    @property
    def half_published(self) -> int:
        """How many attempts have written what their rows are worth, and never pointed the ledger at them."""
        return len(self.history.keys() - self.pointed)

    def probe(self, night: date) -> list[Row]:
        blind = "probe_blind" in self.sabotage
        return [
            {"processor": name, "row_count": 0 if blind else self.rows.get((night, name), 0)} for name in PROCESSORS
        ]

    def counts(self, build_id: str) -> Row:
        """Answer `build_stats.sql` for whole blocks: a block is from Phase 4, else from Phase 3, else missing."""
        staged = self._staged(build_id)
        phase4 = staged.used
        projected = staged.phase3 or "player_composite_factors" in phase4
        rows = staged.players if projected else 0
        day = date.fromisoformat(build_id[:10])
        newest = None if not rows else day if phase4 else day - timedelta(days=1)
        answer: Row = {
            "row_count": rows,
            "left_out_count": staged.players - rows,
            "required_nulls": 0,
            "newest_source_date": newest,
            **AGREED_GAMES,
        }
        for block in BLOCKS:
            own = block.processor in phase4
            cells = rows * _CELLS[block.name]
            answer[f"{block.name}_players"] = staged.players
            answer[f"{block.name}_phase4_cells"] = cells if own else 0
            answer[f"{block.name}_phase3_cells"] = cells if staged.phase3 and not own else 0
        return answer


class SimulatedWarehouse:
    """The `Warehouse` port as one process sees it."""

    pipeline = _PIPELINE

    def __init__(self, tables: Tables, boundary: Boundary, process: "Process", rng: Random) -> None:
        self._tables = tables
        self._boundary = boundary
        self._process = process
        self._rng = rng

    def _call(self, name: str, effect: Any) -> Any:
        return self._boundary.call(self._process, "warehouse", name, effect)

    def ensure_tables(self) -> None:
        """They exist."""

    def prepare_builds(self) -> None:
        """Nothing to make ready."""

    def columns(self, table: str) -> Mapping[str, str]:
        self._boundary.alive(self._process)
        return SHIPPED.readable[table]

    def columns_of(self, tables: Collection[str]) -> Mapping[str, Mapping[str, str]]:
        return {table: self.columns(table) for table in tables}

    def query(self, statement: Statement) -> Sequence[Mapping[str, Any]]:
        if statement.name == "retractions":
            first, last = statement.parameters["first_date"], statement.parameters["last_date"]
            return self._call(statement.name, lambda: self._tables.taken_back(first, last))  # type: ignore[no-any-return]
        if statement.name in {"profile", "profile_nights"}:
            return []
        night = statement.parameters["analysis_date"]
        if statement.name == "left_out":
            player = {"player_id": 1, "player_name": "A", "team_abbreviation": None, "reason": "no projection"}
            return self._call("left_out", lambda: [player])  # type: ignore[no-any-return]
        if statement.name == "build_stats":
            return [self._call("build_stats", lambda: self._tables.counts(statement.parameters["build_id"]))]
        return self._call(statement.name, lambda: self._probe(night))  # type: ignore[no-any-return]

    def query_all(self, statements: Sequence[Statement]) -> Sequence[Sequence[Mapping[str, Any]] | PipelineError]:
        return [self._answer(statement) for statement in statements]

    def _answer(self, statement: Statement) -> Sequence[Mapping[str, Any]] | PipelineError:
        try:
            return self.query(statement)
        except PipelineError as exc:
            return exc

    def _probe(self, night: date) -> list[Row]:
        rows = self._tables.probe(night)
        self._process.probed[night] = self._tables.filled(night)
        return rows

    def stage(self, key: BuildKey, select: Statement) -> None:
        self._call("stage", lambda: self._tables.stage(key, select, self._process.name))
        if self._rng.random() < self._boundary.intensity.slow_build:
            self._boundary.hang(self._process, self._rng.choice(SLOW_S), "in a slow build")

    def claim(self, key: BuildKey, at: datetime, claimant: str) -> None:  # noqa: ARG002 - no rule asks for it
        self._call("claim", lambda: self._tables.claim(key, claimant))

    def claimed_token(self, analysis_date: date) -> tuple[int, int]:
        return self._call("claimed_token", lambda: self._tables.claimed_token(analysis_date))  # type: ignore[no-any-return]

    def publish(self, publication: Publication) -> None:
        steps = [("judge", self._tables.judge), ("publish", self._tables.point)]
        if "judges_last" in self._tables.sabotage:
            steps.reverse()
        for name, step in steps:
            self._call(name, lambda step=step: step(publication))

    def read_ledger(self, analysis_date: date) -> LedgerRow | None:
        return self._call("read_ledger", lambda: self._tables.read_ledger(analysis_date))  # type: ignore[no-any-return]

    def read_ledger_since(self, first: date) -> Sequence[LedgerRow]:
        return self._call("read_ledger_since", lambda: self._tables.read_ledger_since(first))  # type: ignore[no-any-return]

    def log_execution(self, row: Mapping[str, Any]) -> None:  # noqa: ARG002 - only counted
        self._call("log_execution", self._count_execution)

    def _count_execution(self) -> None:
        self._tables.executions += 1

    def log_history(self, row: Mapping[str, Any]) -> None:  # noqa: ARG002 - nothing reads what a refused build was worth
        self._call("log_history", lambda: None)

    def log_replay(self, row: Mapping[str, Any]) -> None:
        self._call("log_replay", lambda: self._tables.log_replay(dict(row)))

    def delete_rows(self, change: Statement) -> int:
        raise NotImplementedError(change)

    def export_features(self, analysis_date: date, build_id: str, path: str) -> int:
        raise NotImplementedError(analysis_date, build_id, path)

    def close(self) -> None:
        """Keep everything."""
