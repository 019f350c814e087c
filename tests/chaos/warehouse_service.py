"""The BigQuery peer in a process of its own: `python -m tests.chaos.warehouse_service FOLDER PORT`.

Orders come as JSON lines on standard input, each is answered by one JSON line. Besides serving, it writes down each
claim and publication as the peer itself ended it (`jobs.jsonl`), looks at the tables as a reader would, and at the end
works out what each night must look like, by the second calculation of `tests.support.recomputed`.

Two digests: `digest` is of what a night says, whatever build wrote it; `DIGEST_SQL` is of every column of the rows that
readers see, so that the rows of one build can be recognised later.
"""

# ruff: noqa: S608 -- statements are made of this file's own names and of dates

import hashlib
import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Protocol

from tests.support.bigquery_peer.faults import Fault
from tests.support.bigquery_peer.jobs import Job, PeerJobs
from tests.support.bigquery_peer.server import BigQueryServer
from tests.support.recomputed import (
    CELLS,
    COLUMNS,
    DEFENSE,
    GAMES,
    OFFENSE,
    PHASE4,
    ROSTER,
    SCHEDULE,
    TEAMS,
    Question,
    Sources,
    work_out_night,
)
from worker.clock import SystemClock
from worker.local.sample.data import write_sample_data

PROJECT = "chaos"
BASE = date(2024, 12, 15)
PHASE3 = (GAMES, OFFENSE, DEFENSE)
# Phase 3 is laid out again and again in tiles of the span that a build looks back, so every night has it all.
TILE_DAYS = 30
CHUNK = 20
TABLES = {
    "team_defense_zone_analysis": PHASE4["team_defense"],
    "player_shot_zone_analysis": PHASE4["player_shot"],
    "player_composite_factors": PHASE4["composite"],
    "player_daily_cache": PHASE4["daily_cache"],
}
LEAN, SMALL = 220, 150
FEATURES = "nba_predictions.ml_feature_store_v2"
GENERATIONS = "nba_predictions.ml_feature_store_v2_generations"
LEDGER = "nba_predictions.ml_feature_store_v2_ledger"
QUALITY = "nba_predictions.ml_feature_store_v2_quality_metrics"
LOGGED = {
    "ledger": LEDGER,
    "history": "nba_predictions.ml_feature_store_v2_quality_history",
    "execution": "nba_predictions.ml_feature_store_v2_execution_log",
    "audit": "nba_predictions.replay_audit",
}
IDENTITY = ("player_name", "team_abbreviation", "opponent_abbreviation", "data_source", "quality_score")
COMPARED = (*IDENTITY, *(cell for cells in CELLS.values() for cell in cells))


# A row as text, in the order of the columns that readers see.
DIGEST_SQL = "md5(string_agg(md5(ROW({columns})::VARCHAR), '' ORDER BY player_id))"


