"""`mlfs outlook`, `explain`, `/dates/DATE/outlook`, the page and the gauges: one set of figures, and true scores."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from html import escape
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from typer.testing import CliRunner

from ops.cli import app
from statemachine.model import BuildMode, DateRecord
from tests.conftest import WaitUntil
from tests.support.arrivals import generated_season, store_arrivals
from tests.support.league import SUNDAY, League, sample_folder
from tests.support.nights import (
    CACHE,
    CUTOFF,
    DEADLINE,
    DEFENSE,
    EVENING,
    MINUTE,
    NIGHT,
    PROCESSORS,
    after,
    claimed,
    committed,
    joined,
    retract,
    success,
    waiting,
)
from tests.support.rigs import LedgerWarehouse, ModelClock, Rig
from tests.support.services import Service
from worker.adapters.redis.client import connect
from worker.adapters.redis.store import RedisStore
from worker.errors import Fatal, Unavailable
from worker.features.model import BlockCounts, BuildStats, Statement
from worker.features.quality import score
from worker.foresight.outlook import SPAN_DAYS
from worker.foresight.outlook_text import DateOutlook, rows_of
from worker.foresight.reading import FAULT_KEPT, SCORES_KEPT, OutlookWatch
from worker.foresight.scores import Scores, read_scores, with_tables
from worker.local.parquet_folder import load_parquet_folder
from worker.observing.metrics import Metrics
from worker.pipelines.shipped import BLOCKS, PIPELINE, SHIPPED, features_of
from worker.resources import DEMO_NOTE

Mlfs = Callable[..., Result]
DAY = timedelta(days=1)
OTHERS = tuple(name for name in PROCESSORS if name != CACHE)
TABLES = {block.processor: block.table for block in BLOCKS}
ROUTE, PAGE = f"/dates/{NIGHT}/outlook", f"/nights/{NIGHT}"
LOOKBACK = 30


def scores_of(league: League, record: DateRecord, missing: Sequence[str]) -> Scores:
    return read_scores(league.warehouse, record, missing, now=lambda: EVENING, lookback_days=LOOKBACK)


def opened_without(processor: str, folder: Path) -> League:
    """The warehouse file of a folder in which the table of a processor has no row of Sunday."""
    tables = Path(shutil.copytree(sample_folder(), folder / "tables"))
    file = f"{TABLES[processor]}.parquet"
    kept = f"SELECT * FROM '{sample_folder() / file}' WHERE analysis_date <> '{SUNDAY}'"  # noqa: S608 - a folder's name
    duckdb.execute(f"COPY ({kept}) TO '{tables / file}' (FORMAT parquet)")
    league = League.opened(folder / "warehouse.duckdb")
    league.warehouse.ensure_tables()
    load_parquet_folder(league.warehouse, tables)
    return league


# The scores.


@pytest.fixture(scope="module")
def league() -> Iterator[League]:
    league = League()
    yield league
    league.warehouse.close()


@pytest.fixture(scope="module")
def whole(league: League) -> float:
    """The score of the night with every table."""
    return scores_of(league, joined(), ()).now.quality_score


@pytest.mark.parametrize("missing", [(CACHE,), OTHERS, PROCESSORS], ids=lambda names: f"{len(names)}-{names[0]}")
def test_the_score_with_a_table_is_what_a_build_earns_once_the_table_is_there(
    league: League, whole: float, missing: tuple[str, ...]
) -> None:
    # No build reads the table of a retracted run: the table is as good as empty.
    scores = scores_of(league, after(joined(), *(retract(name) for name in missing)), missing)

    assert scores.with_all is not None
    assert scores.now.quality_score < min(scores.with_each.values(), key=lambda one: one.quality_score).quality_score
    assert scores.with_all.quality_score == pytest.approx(whole, abs=0.5)


def test_a_dry_run_leaves_no_trace(league: League) -> None:
    kept = {table: league.query(f"SELECT COUNT(*) AS many FROM {table}") for table in SHIPPED.tables.all}  # noqa: S608
    scores_of(league, waiting(*OTHERS), (CACHE,))
    left = {table: league.query(f"SELECT COUNT(*) AS many FROM {table}") for table in SHIPPED.tables.all}  # noqa: S608

    assert kept == left


@st.composite
def counted(draw: st.DrawFn) -> BuildStats:
    left_out = draw(st.integers(0, 40))
    rows = draw(st.integers(0, 500))

    def block(name: str) -> BlockCounts:
        each = len(features_of(name))
        players = draw(st.integers(0, rows + left_out))
        cells = min(players, rows) * each
        phase4 = draw(st.integers(0, cells))
        phase3 = draw(st.integers(0, cells - phase4))
        return BlockCounts(players=players, cells_each=each, phase4_cells=phase4, phase3_cells=phase3)

    return BuildStats(
        analysis_date=NIGHT,
        row_count=rows,
        dependency_rows={name: draw(st.sampled_from([0, 400])) for name in PROCESSORS},
        blocks={block_.name: block(block_.name) for block_ in BLOCKS},
        required_nulls=draw(st.integers(0, 5 * rows)),
        newest_source_date=draw(st.sampled_from([None, NIGHT, NIGHT - DAY, NIGHT - 9 * DAY])) if rows else None,
        left_out_count=left_out,
    )


@given(stats=counted(), names=st.sets(st.sampled_from(PROCESSORS)), more=st.sets(st.sampled_from(PROCESSORS)))
@settings(max_examples=150, deadline=None)
def test_a_further_table_never_lowers_the_score(stats: BuildStats, names: set[str], more: set[str]) -> None:
    def worth(processors: set[str]) -> float:
        return score(with_tables(stats, processors, SHIPPED), BuildMode.NORMAL, SHIPPED.quality).quality_score

    assert worth(set()) == score(stats, BuildMode.NORMAL, SHIPPED.quality).quality_score
    assert worth(set()) <= worth(names) <= worth(names | more)


# One set of figures for command, API and page.


@pytest.fixture
def store(valkey_url: str) -> Iterator[RedisStore]:
    client = connect(valkey_url)
    client.flushall()
    store = RedisStore(client, PIPELINE)
    yield store
    store.close()


@pytest.fixture
def evening(tmp_path: Path, valkey_url: str, store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> League:
    """Sunday at 23:00: three reports are in, one table is empty, and half a year of nights is known."""
    league = opened_without(CACHE, tmp_path)
    store_arrivals(league.warehouse, generated_season(7, SPAN_DAYS, first=NIGHT - SPAN_DAYS * DAY))
    rig = Rig(store=store, clock=ModelClock(EVENING))
    for name in OTHERS:
        rig.engine.apply(NIGHT, success(name))
    (tmp_path / DEMO_NOTE).write_text("{}", "utf-8")
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MLFS_REDIS_URL", valkey_url)
    return league


def mlfs(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def timeless(told: Mapping[str, Any]) -> dict[str, Any]:
    """Without the instants at which the answer was made."""
    scores = told["scores"] and {**told["scores"], "scored_at": None}
    return {**told, "now": None, "scores": scores}


def test_command_api_and_page_show_the_same_figures(evening: League, store: RedisStore, wait_until: WaitUntil) -> None:
    with Service(warehouse=evening.warehouse, store=store) as service:
        over_http = service.client.get(ROUTE).json()
        wait_until(lambda: over_http["sentence"] in service.client.get(PAGE).text.replace("&#39;", "'"), "the outlook")
        page = service.client.get(PAGE).text
    evening.warehouse.close()
    told, shown = json.loads(mlfs("outlook", NIGHT, "--json").stdout), mlfs("outlook", NIGHT).stdout
    explained = json.loads(mlfs("explain", NIGHT, "--json").stdout)

    assert timeless(over_http) == timeless(told)
    assert told["sentence"] == explained["outlook"]
    assert told["sentence"] in shown
    [cells] = rows_of(read_outlook(over_http), service.parts.settings.calendar.zone)
    for cell in asdict(cells).values():
        assert cell in shown, cell
        assert escape(cell) in page, cell


def read_outlook(told: Mapping[str, Any]) -> DateOutlook:
    from pydantic import TypeAdapter  # noqa: PLC0415 - the model of the route, read as a client reads it

    return TypeAdapter(DateOutlook).validate_python(told)


def test_the_sentence_joins_score_and_chance(evening: League) -> None:
    evening.warehouse.close()
    told = json.loads(mlfs("outlook", NIGHT, "--json").stdout)
    [cache] = told["processors"]
    chance = cache["by_deadline"]

    assert told["scores"]["now"] < cache["score_with"]
    assert f"Go now: {told['scores']['now']:.1f}" in told["sentence"]
    assert (
        f"With {CACHE}: {cache['score_with']:.1f}; it comes by the deadline, 23:25 EST, in {chance['came']} of "
        f"{chance['nights']} such "
    ) in told["sentence"]
    assert f"(Wilson {100 * chance['low']:.0f} to {100 * chance['high']:.0f} %)" in told["sentence"]


def test_without_a_dry_run_the_chances_are_shown(evening: League) -> None:
    evening.warehouse.close()
    done = mlfs("outlook", NIGHT, "--no-score", "--json")
    told = json.loads(done.stdout)

    assert (0, None) == (done.exit_code, told["scores"])
    assert told["processors"][0]["by_cutoff"] is not None
    assert told["sentence"].startswith("Score not known: no dry run was wanted")


def test_a_night_that_no_build_can_score_keeps_its_chances(evening: League) -> None:
    evening.execute("DROP TABLE nba_raw.nbac_player_list")
    evening.warehouse.close()
    done = mlfs("outlook", NIGHT, "--json")

    assert 0 == done.exit_code
    assert "nothing would be published" in json.loads(done.stdout)["sentence"]


def test_explain_says_so_where_no_warehouse_answers(evening: League, tmp_path: Path) -> None:
    evening.warehouse.close()
    (tmp_path / "warehouse.duckdb").unlink()
    told = json.loads(mlfs("explain", NIGHT, "--json").stdout)

    assert told["outlook"].startswith("No outlook: there is no warehouse file")
    assert "waiting: 3 of 4 completions" == told["headline"]


# The service: bounded reading, true sentences, gauges.


class Hanging(LedgerWarehouse):
    """A warehouse whose statement hangs until the test lets go."""

    def __init__(self, statement: str) -> None:
        super().__init__()
        self.hangs, self.thawed = statement, threading.Event()

    def query(self, statement: Statement) -> Sequence[Mapping[str, Any]]:
        if statement.name == self.hangs:
            self.thawed.wait(10)
        return super().query(statement)


def opened(warehouse: LedgerWarehouse | None = None, **more: Any) -> Service:
    service = Service(warehouse=warehouse or LedgerWarehouse(), **more)
    service.warehouse.rows[CACHE] = 0
    for name in OTHERS:
        service.worker.engine.apply(NIGHT, success(name))
    return service


def dry_runs(service: Service) -> int:
    return sum(statement.name == "build_stats" for statement in service.warehouse.statements)


@pytest.mark.parametrize("statement", ["arrivals", "build_stats"])
def test_the_page_waits_for_no_warehouse(statement: str) -> None:
    warehouse = Hanging(statement)
    with opened(warehouse) as service:
        pages = [service.client.get(PAGE) for _ in range(3)]
        threads = [thread.name for thread in threading.enumerate() if thread.name in {"the dry run", READS_ARRIVALS}]
        warehouse.thawed.set()

    assert [200] * 3 == [page.status_code for page in pages]
    assert all("not ready yet" in page.text for page in pages)
    assert 1 == len(threads), "a hanging warehouse costs one thread"


READS_ARRIVALS = "the arrivals of earlier nights"


def test_many_callers_cost_one_dry_run_until_the_record_changes_or_minutes_pass() -> None:
    with opened() as service:
        for _ in range(5):
            service.client.get(ROUTE)
        first = dry_runs(service)
        service.clock.forward(SCORES_KEPT)
        service.client.get(ROUTE)
        second = dry_runs(service)
        service.worker.engine.apply(NIGHT, success(DEFENSE, run="2", at=EVENING + MINUTE))
        service.client.get(ROUTE)

        assert (1, 2, 3) == (first, second, dry_runs(service))


def test_a_failed_dry_run_leaves_the_chances_and_is_not_repeated_at_once() -> None:
    with opened() as service:
        service.warehouse.faults["build_stats"] = [Unavailable("no answer"), Fatal("no right")]
        first, again = service.client.get(ROUTE).json(), service.client.get(ROUTE).json()
        service.clock.forward(FAULT_KEPT)
        later = service.client.get(ROUTE).json()

    assert (None, "no answer", "no answer") == (first["scores"], first["scores_absent"], again["scores_absent"])
    assert "no right" == later["scores_absent"]
    assert 1 == len(first["processors"])


def test_arrivals_that_cannot_be_read_are_a_problem() -> None:
    with opened() as service:
        service.warehouse.faults["arrivals"] = [Unavailable("no answer")]
        answer = service.client.get(ROUTE)

    assert (503, "no answer") == (answer.status_code, answer.json()["detail"])


def test_a_date_that_is_not_open_reads_no_warehouse_and_says_why() -> None:
    with opened() as service:
        service.worker.engine.apply(NIGHT, success(CACHE))
        ready = service.client.get(ROUTE).json()
        for event in (claimed(), committed()):
            service.worker.engine.apply(NIGHT, event)
        done = service.client.get(ROUTE).json()
        page = service.client.get(PAGE).text

        assert ("complete", "No processor is missing; the date is ready, nothing is published.") == (
            ready["stage"],
            ready["sentence"],
        )
        assert "No processor is missing; the date is done, published with score 99.9." == done["sentence"]
        assert ([], None, None) == (done["processors"], done["scores"], done["scores_absent"])
        assert 'id="outlook"' not in page
        assert {"arrivals", "build_stats"}.isdisjoint(statement.name for statement in service.warehouse.statements)


def test_after_the_cutoff_and_after_a_cancel_nothing_is_promised() -> None:
    with opened() as service:
        service.clock.forward(CUTOFF - EVENING)
        closed = service.client.get(ROUTE).json()
        service.client.post(f"/dates/{NIGHT}/cancel", json={"reason": "no game"})
        cancelled = service.client.get(ROUTE).json()

    assert ("closed", "cancelled") == (closed["stage"], cancelled["stage"])
    assert closed["sentence"].startswith("The cutoff, 23:50 EST, has passed, nothing is published")
    assert f"mlfs replay {NIGHT}" in cancelled["sentence"]


@pytest.mark.parametrize(
    ("day", "said"),
    [
        (date(2024, 7, 15), "Monday 2024-07-15 was never opened, and the calendar expects no report"),
        (NIGHT + DAY, "Monday 2024-12-16 is not open yet: a worker opens the date when the day begins"),
        (NIGHT - DAY, "Saturday 2024-12-14 was never opened; for the opened dates: mlfs status"),
    ],
)
def test_a_date_without_a_record_is_explained(day: date, said: str) -> None:
    with opened() as service:
        answer = service.client.get(f"/dates/{day}/outlook")

    assert 404 == answer.status_code
    assert said in answer.json()["detail"]


def gauges(service: Service) -> tuple[Callable[[], float], Callable[[], dict[str, float]]]:
    """The pass that refreshes the gauges, and the gauges as a scrape shows them."""
    metrics = Metrics(PROCESSORS)
    watch = OutlookWatch(service.worker._services.outlook, service.store, service.clock, metrics.show_outlook())

    def shown() -> dict[str, float]:
        lines = generate_latest(metrics.registry).decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if line.startswith("mlfs_outlook"))
        return {name: float(value) for name, _, value in pairs}

    return watch.run_once, shown


def test_the_gauges_hold_the_figures_of_the_answer_from_an_hour_before_the_deadline_to_the_cutoff() -> None:
    with opened(clock=ModelClock(EVENING - 60 * MINUTE)) as service:
        refresh, shown = gauges(service)
        refresh()
        early = shown()
        service.clock.forward(60 * MINUTE)
        refresh()
        evening, told = shown(), service.client.get(ROUTE).json()
        service.clock.forward(CUTOFF - EVENING)
        refresh()

        assert ({}, {}) == (early, shown())
    assert told["scores"]["now"] == evening[f'mlfs_outlook_score{{analysis_date="{NIGHT}",case="now"}}']
    assert (
        told["processors"][0]["score_with"] == evening[f'mlfs_outlook_score{{analysis_date="{NIGHT}",case="{CACHE}"}}']
    )
    assert told["scores"]["with_all"] == evening[f'mlfs_outlook_score{{analysis_date="{NIGHT}",case="all"}}']
    assert 0 == evening[f'mlfs_outlook_nights{{analysis_date="{NIGHT}",processor="{CACHE}"}}']


@pytest.mark.parametrize("away", [timedelta(0), MINUTE, -MINUTE])
def test_no_dry_run_begins_beside_the_build_at_the_deadline(away: timedelta) -> None:
    with opened(clock=ModelClock(DEADLINE + away)) as service:
        refresh, shown = gauges(service)
        refresh()

        assert 0 == dry_runs(service)
        assert shown()


def test_a_warehouse_that_is_away_hides_the_gauges_and_fails_no_pass() -> None:
    with opened() as service:
        service.warehouse.faults["arrivals"] = [Unavailable("no answer")]
        refresh, shown = gauges(service)
        refresh()

        assert {} == shown()
