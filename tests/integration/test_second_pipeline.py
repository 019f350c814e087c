"""Nothing is hard-wired to the shipped pipeline: another one, of three processors, plays its day on real parts."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.cli import app
from tests.support.arrivals import store_arrivals
from tests.support.bigquery_peer.server import BigQueryServer
from tests.support.grid_day import DAY, DEADLINE, DEFINITION, MODELS, ZONES, GridDay
from worker.errors import Refused
from worker.features.arrivals import Arrival
from worker.pipelines.shipped import SHIPPED

READY, FAILED = "grid-day-ahead-ready", "grid-day-ahead-failed"


@pytest.fixture
def environment(tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "PIPELINE": str(DEFINITION),
        "DATA_DIR": str(tmp_path),
        "REDIS_URL": valkey_url,
        "OPENLINEAGE": f"file://{tmp_path}/lineage.jsonl",
        "HTTP_PORT": "0",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"MLFS_{name}", value)


@pytest.fixture
def grid(environment: None, valkey_url: str) -> Iterator[GridDay]:  # noqa: ARG001 - what it reads its settings from
    with GridDay(valkey_url) as day:
        yield day


@pytest.fixture(params=["duckdb", "bigquery"])
def grid_anywhere(
    environment: None,  # noqa: ARG001 - what it reads its settings from
    valkey_url: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[GridDay]:
    """On the embedded warehouse, and over the wire on the BigQuery peer."""
    with ExitStack() as stack:
        peer = None
        if request.param == "bigquery":
            server = stack.enter_context(BigQueryServer(hold_s=0.05))
            monkeypatch.setenv("MLFS_WAREHOUSE", "bigquery://grid-ops")
            monkeypatch.setenv("MLFS_BIGQUERY_ENDPOINT", server.address)
            peer = server.project("grid-ops").engine
        yield stack.enter_context(GridDay(valkey_url, peer))


@pytest.fixture
def run(grid: GridDay, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:  # noqa: ARG001 - its environment
    """Run `mlfs` beside the service; give exit code and output."""

    def command(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()  # what the service has logged
        code = app(list(arguments), standalone_mode=False)
        return code or 0, capsys.readouterr().out

    return command


def shipped_names() -> set[str]:
    """Every name that is the shipped pipeline's own."""
    features = {feature.name for feature in SHIPPED.features}
    blocks = {name for block in SHIPPED.blocks for name in (block.name, block.processor, block.key)}
    tables = {*SHIPPED.upstream, *SHIPPED.tables.all}
    return {
        *features,
        *blocks,
        *(column.name for column in SHIPPED.identity),
        *(part for table in tables for part in (table, *table.split("."))),
        *(str(SHIPPED.settings[name]) for name in SHIPPED.settings if name.endswith("topic")),
        *(SHIPPED.name, SHIPPED.entity.plural),
        *("New_York", "nba", "four"),
    }


def test_three_successes_publish_the_day_and_tell_it_on_its_own_topic(grid: GridDay) -> None:
    grid.put_all()
    statuses = [grid.push(model) for model in MODELS]

    assert ([204] * 3, [("done", 1)]) == (statuses, grid.tick())
    [(topic, told)] = grid.outcomes()
    assert (READY, "grid_day_ahead", "done", 4, 100.0) == (
        topic,
        told["processor"],
        told["state"],
        told["row_count"],
        told["quality_score"],
    )
    assert {**SHIPPED.quality.points, **grid.parts.settings.definition.quality.points} == told["components"]
    rows = grid.query("SELECT zone_code, load_mw, demand_source FROM grid_out.day_ahead ORDER BY zone_code")
    assert rows == [{"zone_code": zone, "load_mw": 42_000.0, "demand_source": "phase4"} for zone in ZONES]


def test_two_of_three_wait_for_the_deadline_of_their_zone_fall_back_and_are_upgraded(grid_anywhere: GridDay) -> None:
    grid = grid_anywhere
    grid.put_all(but="price_curves")
    grid.tick()
    for model in MODELS[:2]:
        grid.push(model)
    grid.clock.instant = DEADLINE - timedelta(seconds=1)
    early = grid.tick()
    grid.clock.instant = DEADLINE
    fallback = grid.tick()
    [(_topic, told)] = grid.outcomes()
    sources = grid.query("SELECT DISTINCT price_source, weather_source FROM grid_out.day_ahead")
    grid.put("grid_models.price_curves")
    grid.clock.forward(timedelta(minutes=10))
    grid.push("price_curves")

    assert ([], [("degraded", 1)]) == (early, fallback)
    assert [{"price_source": "phase3", "weather_source": "phase4"}] == sources
    lost = pytest.approx(1 / 3, abs=1e-4)
    assert (16.0, lost) == (told["components"]["dependency_completeness"], told["fallback_rate"])
    assert [("done", 2)] == grid.tick()
    assert [(READY, "degraded"), (READY, "done")] == [(topic, told["state"]) for topic, told in grid.outcomes()]


