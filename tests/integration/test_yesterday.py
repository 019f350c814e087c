"""The last resort: yesterday's rows stand in for a night, marked as what they are, and never for long."""

import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from statemachine.events import ReplayRequested
from statemachine.model import BuildMode, FailureKind, State
from tests.support.league import FRIDAY, SATURDAY, SUNDAY, League, built_at, sample_folder
from tests.support.nights import PROCESSORS, success
from tests.support.rigs import WORKER, ModelClock, Rig
from worker.builds.builder import Builder
from worker.errors import SourceGone
from worker.interventions.audit import Auditor
from worker.local.parquet_folder import link_parquet_folder
from worker.pipelines.shipped import FEATURES

MONDAY, TUESDAY, WEDNESDAY = (SUNDAY + timedelta(days=days) for days in (1, 2, 3))
FACTS = ("player_name", "team_abbreviation", "opponent_abbreviation", "has_game", "missing_features")


@pytest.fixture(scope="module")
def shared() -> Iterator[League]:
    """Sunday is built, Monday and Tuesday are copies; tests of this module only read it."""
    league = League()
    league.build(SUNDAY)
    for night in (MONDAY, TUESDAY):
        league.build(night, mode=BuildMode.YESTERDAY)
    yield league
    league.warehouse.close()


@pytest.fixture
def league() -> Iterator[League]:
    league = League()
    yield league
    league.warehouse.close()


@pytest.mark.parametrize("night", [MONDAY, TUESDAY])
def test_every_row_is_the_copied_nights_and_says_so(shared: League, night: date) -> None:
    original, copied = shared.published(SUNDAY), shared.published(night)

    assert copied.keys() == original.keys()
    for player_id, row in copied.items():
        kept = (*FACTS, *(feature.name for feature in FEATURES), "phase3_features", "source_data_date")
        assert {name: row[name] for name in kept} == {name: original[player_id][name] for name in kept}
        assert (row["data_source"], row["phase4_available"], row["phase3_fallback_used"]) == ("yesterday", False, True)
        assert (row["build_id"], row["processed_at"]) == (f"{night}-g1-a1", built_at(night))


def test_a_block_says_yesterday_where_it_has_a_value(shared: League) -> None:
    original = shared.published(SUNDAY)

    for player_id, row in shared.published(MONDAY).items():
        for block in ("team_defense", "player_shot", "composite", "daily_cache"):
            before = original[player_id][f"{block}_source"]
            assert row[f"{block}_source"] == (before if before in {None, "missing"} else "yesterday")


def test_it_is_degraded_and_worth_75_at_most(shared: League) -> None:
    metrics = shared.query("SELECT * FROM nba_predictions.ml_feature_store_v2_quality_metrics WHERE generation = 1")
    by_night = {row["analysis_date"]: row for row in metrics}

    assert [by_night[night]["state"] for night in (SUNDAY, MONDAY, TUESDAY)] == ["done", "degraded", "degraded"]
    assert by_night[MONDAY]["quality_score"] == by_night[TUESDAY]["quality_score"] == 75.0
    assert by_night[MONDAY]["phase4_availability_score"] == 0.0
    assert (by_night[MONDAY]["data_freshness_score"], by_night[TUESDAY]["data_freshness_score"]) == (12.0, 8.0)
    assert {row["quality_score"] for row in shared.published(MONDAY).values()} == {75.0}


def test_a_copy_is_never_copied_again(league: League) -> None:
    """Saturday is a copy: Sunday takes Friday, and after two nights nothing is left to take."""
    league.build(FRIDAY)
    league.build(SATURDAY, mode=BuildMode.YESTERDAY)
    league.build(SUNDAY, mode=BuildMode.YESTERDAY)
    outcome = league.build(MONDAY, mode=BuildMode.YESTERDAY)

    assert league.published(SUNDAY).keys() == league.published(FRIDAY).keys()
    assert (outcome.failure, outcome.published) == (FailureKind.NO_DATA, False)
    assert "2024-12-16 has no night to copy" in outcome.message
    assert league.published(MONDAY) == {}


def test_a_night_built_from_phase_3_may_be_copied(league: League) -> None:
    league.build(SATURDAY, mode=BuildMode.FORCED_FALLBACK)
    outcome = league.build(SUNDAY, mode=BuildMode.YESTERDAY)

    assert outcome.report.earned_state is State.DEGRADED
    assert all(row["source_data_date"] < SATURDAY for row in league.published(SUNDAY).values())
    assert any(row["phase3_features"] for row in league.published(SUNDAY).values())


def test_the_gate_refuses_a_copy_that_is_too_small(league: League) -> None:
    league.build(SATURDAY)
    league.execute(
        "DELETE FROM nba_predictions.ml_feature_store_v2_generations WHERE player_id NOT IN "
        "(SELECT player_id FROM nba_predictions.ml_feature_store_v2 ORDER BY player_id LIMIT 199)"
    )
    outcome = league.build(SUNDAY, mode=BuildMode.YESTERDAY)

    assert (outcome.failure, outcome.published) == (FailureKind.GATE_REFUSED, False)
    assert league.published(SUNDAY) == {}


