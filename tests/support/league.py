"""A warehouse full of generated nights, 2024-12-13 to 2024-12-15, and a short way to build them."""

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from statemachine.model import BuildMode
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.builds.steps import run_build
from worker.features.model import BuildKey, BuildOutcome, BuildRequest, Statement
from worker.local.parquet_folder import load_parquet_folder
from worker.local.sample.data import write_sample_data

NIGHTS = FRIDAY, SATURDAY, SUNDAY = tuple(date(2024, 12, day) for day in (13, 14, 15))


@cache
def sample_folder() -> Path:
    """Generated once for a test process; nobody writes to it."""
    directory = Path(tempfile.mkdtemp(prefix="mlfs-test-league-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    write_sample_data(directory, analysis_date=SUNDAY)
    return directory


def built_at(night: date) -> datetime:
    """23:30 in New York, after every processor has written."""
    return datetime(night.year, night.month, night.day, 4, 30, tzinfo=UTC) + timedelta(days=1)


class League:
    """The warehouse, and what a test does to it."""

    def __init__(self, path: str = ":memory:") -> None:
        self.warehouse = DuckDbWarehouse(path)
        self.warehouse.ensure_tables()
        load_parquet_folder(self.warehouse, sample_folder())

    @classmethod
    def opened(cls, path: Path) -> "League":
        """The warehouse of a file, as a command left it."""
        league = cls.__new__(cls)
        league.warehouse = DuckDbWarehouse(str(path))
        return league

    def build(
        self,
        night: date,
        generation: int = 1,
        mode: BuildMode = BuildMode.NORMAL,
        *,
        as_of: datetime | None = None,
        ignored: frozenset[str] = frozenset(),
    ) -> BuildOutcome:
        at = built_at(night)
        request = BuildRequest(
            key=BuildKey(analysis_date=night, generation=generation, attempt=1),
            mode=mode,
            trigger="join",
            phase3_lookback_days=30,
            as_of=as_of,
            started_at=at - timedelta(minutes=3),
            claimant="worker-a",
            ignored=ignored,
        )
        return run_build(self.warehouse, request, now=lambda: at)

    def execute(self, sql: str, values: list[object] | None = None) -> None:
        with self.warehouse.writing("preparing the test") as cursor:
            cursor.execute(sql, values or [])

    def query(self, sql: str, **parameters: object) -> list[Mapping[str, Any]]:
        return list(self.warehouse.query(Statement(name="test", sql=sql, parameters=parameters)))

    def published(self, night: date) -> dict[int, Mapping[str, Any]]:
        rows = self.query(
            "SELECT * FROM nba_predictions.ml_feature_store_v2 WHERE analysis_date = @night ORDER BY player_id",
            night=night,
        )
        return {row["player_id"]: row for row in rows}