def digest(rows: Mapping[int, Mapping[str, Any]]) -> str:
    """One text for the rows of a night: every cell, whatever build wrote it."""
    lines = [f"{player}:" + "|".join(repr(rows[player][name]) for name in COMPARED) for player in sorted(rows)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


class JobLog:
    """Every claim and publication, as the peer ended it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._clock = SystemClock()
        original = PeerJobs._end

        def end(jobs: PeerJobs, job: Job) -> None:
            original(jobs, job)
            self._note(job)

        PeerJobs._end = end  # type: ignore[method-assign]

    def _note(self, job: Job) -> None:
        step = job.configuration.get("labels", {}).get("step", "")
        if step in {"claim", "publish"}:
            line = {
                "t": self._clock.now().timestamp(),
                "job": job.job_id,
                "step": step,
                "error": None if job.error is None else job.error.message[:200],
                "changed": 0 if job.answer is None else job.answer.changed,
            }
            self._file.write(json.dumps(line) + "\n")


class Holder(Protocol):
    """Where the tables lie."""

    def cursor(self) -> AbstractContextManager[Any]: ...

    def load(self, directory: Path) -> None: ...


class Tables:
    """The tables of many nights, and the orders about them."""

    def __init__(self, folder: Path, engine: Holder) -> None:
        self._engine = engine
        self._read: set[str] = set()
        sample = folder / "sample"
        write_sample_data(sample, analysis_date=BASE)
        self._engine.load(sample)
        with self._engine.cursor() as cursor:
            cursor.execute("CREATE SCHEMA kept")
            for table in COLUMNS:
                cursor.execute(f"CREATE TABLE {_kept(table)} AS FROM {table}")
                cursor.execute(f"DELETE FROM {table}")

    def do(self, order: Mapping[str, Any]) -> Any:
        return getattr(self, f"_do_{order['do']}")(**{name: value for name, value in order.items() if name != "do"})

    def stop(self) -> None:
        """Give everything back."""

    def _do_prepare(self, nights: Sequence[tuple[str, str]], phase3: bool = True) -> int:
        """Lay out rosters and schedules of these (date, kind of roster), and Phase 3 where it is wanted."""
        days = [date.fromisoformat(day) for day, _kind in nights]
        first, last = min(days), max(days)
        with self._engine.cursor() as cursor:
            for table in PHASE3 if phase3 else ():
                names = COLUMNS[table]
                for tile in range(-1, (last - first).days // TILE_DAYS + 1):
                    shift = (first - BASE).days + (tile + 1) * TILE_DAYS
                    later = f"({names[0]} + INTERVAL ({shift}) DAY)::DATE AS {names[0]}"
                    cursor.execute(
                        f"INSERT INTO {table} SELECT * REPLACE ({later})"
                        f" FROM {_kept(table)} WHERE {names[0]} BETWEEN ? AND ?",
                        [BASE - timedelta(days=TILE_DAYS), BASE - timedelta(days=1)],
                    )
            for day, kind in nights:
                self._lay_out(cursor, day, kind)
        return len(nights)

    def _lay_out(self, cursor: Any, day: str, kind: str) -> None:
        shown = f"DATE '{day}' AS snapshot_date"
        if kind == "strangers":
            shown += ", player_id + 1000000000 AS player_id"
        limit = {"lean": f"LIMIT {LEAN}", "small": f"LIMIT {SMALL}"}.get(kind, "")
        cursor.execute(
            f"INSERT INTO {ROSTER} SELECT * REPLACE ({shown}) FROM {_kept(ROSTER)} WHERE snapshot_date = ?"
            f" ORDER BY player_id {limit}",
            [BASE],
        )
        # A game that the schedule tells under several dates was moved, and counts on one of them.
        own = f"DATE '{day}' AS game_date, game_id || ' {day}' AS game_id"
        cursor.execute(
            f"INSERT INTO {SCHEDULE} SELECT * REPLACE ({own}) FROM {_kept(SCHEDULE)} WHERE game_date = ?",
            [BASE],
        )

    def _do_write(self, day: str, processor: str) -> int:
        """A processor fills its table for a date; a second time changes nothing."""
        table = TABLES[processor]
        with self._engine.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(f"DELETE FROM {table} WHERE analysis_date = ?", [day])
            cursor.execute(
                f"INSERT INTO {table} SELECT * REPLACE (DATE '{day}' AS analysis_date) FROM {_kept(table)}"
                " WHERE analysis_date = ?",
                [BASE],
            )
            [(count,)] = cursor.execute(f"SELECT COUNT(*) FROM {table} WHERE analysis_date = ?", [day]).fetchall()
            cursor.execute("COMMIT")
        return int(count)

    def _do_clear(self) -> str:
        """End every planned fault; these tables plan none."""
        return "nothing"

    def _do_look(self) -> dict[str, Any]:
        """What a reader sees of every date, in one snapshot: builds of rows, ledger and quality, and new builds whole.

        A build is read whole once, the first time that it is seen.
        """
        with self._engine.cursor() as cursor:
            cursor.execute("BEGIN")
            rows = cursor.execute(
                f"SELECT analysis_date::VARCHAR, build_id, COUNT(*) FROM {FEATURES} GROUP BY 1, 2 ORDER BY 1, 2"
            ).fetchall()
            ledger = cursor.execute(
                f"SELECT analysis_date::VARCHAR, build_id FROM {LEDGER} WHERE generation > 0 ORDER BY 1"
            ).fetchall()
            claims = cursor.execute(
                "SELECT analysis_date::VARCHAR, MAX((claimed_generation, claimed_attempt)), MAX(generation)"
                f" FROM {LEDGER} GROUP BY 1 ORDER BY 1"
            ).fetchall()
            quality = cursor.execute(
                f"SELECT analysis_date::VARCHAR, build_id, row_count FROM {QUALITY} ORDER BY 1"
            ).fetchall()
            new = {build for _day, build, _count in rows} - self._read
            read = self._read_whole(cursor, FEATURES, sorted(new)) if new else []
            cursor.execute("COMMIT")
        self._read |= new
        return {"rows": rows, "ledger": ledger, "claims": claims, "quality": quality, "read": read}

    def _read_whole(self, cursor: Any, table: str, builds: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The digest of the rows of each build, as readers see them; of every build without *builds*."""
        cursor.execute(f"SELECT * FROM {FEATURES} LIMIT 0")
        columns = ", ".join(column[0] for column in cursor.description)
        where = "" if builds is None else f"WHERE build_id IN ({', '.join('?' for _ in builds)})"
        if table == GENERATIONS:
            where = f"{where or 'WHERE TRUE'} AND left_out_reason IS NULL"
        found = cursor.execute(
            f"SELECT analysis_date::VARCHAR, build_id, COUNT(*), {DIGEST_SQL.format(columns=columns)}"
            f" FROM {table} {where} GROUP BY 1, 2 ORDER BY 1, 2",
            builds or [],
        ).fetchall()
        return [dict(zip(("date", "build_id", "count", "digest"), row, strict=True)) for row in found]

    def _do_dump(self) -> dict[str, Any]:
        """The bookkeeping tables, each date's rows in short, and the stored rows of every build in short."""
        found: dict[str, Any] = {name: list(self._table(table)) for name, table in LOGGED.items()}
        by_date: dict[str, dict[int, Mapping[str, Any]]] = {}
        builds: dict[str, set[str]] = {}
        for row in self._table(FEATURES):
            by_date.setdefault(row["analysis_date"], {})[row["player_id"]] = row
            builds.setdefault(row["analysis_date"], set()).add(row["build_id"])
        found["rows"] = [
            {"date": day, "count": len(rows), "digest": digest(rows), "builds": sorted(builds[day])}
            for day, rows in sorted(by_date.items())
        ]
        with self._engine.cursor() as cursor:
            found["stored"] = self._read_whole(cursor, GENERATIONS)
        return found

    def _do_expected(self, days: Sequence[str]) -> list[dict[str, Any]]:
        """What each date must look like by its source tables; a few dates at a time, for they are wide."""
        found = []
        for start in range(0, len(days), CHUNK):
            chunk = [date.fromisoformat(day) for day in days[start : start + CHUNK]]
            sources = Sources.of({table: self._between(table, min(chunk), max(chunk)) for table in COLUMNS})
            found += [self._expected(sources, day) for day in chunk]
        return found

    def _between(self, table: str, first: date, last: date) -> list[dict[str, Any]]:
        names = COLUMNS[table]
        back = timedelta(days=TILE_DAYS if table in PHASE3 else 0)
        dated = f"WHERE {names[0]} BETWEEN DATE '{first - back}' AND DATE '{last}'"
        where = "" if table == TEAMS else dated
        return list(self._rows(table, names, where))

    def _expected(self, sources: Sources, day: date) -> dict[str, Any]:
        night = work_out_night(sources, Question(night=day))
        rows = {player_id: player.row for player_id, player in night.rows.items()}
        passes = len(rows) >= 200 and night.score >= 75
        return {
            "date": day.isoformat(),
            "state": night.state if passes else "failed",
            "count": len(rows) if passes else 0,
            "score": night.score,
            "digest": digest(rows),
        }

    def _table(self, table: str) -> Iterator[dict[str, Any]]:
        return self._rows(table, ["*"])

    def _rows(self, table: str, names: Sequence[str], where: str = "") -> Iterator[dict[str, Any]]:
        with self._engine.cursor() as cursor:
            cursor.execute(f"SELECT {', '.join(names)} FROM {table} {where}")
            columns = [column[0] for column in cursor.description or ()]
            rows = cursor.fetchall()
        plain = names == ["*"]
        for values in rows:
            row = dict(zip(columns, values, strict=True))
            if plain and isinstance(row.get("analysis_date"), date):
                row["analysis_date"] = row["analysis_date"].isoformat()
            yield row


class Warehouse(Tables):
    """The peer, with faults on order."""

    def __init__(self, folder: Path, port: int) -> None:
        self._log = JobLog(folder / "jobs.jsonl")
        self._server = BigQueryServer(port=port, hold_s=0.5)
        self._project = self._server.project(PROJECT)
        super().__init__(folder, self._project.engine)
        self._server.start()

    @property
    def address(self) -> str:
        return self._server.address

    def stop(self) -> None:
        self._server.stop()

    def _do_fault(self, fault: str, jobs: str, times: int) -> str:
        self._project.faults.plan(Fault[fault], jobs, times=times)
        return fault

    def _do_clear(self) -> str:
        self._project.faults.clear()
        self._project.jobs.speak()
        return "cleared"


def _kept(table: str) -> str:
    return f"kept.{table.partition('.')[2]}"


def serve(service: Any, address: str) -> None:
    """Say where it listens, then obey until the orders end."""
    sys.stdout.write(json.dumps({"address": address}) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        try:
            answer: Any = {"ok": service.do(json.loads(line))}
        except Exception as exc:  # noqa: BLE001 -- the one who ordered it is told
            answer = {"error": f"{type(exc).__name__}: {exc}"}
        sys.stdout.write(json.dumps(answer, default=str) + "\n")
        sys.stdout.flush()
    threading.Event().wait(0.0)
    service.stop()


if __name__ == "__main__":
    warehouse = Warehouse(Path(sys.argv[1]), int(sys.argv[2]))
    serve(warehouse, warehouse.address)