def test_the_gate_is_the_pipelines_own(grid: GridDay) -> None:
    grid.put_all(zones=ZONES[:2])
    for model in MODELS:
        grid.push(model)

    assert [("failed", 1)] == grid.tick()
    [(topic, told)] = grid.outcomes()
    assert (FAILED, "2 rows, 3 needed") == (topic, told["message"])
    assert [] == grid.query("SELECT * FROM grid_out.day_ahead")


def test_a_day_without_zones_is_told_in_its_own_words(grid: GridDay) -> None:
    for model in MODELS:
        grid.push(model)
    grid.tick()

    [(_topic, told)] = grid.outcomes()
    assert told["message"].startswith("2025-03-30: grid_raw.zones holds no active zones of the date.")
    assert told["failed_because"] == "no_roster"


def test_a_replay_is_audited_in_the_pipelines_own_table(grid: GridDay) -> None:
    grid.put_all()
    for model in MODELS:
        grid.push(model)
    grid.tick()
    asked = {"reason": "the curves were wrong", "force_phase3_fallback": True}
    answer = grid.client.post(f"/dates/{DAY}/replay", json=asked)

    assert (202, [("degraded", 2)]) == (answer.status_code, grid.tick()), answer.text
    assert [{"reason": "the curves were wrong"}] == grid.query("SELECT reason FROM grid_out.day_ahead_replays")


def test_the_commands_speak_of_the_pipeline_that_runs(grid: GridDay, run: Callable[..., tuple[int, str]]) -> None:
    grid.put_all(but="price_curves")
    for model in MODELS[:2]:
        grid.push(model)
    waiting = run("explain", str(DAY), "--json")[1]
    grid.clock.instant = DEADLINE
    grid.tick()
    code, status = run("status", str(DAY), "--json")
    said = json.loads(run("explain", str(DAY), "--json")[1])

    assert "Waits for price_curves. Builds as soon as all 3 report success" in waiting
    assert (3, "degraded", 4) == (code, json.loads(status)["state"], json.loads(status)["row_count"])
    assert "price_curves" in json.dumps(said)
    with pytest.raises(Refused, match="of grid_day_ahead; one of weather_ensemble, demand_curves, price_curves"):
        run("emit", str(DAY), "weather")
    with pytest.raises(Refused, match="of ml_feature_store_v2, and MLFS_PIPELINE names grid_day_ahead"):
        run("trend")
    assert_no_shipped_name("\n".join([waiting, status, json.dumps(said), run("status")[1], run("schemas")[1]]))


def test_a_backtest_plays_the_days_of_the_pipeline_that_runs(
    grid: GridDay, run: Callable[..., tuple[int, str]]
) -> None:
    zone, first = grid.parts.settings.calendar.zone, DAY - timedelta(days=1)
    arrivals = [
        Arrival(
            analysis_date=day,
            processor=model,
            run=f"{model}-{day}",
            status="success",
            completed_at=(at := datetime.combine(day, time(11, minute), zone).astimezone(UTC)),
            received_at=at,
            lateness_s=(minute - 40) * 60.0,
        )
        for day in (first, DAY)
        for minute, model in zip((10, 20, 45), MODELS, strict=True)
    ]
    store_arrivals(grid.parts.embedded_warehouse, arrivals)

    said = run("backtest", "--from", str(first), "--to", str(DAY), "--deadline", "11:50+0d", "--json")[1]

    figures = json.loads(said)["figures"]
    assert (figures["today"]["upgraded"], figures["tried"]["done"]) == (2, 2)
    assert_no_shipped_name(said)


def test_a_day_leaves_no_name_of_the_shipped_pipeline_anywhere(
    grid: GridDay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fallback, its upgrade, a refused message and a replay: records, history, messages, metrics, pages, tables."""
    grid.put_all(but="price_curves")
    grid.tick()
    for model in (*MODELS[:2], "solar_curves"):
        grid.push(model)
    grid.clock.instant = DEADLINE
    grid.tick()
    grid.put("grid_models.price_curves")
    grid.push("price_curves")
    grid.tick()
    grid.client.post(f"/dates/{DAY}/replay", json={"reason": "again"})
    grid.tick()

    said = grid.everything_said() + (tmp_path / "lineage.jsonl").read_text("utf-8") + capsys.readouterr().out
    assert {"grid_day_ahead", "price_curves", "zone_code", *MODELS} <= set(re.findall(r"\w+", said))
    assert_no_shipped_name(said)


def assert_no_shipped_name(text: str) -> None:
    found: dict[str, Any] = {}
    for name in shipped_names():
        if place := re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text):
            found[name] = text[max(0, place.start() - 60) : place.end() + 30]
    assert not found
