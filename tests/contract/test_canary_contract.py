"""The canary's row is written, read and deleted in every warehouse, and no view and no build ever shows it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from worker.canary import CANARY_DATE, try_warehouse
from worker.features.model import BuildKey, Statement
from worker.features.plan import plan_of
from worker.ports import Warehouse

AT = datetime(2024, 12, 16, 4, 0, tzinfo=UTC)
KEY = BuildKey(analysis_date=CANARY_DATE, generation=7, attempt=1)


def rows(warehouse: Warehouse, table: str) -> list[Any]:
    return list(warehouse.query(Statement(name="test", sql=f"SELECT * FROM {table}")))  # noqa: S608 -- of the catalogue


def test_a_journey_leaves_no_row_anywhere(warehouse: Warehouse) -> None:
    tables = warehouse.pipeline.tables.all
    before = {table: rows(warehouse, table) for table in tables}

    for minutes in (0, 5):
        try_warehouse(warehouse, KEY, AT + timedelta(minutes=minutes))

    assert before == {table: rows(warehouse, table) for table in tables}


def test_the_row_of_a_build_that_died_is_shown_by_no_view_and_deleted_by_the_next_journey(warehouse: Warehouse) -> None:
    pipeline = warehouse.pipeline
    values = {"analysis_date": CANARY_DATE, "build_id": KEY.build_id, "build_generation": 7, "built_at": AT}
    warehouse.stage(KEY, plan_of("canary", values, pipeline))

    assert 1 == len(rows(warehouse, pipeline.tables.generations))
    assert [] == [row for view in pipeline.tables.views for row in rows(warehouse, view)]

    try_warehouse(warehouse, BuildKey(analysis_date=CANARY_DATE, generation=8, attempt=1), AT)

    assert [] == rows(warehouse, pipeline.tables.generations)
