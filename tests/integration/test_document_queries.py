"""Every query of docs/document_queries.md runs on what the product writes, and says what is so."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.reports.weekly_figures import TROUBLES, reliability_of
from statemachine.model import BuildMode, FailureKind
from tests.support.league import FRIDAY, SATURDAY, SUNDAY, League, built_at
from tests.support.reported_season import ReportedSeason
from worker.features.model import Statement
from worker.features.quality import COMPONENTS
from worker.pipelines.shipped import BLOCKS

PAGE = Path(__file__).parents[2] / "docs" / "document_queries.md"
QUERIES: Mapping[str, str] = dict(
    re.findall(r"^### (\w+)\n\n```sql\n(.*?)```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
)
MONDAY = SUNDAY + timedelta(days=1)
Rows = Sequence[Mapping[str, Any]]
PREDICTED = 3


@pytest.fixture(scope="module")
def league() -> Iterator[League]:
    """Friday in full, Saturday without the daily cache, Sunday without Phase 4, Monday without players."""
    league = League()
    league.execute("DELETE FROM nba_precompute.player_daily_cache WHERE analysis_date = ?", [SATURDAY])
    for table in (
        "nba_precompute.team_defense_zone_analysis",
        "nba_precompute.player_shot_zone_analysis",
        "nba_precompute.player_composite_factors",
        "nba_precompute.player_daily_cache",
    ):
        league.execute("DELETE FROM that_table WHERE analysis_date = ?".replace("that_table", table), [SUNDAY])
    for night in (FRIDAY, SATURDAY, SUNDAY):
        assert league.build(night).published
    assert league.build(MONDAY).failure is FailureKind.NO_ROSTER
    league.execute(
        "CREATE TABLE nba_predictions.player_prop_predictions AS "
        "SELECT ?::DATE AS prediction_date, range AS player_id, 80.0 + range AS confidence_score FROM range(?)",
        [FRIDAY, PREDICTED],
    )
    yield league
    league.warehouse.close()


@pytest.fixture(scope="module")
def ask(league: League) -> Callable[..., Rows]:
    def run(name: str, night: Any = FRIDAY, **parameters: object) -> Rows:
        return league.query(QUERIES[name], analysis_date=night, **parameters)

    return run


def metrics(league: League, night: Any) -> Mapping[str, Any]:
    [row] = league.query(
        "SELECT * FROM nba_predictions.ml_feature_store_v2_quality_metrics WHERE analysis_date = @night", night=night
    )
    return row


def columns_of(rows: Rows, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def test_every_query_of_the_page_is_tested_here() -> None:
    asked = re.findall(r'ask\(\s*"(\w+)"', Path(__file__).read_text("utf-8"))

    assert QUERIES.keys() - {*asked, *COMPONENTS} == set()


def test_a_player_is_traced_through_his_tables(ask: Callable[..., Rows], league: League) -> None:
    player_id = next(row["player_id"] for row in league.published(SATURDAY).values() if row["has_game"])
    rows = ask("lineage_of_a_player", SATURDAY, player_id=player_id)

    counts = {row["source"]: row["row_count"] for row in rows}
    assert counts.pop("Phase 3 Fallback: player_game_summary") > 1
    assert counts == {
        "Phase 4: team_defense_zone_analysis": 1,
        "Phase 4: player_shot_zone_analysis": 1,
        "Phase 4: player_composite_factors": 1,
        "Phase 4: player_daily_cache": 0,
    }
    assert all((row["last_processed"] is None) == (row["row_count"] == 0) for row in rows)


@pytest.mark.parametrize(("night", "source"), [(FRIDAY, "phase4"), (SATURDAY, "mixed"), (SUNDAY, "phase3")])
def test_rows_are_counted_by_source(ask: Callable[..., Rows], league: League, night: Any, source: str) -> None:
    rows = {row["data_source"]: row["row_count"] for row in ask("rows_by_source", night)}

    assert sum(rows.values()) == len(league.published(night))
    assert rows[source] == max(rows.values())


def test_upstream_rows_are_counted(ask: Callable[..., Rows]) -> None:
    full, holed = ask("upstream_row_counts", FRIDAY), ask("upstream_row_counts", SATURDAY)

    assert [row["row_count"] > 0 for row in full] == [True] * 4
    assert [row["processor"] for row in holed if row["row_count"] == 0] == ["player_daily_cache"]
    assert ask("phase3_row_count", FRIDAY)[0]["player_count"] > 0


@pytest.mark.parametrize("night", [FRIDAY, SUNDAY])
@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_is_the_one_in_the_quality_table(
    ask: Callable[..., Rows], league: League, component: str, night: Any
) -> None:
    """But for what neither phase has, which the query cannot see: under one point on these nights."""
    [row] = ask(component, night)
    written = metrics(league, night)

    assert written[f"{component}_score"] == pytest.approx(row[f"{component}_score"], abs=0.5)
    if component not in {"phase4_availability", "phase3_fallback"}:
        assert written[f"{component}_score"] == row[f"{component}_score"]


def test_nights_are_monitored_newest_first(ask: Callable[..., Rows]) -> None:
    rows = ask("fallback_monitoring", MONDAY)

    assert columns_of(rows, "analysis_date", "fallback_rate_pct") == [(SUNDAY, 100.0), (SATURDAY, 0.0), (FRIDAY, 0.0)]
    sunday, saturday, friday = (row["avg_quality_score"] for row in rows)
    assert (sunday, saturday < 90.0, friday > 99.0) == (75.0, True, True)


def test_the_dashboard_shows_each_published_night(ask: Callable[..., Rows], league: League) -> None:
    rows = ask("quality_dashboard", MONDAY)

    assert columns_of(rows, "analysis_date", "status") == [
        (SUNDAY, "Acceptable"),
        (SATURDAY, "Good"),
        (FRIDAY, "Excellent"),
    ]
    assert [row["quality_score"] for row in rows] == [
        metrics(league, night)["quality_score"] for night in (SUNDAY, SATURDAY, FRIDAY)
    ]


def test_the_daily_check(ask: Callable[..., Rows], league: League) -> None:
    [status] = ask("daily_status", FRIDAY)
    [fallback] = ask("daily_fallback", SUNDAY)
    [components] = ask("daily_components", FRIDAY)

    assert (status["player_count"], status["last_processed"]) == (len(league.published(FRIDAY)), built_at(FRIDAY))
    assert (fallback["phase3_count"], fallback["phase4_count"]) == (len(league.published(SUNDAY)), 0)
    assert fallback["fallback_pct"] == 100.0
    parts = sum(components[f"{name}_score"] for name in COMPONENTS)
    assert parts == pytest.approx(metrics(league, FRIDAY)["component_total"])
    assert components["quality_score"] >= 90


def test_a_night_without_rows_gives_no_error(ask: Callable[..., Rows]) -> None:
    assert ask("daily_status", MONDAY) == ask("daily_components", MONDAY) == []
    assert ask("daily_fallback", MONDAY)[0]["fallback_pct"] is None
    assert ask("null_field_rate", MONDAY) == [{"null_field_rate_score": None}]


@pytest.mark.parametrize("night", [FRIDAY, SATURDAY, SUNDAY])
def test_the_corrected_forms_read_the_rate_of_the_night(ask: Callable[..., Rows], league: League, night: Any) -> None:
    """On Saturday, without the daily cache, every row is mixed, and the document's form reads 0.0 per cent."""
    written = metrics(league, night)
    rate = pytest.approx(written["fallback_rate"] * 100, abs=0.051)
    [daily], [trend, *_] = ask("daily_fallback_rate", night), ask("quality_trend_with_mixed", night)
    by_night, [points] = ask("fallback_by_night", night)[0], ask("phase4_points", night)

    assert daily["fallback_pct"] == by_night["fallback_rate_pct"] == rate
    assert (
        sum(daily[f"{source}_count"] for source in ("phase4", "mixed", "phase3", "yesterday")) == written["row_count"]
    )
    assert trend["fallback_rate"] == written["fallback_rate"]
    assert by_night["players_with_fallback"] == written["row_count"] - daily["phase4_count"]
    for component in ("phase4_availability", "phase3_fallback"):
        assert points[f"{component}_score"] == pytest.approx(written[f"{component}_score"], abs=0.051)


