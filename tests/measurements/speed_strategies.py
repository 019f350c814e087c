"""Measures the pipeline document's four ways to a faster build, on DuckDB, in one process and over one set of tables.

    python -m tests.measurements.speed_strategies [--copies 100] [--repeats 5] [--json]

The tables are the generated ones, each player *copies* times, so that 450 players become 45,000. Each figure is the
best of *repeats* rounds. What BigQuery would do with partitions, slots or a materialized view is not measured here:
DuckDB has none of the three, and says only how much of a build each idea could save at all. Decision: ADR 0013.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from worker.adapters.duckdb.dialect import to_duckdb
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.local.parquet_folder import load_parquet_folder
from worker.local.sample.data import write_sample_data
from worker.pipelines.shipped import BLOCKS, FEATURES, PLAYER_GAMES, ROSTER, SHIPPED, TEAM_DEFENSE, TEAM_OFFENSE

# ruff: noqa: S608 -- statements are made of the catalogue's names

NIGHT = date(2024, 12, 15)
BATCHES = 8
ROSTER_OF_THE_NIGHT = "WHERE snapshot_date = @analysis_date"
PLAYER_TABLES = (ROSTER, PLAYER_GAMES, *(block.table for block in BLOCKS if block.key == "player_id"))
ID_STEP = 100_000_000
PARAMETERS: Mapping[str, Any] = {
    "analysis_date": NIGHT,
    "lookback_start": NIGHT - timedelta(days=30),
    "previous_date": NIGHT - timedelta(days=1),
    "as_of": None,
    **{f"use_{block.name}": True for block in BLOCKS},
    "build_generation": 1,
    "build_id": "2024-12-15-g1-a1",
    "built_at": datetime(2024, 12, 16, 4, 30, tzinfo=UTC),
}

FORCED = {f"use_{block.name}": False for block in BLOCKS}


class Bench:
    """One warehouse, and what was measured on it, in milliseconds."""

    def __init__(self, warehouse: DuckDbWarehouse, repeats: int) -> None:
        self._warehouse = warehouse
        self._repeats = repeats
        self.figures: dict[str, float] = {}
        self._works: dict[str, Callable[[], object]] = {}

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        with self._warehouse.writing("measuring") as cursor:
            return cursor.execute(sql, dict(parameters) if parameters else None).fetchall()

    def read(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run a SELECT into nothing, without the write lock, so that threads may run side by side."""
        with self._warehouse._reading("measuring") as cursor:
            cursor.execute(f"CREATE OR REPLACE TEMP TABLE result AS {sql}", dict(parameters) if parameters else None)

    def time(self, name: str, work: Callable[[], object]) -> None:
        """Put *work* on the list of what is measured."""
        self._works[name] = work

    def run(self) -> None:
        """Measure the list round by round, so that a busy machine slows all of it alike, and keep the best of each."""
        for number in range(self._repeats + 1):
            for name, work in self._works.items():
                begun = perf_counter()
                work()
                taken = round((perf_counter() - begun) * 1000, 1)
                if number:  # the first round warms up
                    self.figures[name] = min(taken, self.figures.get(name, taken))
        self._works.clear()


def multiply(bench: Bench, copies: int) -> int:
    """Let every player stand *copies* times in every table; give how many are active."""
    for table in PLAYER_TABLES:
        bench.execute(
            f"INSERT INTO {table} SELECT * EXCLUDE (copy) REPLACE (player_id + copy * {ID_STEP} AS player_id) "
            f"FROM {table}, range(1, {copies}) AS copies(copy)"
        )
    [(players,)] = bench.execute(f"SELECT count(*) FROM {ROSTER} WHERE snapshot_date = DATE '{NIGHT}'")
    return int(players)


def measure_build(bench: Bench) -> None:
    features = to_duckdb(SHIPPED.text("features"))
    bench.time("build", lambda: bench.read(features, PARAMETERS))
    bench.time(
        "build, forced to Phase 3",
        lambda: bench.read(features, PARAMETERS | FORCED),
    )


def measure_layout(bench: Bench) -> None:
    """Strategy 1. DuckDB's nearest thing to partitions: rows lie by date, so that groups of other dates are skipped."""
    features = to_duckdb(SHIPPED.text("features"))
    for name, order in (("rows lie by date and player", "{}, player_id"), ("rows lie anyhow", "hash(player_id, {})")):
        for table in PLAYER_TABLES:
            day = {ROSTER: "snapshot_date", PLAYER_GAMES: "game_date"}.get(table, "analysis_date")
            bench.execute(f"CREATE OR REPLACE TABLE {table} AS FROM {table} ORDER BY {order.format(day)}")
        bench.time(f"1 layout: {name}", lambda: bench.read(features, PARAMETERS))
        bench.run()


