"""The worker deletes old rows once a day, and a warehouse that refuses stops nothing else."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from structlog.testing import capture_logs

from tests.support.nights import EVENING
from tests.support.rigs import ModelClock
from worker.builds.vacuum import AGAIN_AFTER, FIRST_PASS_AFTER, PASS_EVERY, DailyVacuum
from worker.errors import Denied, PipelineError
from worker.features.model import Statement
from worker.pipelines.shipped import SHIPPED


class Deletions:
    """A warehouse that notes what it is asked to delete."""

    pipeline = SHIPPED

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.fault: PipelineError | None = None

    def delete_rows(self, change: Statement) -> int:
        self.asked.append((change.name, change.parameters))
        if self.fault is not None:
            raise self.fault
        return 7


class Site:
    def __init__(self, keep_days: int) -> None:
        self.clock = ModelClock()
        self.warehouse = Deletions()
        self.vacuum = DailyVacuum(self.warehouse, self.clock, keep_days)  # type: ignore[arg-type] # what it needs of one

    def look(self, after: timedelta) -> list[str]:
        """Look after so long, and name the statements that were run."""
        self.clock.forward(after)
        self.warehouse.asked.clear()
        assert self.vacuum.run_once() > 0
        return [name for name, _ in self.warehouse.asked]


def test_a_worker_vacuums_a_while_after_its_start_and_then_once_a_day() -> None:
    site = Site(keep_days=0)

    assert site.look(FIRST_PASS_AFTER - timedelta(seconds=1)) == []
    with capture_logs() as logs:
        assert site.look(timedelta(seconds=1)) == ["vacuum_unpublished"]
    assert site.look(PASS_EVERY - timedelta(seconds=1)) == []
    assert site.look(timedelta(seconds=1)) == ["vacuum_unpublished"]

    assert [(line["event"], line["unpublished_rows"], line["superseded_rows"]) for line in logs] == [
        ("vacuumed", 7, None)
    ]


def test_a_worker_deletes_superseded_generations_only_where_the_settings_say_after_how_many_days() -> None:
    site = Site(keep_days=30)

    assert site.look(FIRST_PASS_AFTER) == ["vacuum_unpublished", "vacuum_superseded"]

    now = EVENING + FIRST_PASS_AFTER
    assert [values for _, values in site.warehouse.asked] == [
        {"processed_before": now - timedelta(days=1)},
        {"superseded_before": now - timedelta(days=30)},
    ]


def test_a_warehouse_that_refuses_is_asked_again_an_hour_later_and_fails_no_pass() -> None:
    """Three failed passes would take the worker out of service, although it can still build."""
    site = Site(keep_days=0)
    site.warehouse.fault = Denied("no right to delete")

    with capture_logs() as logs:
        assert site.look(FIRST_PASS_AFTER) == ["vacuum_unpublished"]
    assert site.look(AGAIN_AFTER - timedelta(seconds=1)) == []
    assert site.look(timedelta(seconds=1)) == ["vacuum_unpublished"]

    assert [(line["event"], line["error"]) for line in logs] == [("vacuum_failed", "no right to delete")]