def test_the_documents_form_reads_nothing_of_a_lost_table_and_the_corrected_form_does(
    ask: Callable[..., Rows], league: League
) -> None:
    [document], [corrected] = ask("daily_fallback", SATURDAY), ask("daily_fallback_rate", SATURDAY)

    assert (document["fallback_pct"], corrected["fallback_pct"] > 25) == (0.0, True)
    assert corrected["mixed_count"] == len(league.published(SATURDAY))


@pytest.mark.parametrize("table", sorted(block.table for block in BLOCKS))
def test_each_lost_table_shows_in_the_corrected_form(table: str) -> None:
    league = League()
    league.execute("DELETE FROM that_table WHERE analysis_date = ?".replace("that_table", table), [FRIDAY])
    assert league.build(FRIDAY).published
    [corrected] = league.query(QUERIES["daily_fallback_rate"], analysis_date=FRIDAY)
    [failures] = league.query(QUERIES["dependency_failures"], analysis_date=FRIDAY)
    lost = {block.name for block in BLOCKS if failures[f"{block.name}_failures"]}
    league.warehouse.close()

    assert corrected["fallback_pct"] > 5
    assert lost == {block.name for block in BLOCKS if block.table == table}


def test_the_trend_counts_fallback_rows(ask: Callable[..., Rows], league: League) -> None:
    rows = ask("quality_trend", SUNDAY)

    assert columns_of(rows, "analysis_date", "phase3_fallback_count") == [
        (SUNDAY, len(league.published(SUNDAY))),
        (SATURDAY, 0),
        (FRIDAY, 0),
    ]
    assert rows[0]["quality_score"] == metrics(league, SUNDAY)["quality_score"]