def measure_batches(bench: Bench) -> None:
    """Strategy 2: the same statement for an eighth of the players at a time, one after the other and side by side."""
    text = SHIPPED.text("features")
    assert text.count(ROSTER_OF_THE_NIGHT) == 1
    batched = to_duckdb(
        text.replace(ROSTER_OF_THE_NIGHT, f"{ROSTER_OF_THE_NIGHT} AND MOD(player_id, {BATCHES}) = @batch")
    )
    one = to_duckdb(text.replace(ROSTER_OF_THE_NIGHT, f"{ROSTER_OF_THE_NIGHT} AND player_id = @player"))
    [(player,)] = bench.execute(f"SELECT min(player_id) FROM {ROSTER} WHERE snapshot_date = DATE '{NIGHT}'")

    def batch(number: int) -> None:
        bench.read(batched, {**PARAMETERS, "batch": number})

    def side_by_side() -> None:
        with ThreadPoolExecutor(BATCHES) as threads:
            list(threads.map(batch, range(BATCHES)))

    bench.time("2 batches: 8, one after the other", lambda: [batch(number) for number in range(BATCHES)])
    bench.time("2 batches: 8, side by side", side_by_side)
    bench.time("2 batches: one player", lambda: bench.read(one, {**PARAMETERS, "player": player}))


def measure_materialized_view(bench: Bench) -> None:
    """Strategy 3: what a build spends on joining Phase 4, what reading it joined would take, what keeping it costs."""
    columns = ", ".join(f.name for f in FEATURES if f.block != "team_defense")
    joined = " ".join(
        [
            f"SELECT composite.analysis_date, player_id, {columns}",
            "FROM nba_precompute.player_composite_factors AS composite",
            "LEFT JOIN nba_precompute.player_shot_zone_analysis AS shot USING (analysis_date, player_id)",
            "LEFT JOIN nba_precompute.player_daily_cache AS cache USING (analysis_date, player_id)",
        ]
    )
    tonight = f"analysis_date = DATE '{NIGHT}'"
    bench.time("3 view: join tonight's Phase 4", lambda: bench.read(f"{joined} WHERE composite.{tonight}"))
    bench.time(
        "3 view: refresh all nights", lambda: bench.execute(f"CREATE OR REPLACE TABLE nba_precompute.base AS {joined}")
    )
    bench.time("3 view: read it joined", lambda: bench.read(f"FROM nba_precompute.base WHERE {tonight}"))


def measure_cache(bench: Bench) -> None:
    """Strategy 4: what a build spends on the latest Phase 3 rows, and what reading them put aside would take."""
    latest = []
    for table in (PLAYER_GAMES, TEAM_OFFENSE, TEAM_DEFENSE):
        key = "player_id" if table == PLAYER_GAMES else "team_abbreviation"
        columns = ", ".join(f.phase3.sql for f in FEATURES if f.phase3_table == table)
        window = f"game_date BETWEEN DATE '{PARAMETERS['lookback_start']}' AND DATE '{PARAMETERS['previous_date']}'"
        latest.append(
            f"SELECT {key}, game_date, {columns} FROM {table} WHERE {window} QUALIFY row_number() OVER "
            f"(PARTITION BY {key} ORDER BY game_date DESC, processed_at DESC) = 1"
        )
    caches = [f"nba_precompute.cache_{number}" for number in range(len(latest))]

    def fill() -> None:
        for cache, select in zip(caches, latest, strict=True):
            bench.execute(f"CREATE OR REPLACE TABLE {cache} AS {select}")

    bench.time("4 cache: find the latest Phase 3 rows", lambda: [bench.read(select) for select in latest])
    bench.time("4 cache: fill it", fill)
    bench.time("4 cache: read it", lambda: [bench.read(f"FROM {cache}") for cache in caches])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        write_sample_data(Path(folder), analysis_date=NIGHT)
        warehouse = DuckDbWarehouse(":memory:")
        warehouse.ensure_tables()
        load_parquet_folder(warehouse, Path(folder))
    bench = Bench(warehouse, options.repeats)
    players = multiply(bench, options.copies)
    for measure in (measure_build, measure_batches, measure_materialized_view, measure_cache):
        measure(bench)
    bench.run()
    measure_layout(bench)
    warehouse.close()
    if options.json:
        print(json.dumps({"players": players, "milliseconds": bench.figures}))  # noqa: T201 -- a script's output
        return
    print(f"{players:,} players; milliseconds, best of {options.repeats}")  # noqa: T201
    for name, figure in bench.figures.items():
        print(f"{name:<44}{figure:>10,.1f}")  # noqa: T201


if __name__ == "__main__":
    main()
