"""Whole nights in a warehouse, faults drawn at random for its tables, and the comparison of each build to the cell."""

# ruff: noqa: S608 -- statements are made of this file's own names; whatever else is in them is a parameter

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from statemachine.model import BuildMode
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
    WITNESSES,
    Night,
    Question,
    Row,
    Sources,
    work_out_night,
)
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.builds.steps import run_build
from worker.features.model import BuildKey, BuildOutcome, BuildRequest
from worker.features.pipeline import Pipeline
from worker.features.quality import QualityPolicy
from worker.local.parquet_folder import load_parquet_folder
from worker.pipelines.shipped import SHIPPED

NOW = datetime(2024, 12, 20, 12, tzinfo=UTC)
OPEN_GATE = QualityPolicy(rows_min=0, score_min=0.0)
"""Every night is published that has a row, so that its rows can be compared however bad it is."""

PHASE3 = (GAMES, OFFENSE, DEFENSE)
Change = tuple[str, str, list[Any]]
"""A table, a statement that spoils it (`{}` stands for the table), and the statement's values."""


class Season:
    """The tables of a folder, in a warehouse and as Python rows; a fault is made in the one and read into the other."""

    def __init__(self, folder: Path, pipeline: Pipeline = SHIPPED) -> None:
        self.warehouse = DuckDbWarehouse(":memory:", pipeline=pipeline)
        self.warehouse.ensure_tables()
        load_parquet_folder(self.warehouse, folder)
        self._generations: dict[date, int] = {}
        with self.warehouse.writing("keeping the tables as they were") as cursor:
            cursor.execute("CREATE SCHEMA kept")
            for table in COLUMNS:
                cursor.execute(f"CREATE TABLE {_kept(table)} AS FROM {table}")
        self.sources = Sources.of({table: self.read(table) for table in COLUMNS})

    def read(self, table: str, night: date | None = None) -> list[Row]:
        """The rows of a table; with *night* only those that a build of that night could use."""
        names = COLUMNS[table]
        sql = f"SELECT {', '.join(names)} FROM {table}"
        if night is not None and table not in {SCHEDULE, TEAMS}:
            sql += f" WHERE {names[0]} {'<' if table in PHASE3 else '='} DATE '{night.isoformat()}'"
        with self.warehouse.writing(f"reading {table}") as cursor:
            rows = cursor.execute(sql).fetchall()
        return [dict(zip(names, values, strict=True)) for values in rows]

    @contextmanager
    def spoiled(self, night: date, changes: Sequence[Change]) -> Iterator[Sources]:
        """Make the changes, give the sources of *night* as they are then, and take the changes back."""
        touched = sorted({table for table, _, _ in changes})
        with self.warehouse.writing("spoiling tables") as cursor:
            for table, sql, values in changes:
                cursor.execute(sql.format(table), values)
        try:
            yield self.sources.changed({table: self.read(table, night) for table in touched})
        finally:
            with self.warehouse.writing("restoring the tables") as cursor:
                for table in touched:
                    cursor.execute(f"CREATE OR REPLACE TABLE {table} AS FROM {_kept(table)}")

    def build(self, asked: Question, policy: QualityPolicy = OPEN_GATE, *, publish: bool = True) -> BuildOutcome:
        generation = self._generations[asked.night] = self._generations.get(asked.night, 0) + 1
        request = BuildRequest(
            key=BuildKey(analysis_date=asked.night, generation=generation, attempt=1),
            mode=BuildMode.FORCED_FALLBACK if asked.forced else BuildMode.NORMAL,
            trigger="join",
            phase3_lookback_days=asked.lookback_days,
            as_of=asked.as_of,
            started_at=NOW,
            claimant="worker-a",
        )
        return run_build(self.warehouse, request, now=lambda: NOW, policy=policy, publish=publish)

    def published(self, night: date) -> dict[int, Row]:
        with self.warehouse.writing("reading what is published") as cursor:
            cursor.execute("SELECT * FROM nba_predictions.ml_feature_store_v2 WHERE analysis_date = ?", [night])
            names = [column[0] for column in cursor.description or ()]
            rows = [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
        assert len({row["player_id"] for row in rows}) == len(rows)
        return {row["player_id"]: row for row in rows}


def _kept(table: str) -> str:
    return f"kept.{table.partition('.')[2]}"


def assert_built_as_worked_out(
    season: Season, asked: Question, sources: Sources, policy: QualityPolicy = OPEN_GATE
) -> BuildOutcome:
    """Build, work out, and compare every cell, every source, every component and the score."""
    outcome, night = season.build(asked, policy), work_out_night(sources, asked)
    expected = night.rows
    assert outcome.published == bool(expected), outcome.message
    assert outcome.stats.left_out_count == len(night.players) - len(expected)
    if outcome.published:
        published = season.published(asked.night)
        assert set(published) == set(expected)
        for player_id, worked_out in expected.items():
            row = published[player_id]
            assert {name: row[name] for name in worked_out.row} == worked_out.row
            phases, wanted = worked_out.from_phase, [c for block in worked_out.applicable for c in CELLS[block]]
            assert sorted(row["phase3_features"]) == sorted(cell for cell, phase in phases.items() if phase == 3)
            assert sorted(row["missing_features"]) == sorted(cell for cell in wanted if cell not in phases)
            assert row["build_id"] == outcome.request.key.build_id
    _assert_worth(outcome, night)
    return outcome


def _assert_worth(outcome: BuildOutcome, night: Night) -> None:
    report = outcome.report
    _assert_counted(outcome, night)
    assert list(report.components.values()) == night.components
    assert (report.row_count, report.component_total, report.quality_score) == (
        len(night.rows),
        night.total,
        night.score,
    )
    assert (report.fallback_rate, report.missing_rate) == (night.fallback_rate, night.missing_rate)
    found = {finding.severity.value for finding in report.findings}
    least = ["P2"] * ("critical" in found) + ["P3"] * ("warning" in found)
    assert report.severity == min(filter(None, (night.severity, *least)), default=None)
    assert report.earned_state.value == ("degraded" if "critical" in found else night.state)


def _assert_counted(outcome: BuildOutcome, night: Night) -> None:
    """Compare what the findings about games and values are made of."""
    games, players = outcome.stats.games, night.players
    assert dict(outcome.stats.not_finite) == night.not_finite
    assert games is not None
    assert (games.from_phase4, games.unknown) == (
        night.from_phase4,
        {source: (tuple(names), concerned) for source, (names, concerned) in night.unknown.items()},
    )
    assert games.checked == sum(bool(player.games) for player in players)
    assert sum(games.differing.values()) == sum(player.differing for player in players)
    assert games.witnesses == {
        block: (
            sum(player.games.get(block, "same") != "same" for player in players),
            sum(block in player.games for player in players),
        )
        for block in WITNESSES
    }


def gate_lets_through(night: Night) -> bool:
    """The gate as the ruling words it."""
    return len(night.rows) >= 200 and night.score >= 75


def random_case(random: Random, season: Season, night: date) -> tuple[Question, list[Change]]:
    """A question about *night*, and one to three kinds of faults under it."""
    changes: list[Change] = []
    for fault in random.sample(FAULTS, random.choice((1, 1, 2, 3))):
        changes += fault(random, season, night)
    asked = Question(
        night=night,
        forced=random.random() < 0.2,
        lookback_days=random.choice((30, 30, 30, 7, 1)),
        as_of=None if random.random() < 0.75 else _instant(random, season, night),
    )
    return asked, changes


def case_of(
    fault: "Fault", random: Random, season: Season, night: date, *, forced: bool
) -> tuple[Question, list[Change]]:
    """One fault alone, for who goes through them all."""
    return Question(night=night, forced=forced), list(fault(random, season, night))


def _instant(random: Random, season: Season, night: date) -> datetime:
    """An instant at which something was written, so that the limit's own edge is met."""
    rows = [row for table in PHASE4.values() for row in season.sources.on(table, night)]
    return random.choice(rows)["processed_at"] - timedelta(seconds=random.choice((0, 0, 1)))  # type: ignore[no-any-return]


def _lose_phase4_tables(random: Random, season: Season, night: date) -> Iterator[Change]:  # noqa: ARG001 -- a fault's shape
    for table in random.sample(sorted(PHASE4.values()), random.randint(1, 4)):
        yield table, "DELETE FROM {} WHERE analysis_date = ?", [night]


def _lose_players(random: Random, season: Season, night: date) -> Iterator[Change]:
    """A random set of keys is gone from some Phase 4 tables."""
    for table in random.sample(sorted(PHASE4.values()), random.randint(1, 3)):
        key = COLUMNS[table][1]
        lost = _some(random, [row[key] for row in season.sources.on(table, night)])
        yield table, f"DELETE FROM {{}} WHERE analysis_date = ? AND {key} IN (SELECT unnest(?))", [night, lost]


def _null_phase4_cells(random: Random, season: Season, night: date) -> Iterator[Change]:
    for block, table in PHASE4.items():
        key = COLUMNS[table][1]
        for cell in random.sample(CELLS[block], 2):
            blank = _some(random, [row[key] for row in season.sources.on(table, night)])
            where = f"WHERE analysis_date = ? AND {key} IN (SELECT unnest(?))"
            yield table, f"UPDATE {{}} SET {cell} = NULL {where}", [night, blank]


def _null_phase3_cells(random: Random, season: Season, night: date) -> Iterator[Change]:
    for table in PHASE3:
        key, cells = COLUMNS[table][1], COLUMNS[table][3:]
        for cell in random.sample(cells, min(3, len(cells))):
            blank = _some(random, list(season.sources.by_key[table]))
            where = f"WHERE {key} IN (SELECT unnest(?)) AND game_date < ?"
            yield table, f"UPDATE {{}} SET {cell} = NULL {where}", [blank, night]


def _write_no_numbers(random: Random, season: Season, night: date) -> Iterator[Change]:
    """NaN and infinity in some cells of both phases."""
    for block, table in PHASE4.items():
        key, cell = COLUMNS[table][1], random.choice(CELLS[block])
        spoiled = _some(random, [row[key] for row in season.sources.on(table, night)])
        value = random.choice(("nan", "inf", "-inf"))
        where = f"WHERE analysis_date = ? AND {key} IN (SELECT unnest(?))"
        yield table, f"UPDATE {{}} SET {cell} = CAST('{value}' AS DOUBLE) {where}", [night, spoiled]
    for table in PHASE3:
        key, cell = COLUMNS[table][1], random.choice(COLUMNS[table][3:])
        spoiled = _some(random, list(season.sources.by_key[table]))
        where = f"WHERE {key} IN (SELECT unnest(?)) AND game_date < ?"
        yield table, f"UPDATE {{}} SET {cell} = CAST('nan' AS DOUBLE) {where}", [spoiled, night]


def _lose_phase3_tables(random: Random, season: Season, night: date) -> Iterator[Change]:  # noqa: ARG001 -- a fault's shape
    for table in random.sample(PHASE3, random.randint(1, 3)):
        yield table, "DELETE FROM {} WHERE game_date < ?", [night]


def _lose_phase3_rows(random: Random, season: Season, night: date) -> Iterator[Change]:
    """Some players and teams have no game, others lose their latest."""
    for table in PHASE3:
        key = COLUMNS[table][1]
        since = night - timedelta(days=random.choice((2, 8, 31)))
        lost = _some(random, list(season.sources.by_key[table]))
        yield table, f"DELETE FROM {{}} WHERE {key} IN (SELECT unnest(?)) AND game_date >= ?", [lost, since]


def _write_again(random: Random, season: Season, night: date) -> Iterator[Change]:  # noqa: ARG001 -- a fault's shape
    """Rows come twice: once more as they are, and once in another version, earlier or later."""
    for block, table in PHASE4.items():
        cell, seconds = random.choice(CELLS[block]), random.choice((-1, 1))
        other = f"{cell} + 1 AS {cell}, processed_at + to_seconds({seconds}) AS processed_at"
        yield table, "INSERT INTO {0} FROM {0} WHERE analysis_date = ?", [night]
        yield table, f"INSERT INTO {{0}} SELECT * REPLACE ({other}) FROM {{0}} WHERE analysis_date = ?", [night]


def _change_the_schedule(random: Random, season: Season, night: date) -> Iterator[Change]:
    """No game tonight, or some called off, postponed or misspelled, or told of again later with the teams swapped."""
    games = [game["game_id"] for game in season.sources.on(SCHEDULE, night)]
    match random.choice(("none", "some", "again", "postponed", "misspelled")):
        case "none":
            yield SCHEDULE, "DELETE FROM {} WHERE game_date = ?", [night]
        case "some":
            yield SCHEDULE, "DELETE FROM {} WHERE game_id IN (SELECT unnest(?))", [_some(random, games)]
        case "postponed":
            later = "game_date + 3 AS game_date, processed_at + to_hours(9) AS processed_at"
            where = "WHERE game_id IN (SELECT unnest(?))"
            yield SCHEDULE, f"INSERT INTO {{0}} SELECT * REPLACE ({later}) FROM {{0}} {where}", [_some(random, games)]
        case "misspelled":
            name = random.choice(("''", "NULL", "'XXX'", "home_team_abbreviation || ' '"))
            where = "WHERE game_id IN (SELECT unnest(?))"
            yield SCHEDULE, f"UPDATE {{}} SET home_team_abbreviation = {name} {where}", [_some(random, games)]
        case _:
            swap = "home_team_abbreviation AS away_team_abbreviation, away_team_abbreviation AS home_team_abbreviation"
            where = "WHERE game_id IN (SELECT unnest(?))"
            yield SCHEDULE, f"INSERT INTO {{0}} SELECT * REPLACE ({swap}) FROM {{0}} {where}", [_some(random, games)]


def _change_the_roster(random: Random, season: Season, night: date) -> Iterator[Change]:
    """Some players are off the list, and some were traded in the afternoon."""
    listed = season.sources.on(ROSTER, night)
    teams = sorted({row["team_abbreviation"] for row in listed})
    players = [row["player_id"] for row in listed]
    where = "WHERE snapshot_date = ? AND player_id IN (SELECT unnest(?))"
    yield ROSTER, f"DELETE FROM {{}} {where}", [night, _some(random, players)]
    traded = f"'{random.choice(teams)}' AS team_abbreviation, processed_at + to_hours(9) AS processed_at"
    sql = f"INSERT INTO {{0}} SELECT * REPLACE ({traded}) FROM {{0}} {where}"
    yield ROSTER, sql, [night, _some(random, players)]


Fault = Callable[[Random, Season, date], Iterator[Change]]
FAULTS: Sequence[Fault] = (
    _lose_phase4_tables,
    _lose_players,
    _null_phase4_cells,
    _null_phase3_cells,
    _write_no_numbers,
    _lose_phase3_tables,
    _lose_phase3_rows,
    _write_again,
    _change_the_schedule,
    _change_the_roster,
)


def _some(random: Random, values: Sequence[Any]) -> list[Any]:
    """A few of the values, or a third of them."""
    different = sorted(set(values))
    return random.sample(different, min(len(different), random.choice((3, max(3, len(different) // 3)))))
