"""Generated sample data in the form of the warehouse's source tables, so that a demo needs no download.

Python invents the league (`league`), SQL derives the tables for the build (`inputs.sql`, `phase3.sql`, `phase4.sql`).
The data is the data known on the evening of the analysis date: the games of this night are scheduled, not played. The
same seed and date write the same rows in the same order. A crash leaves complete files, old or new, and a hidden folder
to delete.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from importlib import resources
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import duckdb

from worker.local.sample.league import GAMES_PER_NIGHT_MAX, GAMES_TONIGHT, League, build_league, season_of

# Rosters and Phase 4 cover the analysis date and the two dates before it, enough to play a few nights in a row.
NIGHTS = 3
# Earlier nights would have too few games behind them: the schedule begins 44 days before the analysis date.
NIGHTS_BEFORE_MAX = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleTable:
    """Written table: name `<dataset>.<table>`, file and number of rows."""

    name: str
    path: Path
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSummary:
    """Summary of the written data.

    Attributes:
        nights: Dates with rosters and Phase 4 rows, oldest first; the last one is the analysis date.
        games_tonight: Games scheduled for the analysis date.
        active_players: Players on the roster of the analysis date.
        unprojected_players: Active players without a projection in either phase; a build leaves these players out.
        tables: The tables, by name.
    """

    nights: tuple[date, ...]
    games_tonight: int
    active_players: int
    unprojected_players: int
    tables: tuple[SampleTable, ...]


def write_sample_data(
    directory: Path,
    *,
    analysis_date: date,
    seed: int = 20241215,
    games_tonight: int | None = None,
    nights_before: int = NIGHTS - 1,
) -> SampleSummary:
    """Write a Parquet file for each source table, named `<dataset>.<table>.parquet`; replace existing files.

    Args:
        directory: Target folder, created if missing. Other files there are ignored.
        analysis_date: Night to prepare, a calendar day of America/New_York and the last of 45 days of schedule.
        seed: Another seed is another league. The same seed and date write the same rows.
        games_tonight: Games on *analysis_date*, 0 to 15; None means 7.
        nights_before: Dates before *analysis_date* with rosters and Phase 4 rows, 0 to 30.

    Returns:
        Summary of the written data.

    Raises:
        ValueError: *games_tonight* or *nights_before* is out of range.
        OSError: *directory* cannot be written.
    """
    tonight = GAMES_TONIGHT if games_tonight is None else games_tonight
    if not 0 <= tonight <= GAMES_PER_NIGHT_MAX:
        raise ValueError(f"games_tonight is {tonight}; thirty teams play 0 to {GAMES_PER_NIGHT_MAX} games a night")
    if not 0 <= nights_before <= NIGHTS_BEFORE_MAX:
        raise ValueError(f"nights_before is {nights_before}; the schedule covers 0 to {NIGHTS_BEFORE_MAX}")
    league = build_league(Random(seed), last_day=analysis_date, games_tonight=tonight)  # noqa: S311 - no secret
    nights = tuple(analysis_date - timedelta(days=days) for days in reversed(range(nights_before + 1)))
    directory.mkdir(parents=True, exist_ok=True)
    # A single thread: the order of a float sum, and therefore the last digit, must not vary.
    config: dict[str, str | bool | int | float | list[str]] = {"threads": 1, "autoinstall_known_extensions": False}
    with duckdb.connect(config=config) as connection:
        _run(connection, "inputs.sql")
        _load(connection, league, nights)
        _run(connection, "phase3.sql")
        _run(connection, "phase4.sql")
        tables = _export(connection, directory)
        active, unprojected = _roster(connection, analysis_date)
    return SampleSummary(
        nights=nights,
        games_tonight=tonight,
        active_players=active,
        unprojected_players=unprojected,
        tables=tables,
    )


def _run(connection: duckdb.DuckDBPyConnection, script: str) -> None:
    connection.execute(resources.files("worker.local.sample").joinpath(script).read_text(encoding="utf-8"))


def _load(connection: duckdb.DuckDBPyConnection, league: League, nights: tuple[date, ...]) -> None:
    """Fill the input tables from CSV files, because binding the values row by row takes seconds."""
    inputs: dict[str, Iterable[Iterable[object]]] = {
        "team": league.teams,
        "player": league.players,
        "game": league.games,
        "box_line": league.box_lines,
        "night": ((night, season_of(night)) for night in nights),
    }
    # Not in the caller's directory: DuckDB reads a path as a pattern, and the directory may hold brackets or stars.
    with TemporaryDirectory() as scratch:
        for table, rows in inputs.items():
            path = Path(scratch) / f"{table}.csv"
            with path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows(rows)
            connection.read_csv(str(path), header=False, all_varchar=True, sep=",").insert_into(table)


def _export(connection: duckdb.DuckDBPyConnection, directory: Path) -> tuple[SampleTable, ...]:
    """Write every table into a hidden folder, then move the files into place, file by file."""
    names = connection.execute(
        "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE schema_name != 'main' ORDER BY ALL"
    ).fetchall()
    tables = []
    with TemporaryDirectory(dir=directory, prefix=".sample-") as scratch:
        for (name,) in names:
            relation = connection.table(name)
            path = directory / f"{name}.parquet"
            relation.write_parquet(str(Path(scratch) / path.name))
            tables.append(SampleTable(name=name, path=path, rows=len(relation)))
        for table in tables:
            (Path(scratch) / table.path.name).replace(table.path)
    return tuple(tables)


def _roster(connection: duckdb.DuckDBPyConnection, analysis_date: date) -> tuple[int, int]:
    """Count the active players, and the active players without a game so far."""
    row = connection.execute(
        "SELECT count(*), count(*) FILTER (last_game_date IS NULL) FROM nba_raw.nbac_player_list"
        " WHERE snapshot_date = ?",
        [analysis_date],
    ).fetchone()
    return row or (0, 0)
