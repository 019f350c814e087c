"""The shared warehouse of an upgrade run, a process of its own: `python -m tests.upgrade.warehouse --nights 100`.

The BigQuery peer with generated nights that end with `LAST_NIGHT`. It prints its address and serves until its standard
input ends. Some nights have a gap, see `expected_state`.
"""

import argparse
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path

from tests.support.bigquery_peer.engine import PeerEngine
from tests.support.bigquery_peer.server import BigQueryServer
from worker.local.sample.data import NIGHTS, write_sample_data

PROJECT = "upgrade"
LAST_NIGHT = date(2024, 12, 15)
GAPS_BACK_MAX = 15
SCHEDULE = "nba_raw.nbac_schedule"
DATED = {
    "nba_raw.nbac_player_list": "snapshot_date",
    "nba_precompute.team_defense_zone_analysis": "analysis_date",
    "nba_precompute.player_shot_zone_analysis": "analysis_date",
    "nba_precompute.player_composite_factors": "analysis_date",
    "nba_precompute.player_daily_cache": "analysis_date",
}


def nights(count: int) -> list[date]:
    """The last *count* nights, oldest first."""
    return [LAST_NIGHT - timedelta(days=back) for back in reversed(range(count))]


def expected_state(night: date) -> str:
    """How a night must end: without a daily cache degraded, without anybody on the roster failed, else done."""
    back = (LAST_NIGHT - night).days
    if back % 5 == 2 and back <= GAPS_BACK_MAX:
        return "degraded"
    return "failed" if back % 10 == 9 else "done"


def fill(engine: PeerEngine, folder: Path, count: int) -> None:
    """Load the sample, repeat its last night for earlier dates, and tear the gaps.

    The schedule of a repeated night has the games that Phase 4 tells of, each with an id of its own: a game told under
    several dates was moved, and counts on one of them.
    """
    write_sample_data(folder, analysis_date=LAST_NIGHT)
    engine.load(folder)
    copies = {table: f"{column} - back::INTEGER AS {column}" for table, column in DATED.items()}
    copies[SCHEDULE] = "game_date - back::INTEGER AS game_date, game_id || ' ' || back AS game_id"
    repeated = [night for night in nights(count) if night <= LAST_NIGHT - timedelta(days=NIGHTS)]
    with engine.cursor() as cursor:
        for night in repeated:
            cursor.execute(f"DELETE FROM {SCHEDULE} WHERE game_date = ?", [night])  # noqa: S608 - a constant
        for table, replaced in copies.items():
            column = DATED.get(table, "game_date")
            cursor.execute(
                f"INSERT INTO {table} SELECT t.* REPLACE ({replaced}) "  # noqa: S608 - constants
                f"FROM {table} t, range(?, ?) AS r(back) WHERE {column} = ?",
                [NIGHTS, NIGHTS + len(repeated), LAST_NIGHT],
            )
        for night in nights(count):
            gap = {"degraded": "nba_precompute.player_daily_cache", "failed": "nba_raw.nbac_player_list"}
            table = gap.get(expected_state(night))
            if table:
                cursor.execute(f"DELETE FROM {table} WHERE {DATED[table]} = ?", [night])  # noqa: S608 - constants


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, BigQueryServer(hold_s=0.2) as server:
        fill(server.project(PROJECT).engine, Path(folder), options.nights)
        sys.stdout.write(f"{server.address}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