def test_the_unreliable_dependency_is_found(ask: Callable[..., Rows]) -> None:
    failures = ("team_defense_failures", "player_shot_failures", "composite_failures", "daily_cache_failures")

    assert columns_of(ask("dependency_reliability", MONDAY), "analysis_date", *failures) == [
        (SUNDAY, 1, 1, 1, 1),
        (SATURDAY, 0, 0, 0, 1),
        (FRIDAY, 0, 0, 0, 0),
    ]


def test_a_failed_night_counts_against_its_dependencies(ask: Callable[..., Rows]) -> None:
    failures = ("team_defense_failures", "player_shot_failures", "composite_failures", "daily_cache_failures")
    nights = columns_of(ask("dependency_failures", MONDAY), "analysis_date", *failures)

    assert nights == [(MONDAY, 1, 1, 1, 1), (SUNDAY, 1, 1, 1, 1), (SATURDAY, 0, 0, 0, 1), (FRIDAY, 0, 0, 0, 0)]


def test_a_table_that_came_late_counts_although_the_night_was_built_again() -> None:
    league = League()
    league.execute(
        "CREATE TABLE nba_precompute.kept AS SELECT * FROM nba_precompute.player_daily_cache WHERE analysis_date = ?",
        [FRIDAY],
    )
    league.execute("DELETE FROM nba_precompute.player_daily_cache WHERE analysis_date = ?", [FRIDAY])
    league.build(FRIDAY)
    league.execute("INSERT INTO nba_precompute.player_daily_cache SELECT * FROM nba_precompute.kept")
    league.build(FRIDAY, generation=2)
    [document] = league.query(QUERIES["dependency_reliability"], analysis_date=FRIDAY)
    league.build(FRIDAY, generation=3, mode=BuildMode.FORCED_FALLBACK)
    [corrected] = league.query(QUERIES["dependency_failures"], analysis_date=FRIDAY)
    league.warehouse.close()

    assert (document["daily_cache_failures"], corrected["daily_cache_failures"]) == (0, 1)
    assert (corrected["attempts"], corrected["composite_failures"]) == (2, 0)


def test_the_reliability_of_processors_is_that_of_the_command() -> None:
    """Late nights, failures, lost events, empty and missing tables; also of nights without a publication."""
    season = ReportedSeason(seed=5, nights=24)

    def ask(name: str, night: Any) -> Rows:
        statement = Statement(name=name, sql=QUERIES[name], parameters={"analysis_date": night})
        return season.warehouse.query(statement)

    counted: Counter[str] = Counter()
    for last in range(7, len(season.nights), 8):
        reliability = reliability_of(season.reported()[last - 7 : last + 1])
        rows = {row["processor"]: row for row in ask("processor_reliability", season.nights[last])}
        for told in reliability["processors"]:
            found = rows[told["processor"]]
            kinds = [*TROUBLES, "troubled"]
            assert [told[kind] for kind in kinds] == [found[kind] for kind in kinds], (told, found)
            assert reliability["nights"] == found["nights"]
            counted += Counter({kind: told[kind] for kind in TROUBLES})
    season.warehouse.close()

    assert {*TROUBLES} == {*counted}
    assert {night.state for night in season.reported()} == {"done", "degraded", "failed"}


def test_failed_attempts_are_counted_by_night(ask: Callable[..., Rows]) -> None:
    rows = ask("failed_attempts", MONDAY)

    assert columns_of(rows, "analysis_date", "attempts", "failed_attempts") == [
        (MONDAY, 1, 1),
        (SUNDAY, 1, 0),
        (SATURDAY, 1, 0),
        (FRIDAY, 1, 0),
    ]
    assert "no active players" in rows[0]["an_error"]


def test_durations_are_told_of_every_attempt(ask: Callable[..., Rows]) -> None:
    rows = ask("execution_durations", MONDAY)

    assert columns_of(rows, "analysis_date", "duration_minutes") == [
        (MONDAY, 3),
        (SUNDAY, 3),
        (SATURDAY, 3),
        (FRIDAY, 3),
    ]
    assert [row["row_count"] > 200 for row in rows] == [False, True, True, True]


def test_predictions_stand_beside_the_quality(ask: Callable[..., Rows]) -> None:
    rows = ask("phase5_impact", SUNDAY)

    assert columns_of(rows, "analysis_date", "prediction_count", "avg_prediction_confidence") == [
        (SUNDAY, 0, None),
        (SATURDAY, 0, None),
        (FRIDAY, PREDICTED, 81.0),
    ]


@pytest.mark.parametrize("night", [FRIDAY, SATURDAY, SUNDAY])
def test_phase_5_finds_its_rows(ask: Callable[..., Rows], league: League, night: Any) -> None:
    [ready] = ask("phase5_validation", night)
    features = ask("phase5_features", night)

    assert ready["row_count"] == len(features) == len(league.published(night)) >= 200
    assert ready["avg_quality_score"] >= 75
    assert all(row["phase4_available"] == (night != SUNDAY) for row in features)