def test_it_works_where_upstream_is_what_is_broken(league: League) -> None:
    league.build(SATURDAY)
    league.execute("DROP TABLE nba_precompute.player_daily_cache")
    league.execute("DROP TABLE nba_raw.nbac_player_list")
    outcome = league.build(SUNDAY, mode=BuildMode.YESTERDAY)

    assert (outcome.published, outcome.report.quality_score) == (True, 75.0)
    assert {name: rows > 0 for name, rows in outcome.stats.dependency_rows.items()} == {
        name: name != "player_daily_cache" for name in PROCESSORS
    }


def test_a_linked_file_that_is_gone_is_missing_only_where_it_is_read(league: League, tmp_path: Path) -> None:
    """Saturday stays as published, Sunday is built without the table, and again once the file is back."""
    shutil.copytree(sample_folder(), tmp_path, dirs_exist_ok=True)
    link_parquet_folder(league.warehouse, tmp_path)
    league.build(SATURDAY)
    file = tmp_path / "nba_precompute.player_daily_cache.parquet"
    aside = file.rename(tmp_path / "aside")

    fallen = league.build(SUNDAY)
    copied = league.build(SUNDAY, generation=2, mode=BuildMode.YESTERDAY)
    aside.rename(file)
    built = league.build(SUNDAY, generation=3)

    assert {"phase4"} == {row["data_source"] for row in league.published(SATURDAY).values()}
    assert (True, State.DEGRADED) == (fallen.published, fallen.report.earned_state)
    [finding] = [found for found in fallen.report.findings if found.check == "table_unusable"]
    assert (finding.severity, finding.subject) == ("critical", "nba_precompute.player_daily_cache")
    assert "to which the table nba_precompute.player_daily_cache is linked, is gone" in finding.observed
    assert {0} == {outcome.stats.dependency_rows["player_daily_cache"] for outcome in (fallen, copied)}
    assert (True, State.DONE) == (built.published, built.report.earned_state)


def test_a_roster_whose_file_is_gone_is_tried_again_later(league: League, tmp_path: Path) -> None:
    shutil.copytree(sample_folder(), tmp_path, dirs_exist_ok=True)
    link_parquet_folder(league.warehouse, tmp_path)
    (tmp_path / "nba_raw.nbac_player_list.parquet").rename(tmp_path / "aside")

    with pytest.raises(SourceGone, match=r"nba_raw\.nbac_player_list is linked, is gone"):
        league.build(SUNDAY)

    assert league.published(SUNDAY) == {}


def test_the_night_may_be_built_properly_afterwards(league: League) -> None:
    league.build(SATURDAY)
    league.build(SUNDAY, mode=BuildMode.YESTERDAY)
    league.build(SUNDAY, generation=2)

    assert {row["data_source"] for row in league.published(SUNDAY).values()} == {"phase4"}
    assert {row["build_generation"] for row in league.published(SUNDAY).values()} == {2}


def test_a_replay_from_yesterday_is_audited_then_upgraded_when_the_rest_arrives(league: League) -> None:
    """Through the real engine and builder: degraded first, and done once all four have reported."""
    league.build(SATURDAY)
    rig = Rig(clock=ModelClock(built_at(SUNDAY) - timedelta(minutes=20)))
    builder = Builder(
        engine=rig.engine,
        warehouse=league.warehouse,
        clock=rig.clock,
        worker=WORKER,
        lease_s=60,
        phase3_lookback_days=30,
        observer=rig.notes,
        stopwatch=lambda: 0.0,
    )
    auditor = Auditor(engine=rig.engine, log_replay=league.warehouse.log_replay, clock=rig.clock)
    auditor.apply(SUNDAY, ReplayRequested(actor="ana", reason="nothing else is left", mode=BuildMode.YESTERDAY))
    builder.run_one(SUNDAY)
    copied = rig.store.load(SUNDAY)
    assert copied is not None
    assert copied.result is not None
    assert (copied.state, copied.result.quality_score, copied.mode) == (State.DEGRADED, 75.0, BuildMode.YESTERDAY)
    [audited] = league.query("SELECT requested_by, reason, mode FROM nba_predictions.replay_audit")
    assert audited == {"requested_by": "ana", "reason": "nothing else is left", "mode": "yesterday"}

    for processor in PROCESSORS:
        rig.engine.apply(SUNDAY, success(processor, at=rig.clock.now()))
    builder.run_one(SUNDAY)
    upgraded = rig.store.load(SUNDAY)
    assert upgraded is not None
    assert (upgraded.state, upgraded.generation, upgraded.mode) == (State.DONE, 2, BuildMode.NORMAL)
    assert {row["data_source"] for row in league.published(SUNDAY).values()} == {"phase4"}
