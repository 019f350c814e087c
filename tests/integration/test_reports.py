"""The document's operating procedures as commands, over nights whose faults are known.

Friday went well. Saturday's daily cache failed and came too late. On Sunday nobody reported, and the outcome still
waits for the bus. On Monday there were no players. Of Tuesday nobody has heard.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
from typer.testing import CliRunner

from ops.arguments import EXIT_REFUSED
from ops.cli import app
from statemachine.events import BuildCommitted, CancelRequested
from statemachine.model import FailureKind
from tests.support.league import FRIDAY, SATURDAY, SUNDAY, League, built_at
from tests.support.nights import CACHE, NO_ROWS, PROCESSORS, broke, claimed, failure, probed, success, without
from tests.support.rigs import ModelClock, Rig
from worker.adapters.redis.client import connect
from worker.adapters.redis.store import RedisStore
from worker.builds.builder import result_from_ledger
from worker.clock import SystemClock
from worker.errors import Refused, Unavailable
from worker.pipelines.shipped import PIPELINE, UPSTREAM

MONDAY, TUESDAY = SUNDAY + timedelta(days=1), SUNDAY + timedelta(days=2)
NEW_YORK = ZoneInfo("America/New_York")
Run = Callable[..., tuple[int, Any]]
HOLDER = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


class Story:
    """Tells the store what happened, at the time of day when it did."""

    def __init__(self, url: str) -> None:
        client = connect(url)
        client.flushall()
        self.store = RedisStore(client, PIPELINE)
        self.rig = Rig(store=self.store, clock=ModelClock())

    def happens(self, night: date, minutes: int, *events: Any) -> None:
        """*minutes* after 23:00 in New York."""
        self.rig.clock.instant = built_at(night) + timedelta(minutes=minutes - 30)
        for event in events:
            self.rig.engine.apply(night, event)

    def commits(self, league: League, night: date, minutes: int) -> None:
        self.happens(night, minutes, claimed())
        committed = league.warehouse.read_ledger(night)
        assert committed is not None
        self.happens(night, minutes + 1, BuildCommitted(result=result_from_ledger(committed)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("reports")
    league, story = League(str(path / "warehouse.duckdb")), Story(valkey_url)
    league.execute("DELETE FROM nba_precompute.player_daily_cache WHERE analysis_date = ?", [SATURDAY])
    for name in PROCESSORS:
        emptied = "DELETE FROM nba_precompute.that_table WHERE analysis_date = ?".replace("that_table", name)
        league.execute(emptied, [SUNDAY])
    for night in (FRIDAY, SATURDAY, SUNDAY, MONDAY):
        league.build(night)

    def at(night: date, minutes: int) -> Any:
        return built_at(night) + timedelta(minutes=minutes - 30)

    story.happens(FRIDAY, 0, *(success(name, at=at(FRIDAY, 0)) for name in PROCESSORS))
    story.commits(league, FRIDAY, 1)
    story.happens(SATURDAY, 0, *(success(name, at=at(SATURDAY, 0)) for name in PROCESSORS if name != CACHE))
    story.happens(SATURDAY, 5, failure(CACHE, at=at(SATURDAY, 5)))
    story.happens(SATURDAY, 25, probed(without(CACHE)))
    story.commits(league, SATURDAY, 25)
    story.happens(SATURDAY, 60, success(CACHE, run="2", at=at(SATURDAY, 60)))
    story.happens(SUNDAY, -60, failure(CACHE, at=at(SUNDAY, -60)))
    story.happens(SUNDAY, 25, probed(NO_ROWS))
    story.commits(league, SUNDAY, 25)
    story.happens(MONDAY, -60, success(CACHE, at=at(MONDAY, -60)))
    story.happens(MONDAY, 25, probed(without(*PROCESSORS[:3])), claimed(), broke(FailureKind.NO_DATA))
    for entry in story.store.outbox(100):
        if SUNDAY.isoformat() not in entry.message.event_id:
            story.store.remove_from_outbox(entry.entry_id)
    league.warehouse.close()
    yield path
    story.store.close()


@pytest.fixture
def run(folder: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("MLFS_DATA_DIR", str(folder))
    monkeypatch.setenv("MLFS_REDIS_URL", valkey_url)

    def command(*arguments: object) -> tuple[int, Any]:
        done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, json.loads(done.stdout)

    return command


@pytest.fixture
def owned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another process keeps the warehouse open, as a DuckDB shell does."""
    monkeypatch.setenv("MLFS_DUCKDB_WAIT_S", "0")
    command = [sys.executable, "-c", HOLDER, str(folder / "warehouse.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        yield
        holder.terminate()


def lights(answer: Any) -> list[str]:
    return [one["status"] for one in answer["checks"]]


def test_a_good_night_is_green(run: Run) -> None:
    code, answer = run("daily", FRIDAY)

    assert (code, lights(answer), answer["not_read"]) == (0, ["green"] * 5, [])
    assert [one["action"] for one in answer["checks"]] == [""] * 5


def test_a_degraded_night_is_amber_and_names_what_to_do(run: Run) -> None:
    code, answer = run("daily", SATURDAY)
    _built, dependencies, _fallback, quality, _phase5 = answer["checks"]

    assert (code, lights(answer)) == (3, ["amber", "amber", "amber", "amber", "green"])
    assert dependencies["figure"].startswith("3 of 4 tables with rows now")
    assert dependencies["action"] == f"run again: {CACHE}; then mlfs incident {SATURDAY}"
    assert "low: phase4_availability" in quality["figure"]


@pytest.mark.parametrize(
    ("night", "colours"),
    [
        (SUNDAY, ["amber", "red", "red", "amber"]),
        (MONDAY, ["red", "red", "red", "red"]),
        (TUESDAY, ["red", "red", "red", "red"]),
    ],
)
def test_a_bad_night_is_red(run: Run, night: date, colours: list[str]) -> None:
    """For five minutes the outcome of Sunday may wait for the bus: until then the last check is amber."""
    code, answer = run("daily", night)

    assert (1, colours) == (code, lights(answer)[:4])
    assert lights(answer)[4] in ({"amber", "red"} if night == SUNDAY else {"red"})


def test_phase_5_predicting_little_is_seen(run: Run, folder: Path) -> None:
    league = League.opened(folder / "warehouse.duckdb")
    league.execute(
        "CREATE TABLE nba_predictions.player_prop_predictions (prediction_date DATE, confidence_score DOUBLE)"
    )
    league.execute("INSERT INTO nba_predictions.player_prop_predictions SELECT ?, 80 FROM range(400)", [FRIDAY])
    league.execute("INSERT INTO nba_predictions.player_prop_predictions VALUES (?, 90)", [SATURDAY])
    league.warehouse.close()
    few, untold, enough = (run("daily", night)[1]["checks"][4] for night in (SATURDAY, SUNDAY, FRIDAY))
    league = League.opened(folder / "warehouse.duckdb")
    league.execute("DROP TABLE nba_predictions.player_prop_predictions")
    league.warehouse.close()

    assert [few["status"], untold["figure"], enough["status"]] == [
        "amber",
        "not told yet: the outcome waits in the outbox",
        "green",
    ]
    assert enough["figure"] == "told, 400 predictions, confidence 80.0"


def test_the_trend_shows_each_night_and_its_direction(run: Run) -> None:
    code, answer = run("trend", "--days", 5, "--to", TUESDAY)

    scores = [row["quality_score"] for row in answer["days"]]
    assert (code, [row["state"] for row in answer["days"]]) == (0, ["done", "degraded", "degraded", "failed", None])
    assert (scores[0] > 99, 75.0 < scores[1] < 90.0, scores[2:]) == (True, True, [75.0, None, None])
    assert answer["score_change_per_night"] == pytest.approx((75.0 - scores[0]) / 2, abs=0.01)
    kinds = [answer[kind] for kind in ("below_80", "failed", "never_opened")]
    assert kinds == [[SUNDAY.isoformat()], [MONDAY.isoformat()], [TUESDAY.isoformat()]]


def test_reliability_counts_by_processor_and_weekday(run: Run) -> None:
    code, answer = run("reliability", "--days", 5, "--to", TUESDAY)
    by_name = {row["processor"]: row for row in answer["processors"]}

    assert (code, answer["nights"], answer["worst"]) == (0, 4, None)
    assert by_name[CACHE]["dates"] == {
        SATURDAY.isoformat(): ["failed", "late"],
        SUNDAY.isoformat(): ["failed", "missing"],
    }
    assert by_name[CACHE]["by_weekday"] == {"Sat": 1, "Sun": 1}
    assert by_name[PROCESSORS[0]]["dates"] == {SUNDAY.isoformat(): ["missing"], MONDAY.isoformat(): ["missing"]}


def test_durations_come_from_the_log_and_the_histories(run: Run) -> None:
    code, answer = run("durations", "--days", 5, "--to", TUESDAY)
    phases = {row["phase"]: row for row in answer["phases"]}

    assert (code, len(answer["attempts"]), answer["over_25_minutes"]) == (0, 4, [])
    assert phases["attempt"] == {"phase": "attempt", "times": 3, "p50": 180.0, "p95": 180.0, "max": 180.0}
    assert (phases["failed attempt"]["times"], phases["build"]["times"], phases["build"]["max"]) == (1, 3, 60.0)
    assert (phases["queue"]["times"], phases["queue"]["max"]) == (4, 60.0)


@pytest.mark.parametrize(
    ("night", "code", "severity", "cause", "scenario", "command"),
    [
        (FRIDAY, 0, None, None, None, f"mlfs explain {FRIDAY}"),
        (SATURDAY, 3, "P2", "phase4", "B", f"# run {CACHE} again for {SATURDAY}"),
        (SUNDAY, 1, "P1", "phase4", "A", "# tell the owners of Phase 3 and Phase 2"),
        (MONDAY, 1, "P0", "roster", None, f"# load nba_raw.nbac_player_list for {MONDAY}"),
        (MONDAY, 1, "P0", "roster", None, f"mlfs replay {MONDAY} --source yesterday --reason 'last resort' --wait 300"),
        (TUESDAY, 1, "P0", "roster", None, f"# load nba_raw.nbac_player_list for {TUESDAY}"),
    ],
)
def test_an_incident_has_its_severity_its_root_cause_and_its_commands(
    run: Run, night: date, code: int, severity: str | None, cause: str | None, scenario: str | None, command: str
) -> None:
    got, answer = run("incident", night)

    assert (got, answer["severity"], answer["cause"], answer["scenario"]) == (code, severity, cause, scenario)
    assert command in [step["command"] for step in answer["commands"]]
    assert (answer["opened"], answer["not_read"]) == (night != TUESDAY, [])
    assert len(answer["upstream"]) == len(UPSTREAM)


def test_rows_that_came_after_the_build_make_it_the_store_s_own_to_build_again(run: Run, folder: Path) -> None:
    league = League.opened(folder / "warehouse.duckdb")
    copied = "INSERT INTO nba_precompute.player_daily_cache SELECT * REPLACE (?::DATE AS analysis_date) "
    league.execute(copied + "FROM nba_precompute.player_daily_cache WHERE analysis_date = ?", [SATURDAY, FRIDAY])
    league.warehouse.close()
    _code, answer = run("incident", SATURDAY)
    league = League.opened(folder / "warehouse.duckdb")
    league.execute("DELETE FROM nba_precompute.player_daily_cache WHERE analysis_date = ?", [SATURDAY])
    league.warehouse.close()

    assert (answer["scenario"], answer["why"].endswith(f"those of {CACHE} came after the build")) == ("C", True)
    assert any("had no rows at the build and has" in symptom for symptom in answer["symptoms"])


def test_a_cancelled_night_has_none_of_the_root_causes(run: Run, valkey_url: str) -> None:
    rig = Rig(store=RedisStore(connect(valkey_url), PIPELINE))
    day = FRIDAY - timedelta(days=30)
    rig.engine.apply(day, CancelRequested(actor="ana", reason="arena closed"))
    code, answer = run("incident", day)
    connect(valkey_url).delete(f"{{mlfs:{PIPELINE}}}:date:{day}")
    rig.store.close()

    assert (code, answer["severity"], answer["scenario"]) == (1, "P0", None)
    assert "arena closed" in answer["symptoms"][0]


def test_no_incident_is_made_of_a_date_without_games(run: Run) -> None:
    with pytest.raises(Refused, match="no night is expected"):
        run("incident", "2024-08-01")


@pytest.mark.usefixtures("owned")
def test_while_the_warehouse_cannot_be_read_the_store_alone_answers(run: Run) -> None:
    daily, trend = run("daily", FRIDAY), run("trend", "--days", 5, "--to", TUESDAY)
    incident, unseen = run("incident", SUNDAY), run("incident", TUESDAY)

    assert (daily[0], lights(daily[1])) == (4, ["green", "green", "green", "green", "unknown"])
    assert [row["state"] for row in trend[1]["days"]] == ["done", "degraded", "degraded", "failed", None]
    assert (incident[0], incident[1]["severity"], incident[1]["scenario"]) == (1, "P1", "A")
    assert (unseen[1]["severity"], unseen[1]["scenario"]) == ("P0", None)
    for _code, answer in (daily, trend, incident, unseen):
        assert len(answer["not_read"]) == 1
        assert "open in another process" in answer["not_read"][0]
    with pytest.raises(Unavailable, match=r"durations are read from the execution log.*Run the command again"):
        run("durations", "--to", TUESDAY)


def test_what_the_store_has_forgotten_the_warehouse_still_knows(run: Run, valkey_url: str) -> None:
    client = redis.Redis.from_url(valkey_url)
    key = f"{{mlfs:{PIPELINE}}}:date:{FRIDAY}"
    kept = client.dump(key)
    client.delete(key)
    try:
        _code, trend = run("trend", "--days", 1, "--to", FRIDAY)
        _code, counted = run("reliability", "--days", 1, "--to", FRIDAY)
        daily, incident = run("daily", FRIDAY), run("incident", FRIDAY)
    finally:
        client.restore(key, 0, kept)
        client.close()

    assert (trend["days"][0]["state"], trend["days"][0]["row_count"], counted["nights"]) == ("done", 449, 1)
    assert (daily[0], lights(daily[1])) == (4, ["green", "green", "green", "green", "unknown"])
    assert (incident[0], incident[1]["severity"], incident[1]["row_count"]) == (0, None, 449)
    assert "the store has no record of this date" in incident[1]["symptoms"]
    assert "mlfs recover" in [step["command"] for step in incident[1]["commands"]]


def test_a_range_without_yes_shows_its_plan_and_changes_nothing(run: Run, valkey_url: str) -> None:
    asked = ("replay", "--from", FRIDAY, "--to", TUESDAY, "--only", "missing,degraded,failed", "--reason", "refilled")
    code, answer = run(*asked)
    with connect(valkey_url) as client:
        opened = client.exists(f"{{mlfs:{PIPELINE}}}:date:{TUESDAY}")

    assert (code, answer["applied"], answer["counts"]) == (EXIT_REFUSED, False, {"replay": 4, "skipped": 1})
    assert [row["planned_generation"] for row in answer["dates"]] == [None, 2, 2, 2, 1]
    assert opened == 0


@pytest.mark.parametrize(
    "wrong",
    [
        (SUNDAY, "--from", FRIDAY, "--to", SUNDAY),
        ("--from", FRIDAY),
        (SUNDAY, "--only", "failed"),
        (),
    ],
)
@pytest.mark.usefixtures("run")
def test_a_replay_names_one_date_or_one_range(wrong: tuple[object, ...]) -> None:
    done = CliRunner().invoke(app, ["replay", *map(str, wrong), "--reason", "refilled", "--yes"])

    assert done.exit_code == 2


@pytest.mark.parametrize("command", ["daily", "incident", "trend", "reliability", "durations", "impact"])
@pytest.mark.usefixtures("run")
def test_each_report_fits_a_screen_for_people(command: str) -> None:
    arguments = [command, str(SATURDAY)] if command in {"daily", "incident"} else [command, "--to", str(TUESDAY)]
    shown = CliRunner().invoke(app, arguments)

    assert shown.exit_code in {0, 3}
    assert 4 <= len(shown.stdout.splitlines()) <= 32


# --- before the deadline, table by table; the record of an incident; impact and review -------------------------------


def test_a_processor_that_failed_early_is_told_with_the_minutes_that_are_left(run: Run, valkey_url: str) -> None:
    rig = Rig(store=RedisStore(connect(valkey_url), PIPELINE))
    rig.clock.instant = SystemClock().now()
    tomorrow = rig.clock.instant.astimezone(NEW_YORK).date() + timedelta(days=1)
    rig.engine.apply(tomorrow, failure(CACHE, at=rig.clock.instant))
    code, answer = run("incident", tomorrow)
    connect(valkey_url).delete(f"{{mlfs:{PIPELINE}}}:date:{tomorrow}")
    rig.store.close()

    assert (code, answer["severity"], answer["over"]) == (3, None, False)
    assert answer["minutes_left"] > 60
    assert f"# run {CACHE} again for {tomorrow}" in [step["command"] for step in answer["commands"]]
    assert any(f"missing: {', '.join(PROCESSORS)}; " in said and "minutes left" in said for said in answer["symptoms"])


def test_a_dropped_table_is_named_and_hides_no_other_table(run: Run, folder: Path) -> None:
    table = "nba_analytics.team_defense_game_summary"
    league = League.opened(folder / "warehouse.duckdb")
    league.execute(f"ALTER TABLE {table} RENAME TO kept_aside")
    league.warehouse.close()
    _code, answer = run("incident", SATURDAY)
    league = League.opened(folder / "warehouse.duckdb")
    league.execute("ALTER TABLE nba_analytics.kept_aside RENAME TO team_defense_game_summary")
    league.warehouse.close()

    assert answer["upstream"]["team_defense_game_summary"] == {
        "table": table,
        "row_count": None,
        "last_processed": None,
        "fault": f"table {table} does not exist",
    }
    assert answer["upstream"]["nbac_player_list"]["row_count"] > 400
    assert answer["not_read"] == []
    assert f"{table} cannot be used: table {table} does not exist" in answer["symptoms"]


def test_a_table_whose_file_is_gone_is_named_and_hides_no_other_table(run: Run, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "nba_raw.nbac_schedule.parquet"
    league = League.opened(folder / "warehouse.duckdb")
    league.execute(f"COPY nba_raw.nbac_schedule TO '{file}' (FORMAT parquet)")
    league.execute("ALTER TABLE nba_raw.nbac_schedule RENAME TO kept_aside")
    league.execute(f"CREATE VIEW nba_raw.nbac_schedule AS SELECT * FROM read_parquet('{file}')")  # noqa: S608 -- its own
    league.warehouse.close()
    file.unlink()
    _code, answer = run("incident", SATURDAY)
    league = League.opened(folder / "warehouse.duckdb")
    league.execute("DROP VIEW nba_raw.nbac_schedule")
    league.execute("ALTER TABLE nba_raw.kept_aside RENAME TO nbac_schedule")
    league.warehouse.close()

    gone = answer["upstream"].pop("nbac_schedule")
    assert (gone["row_count"], str(file) in gone["fault"]) == (None, True)
    assert {name: look["fault"] for name, look in answer["upstream"].items()} == dict.fromkeys(answer["upstream"], "")
    assert (len(answer["upstream"]), answer["not_read"]) == (len(UPSTREAM) - 1, [])


def test_the_record_of_an_incident_holds_what_is_known_and_what_people_have_to_add(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "incident.md"
    code, _answer = run("incident", SATURDAY, "--record", file)
    text = file.read_text("utf-8")
    with pytest.raises(Refused, match="--overwrite"):
        run("incident", SATURDAY, "--record", file)
    again, _answer = run("incident", SATURDAY, "--record", file, "--overwrite")

    assert (code, again) == (3, 3)
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert heads[0].startswith("## Effect")
    assert heads[-1] == "## Post-incident review"
    for told in (
        "# Incident of Saturday 2024-12-14",
        "| severity now | P2 |",
        "| now | degraded | P2 | normal |",
        "| cause | phase4, scenario B of the pipeline document |",
        "At the upgrade cutoff, 2024-12-14 23:50:00 EST: generation 1.",
        f"{CACHE} reported failed",
        "**degraded** (committed_degraded)",
        f"| nba_precompute.{CACHE} | 0 | - |",
        f"`mlfs replay {SATURDAY} --reason 'repaired {CACHE}' --wait 300`",
        "Due 2024-12-16 23:30:00 EST",
    ):
        assert told in text


@pytest.mark.usefixtures("run")
def test_a_record_goes_to_the_output_in_place_of_the_report() -> None:
    done = CliRunner().invoke(app, ["incident", str(MONDAY), "--record", "-", "--json"])

    assert done.exit_code == 1
    assert done.stdout.startswith("# Incident of Monday 2024-12-16\n")
    assert "Nothing was published, so Phase 5 found no rows." in done.stdout


@pytest.mark.usefixtures("owned")
def test_a_record_without_the_warehouse_says_what_is_not_known(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "incident.md"
    run("incident", SATURDAY, "--record", file)
    text = file.read_text("utf-8")

    assert "**Not read:** the warehouse" in text
    for part in ("the ledger", "the execution log", "the audit"):
        assert f"Not known: {part} could not be read." in text


@pytest.fixture
def predicted(folder: Path) -> Iterator[None]:
    """Phase 5 wrote as many predictions as it should on Friday, a few on Saturday, and none on Sunday."""
    league = League.opened(folder / "warehouse.duckdb")
    league.execute(
        "CREATE TABLE nba_predictions.player_prop_predictions (prediction_date DATE, confidence_score DOUBLE)"
    )
    for night, count, confidence in ((FRIDAY, 400, 80.0), (SATURDAY, 12, 60.0)):
        league.execute(
            "INSERT INTO nba_predictions.player_prop_predictions SELECT ?, ? FROM range(?)", [night, confidence, count]
        )
    league.warehouse.close()
    yield
    league = League.opened(folder / "warehouse.duckdb")
    league.execute("DROP TABLE nba_predictions.player_prop_predictions")
    league.warehouse.close()


@pytest.mark.usefixtures("predicted")
def test_the_impact_names_what_phase_5_read_and_what_it_made_of_it(run: Run) -> None:
    code, answer = run("impact", "--days", 5, "--to", TUESDAY)
    friday, saturday, sunday, monday, tuesday = answer["dates"]

    assert (code, answer["predictions_known"]) == (0, True)
    assert [night["generation_at_cutoff"] for night in answer["dates"]] == [1, 1, 1, None, None]
    assert (friday["marks"], friday["prediction_count"]) == ([], 400)
    assert saturday["marks"] == ["degraded", "critical finding", "few predictions", "unsure predictions"]
    assert sunday["marks"] == ["degraded", "score below 80", "critical finding", "no predictions"]
    assert monday["marks"] == tuesday["marks"] == ["nothing published"]
    assert answer["sound"] == {"dates": 1, "predictions": 400.0, "confidence": 80.0}
    assert answer["marked"]["dates"] == 4


def test_without_the_table_of_phase_5_its_predictions_are_not_known(run: Run) -> None:
    _code, answer = run("impact", "--days", 5, "--to", TUESDAY)

    assert (answer["predictions_known"], answer["marked"]["dates"]) == (False, 0)
    assert {night["prediction_count"] for night in answer["dates"]} == {None}


def test_the_review_of_a_month_counts_nights_attempts_and_requests(run: Run) -> None:
    code, answer = run("review", "--month", "2024-12")
    nights = answer["nights"]

    assert (code, answer["month"], nights["over"]) == (0, "2024-12", 31)
    assert (nights["done"], nights["degraded"], nights["failed"], nights["published_by_cutoff"]) == (1, 2, 1, 3)
    assert nights["over"] == sum(nights[end] for end in ("done", "degraded", "failed", "never_opened"))
    assert (answer["durations"]["attempts"], answer["durations"]["failed_attempts"]) == (4, 1)
    assert (answer["costs"]["billed"], answer["outbox_waiting"] >= 1) == (False, True)
    assert [row["known"] for row in answer["infrastructure"] if row["point"].startswith("redelivered")] == ["not known"]


@pytest.mark.usefixtures("owned")
def test_a_review_without_the_ledger_is_refused_and_not_filled_with_zeros(run: Run) -> None:
    for command in (("review", "--month", "2024-12"), ("impact", "--to", TUESDAY)):
        with pytest.raises(Unavailable, match="what Phase 5 could read is read from the ledger"):
            run(*command)


@pytest.mark.parametrize("month", ["2024-13", "2024", "december", "0000-01"])
@pytest.mark.usefixtures("run")
def test_a_month_is_written_as_year_and_month(month: str) -> None:
    assert CliRunner().invoke(app, ["review", "--month", month]).exit_code == EXIT_REFUSED


def test_every_report_counts_the_same_nights(run: Run) -> None:
    """Tuesday is expected and was never opened; in the summer nothing is expected."""
    days = ("--days", 5, "--to", TUESDAY)
    trend, impact = run("trend", *days)[1]["days"], run("impact", *days)[1]["dates"]
    code, summer = run("daily", "2024-08-01")

    assert [night["analysis_date"] for night in trend] == [night["analysis_date"] for night in impact]
    assert (code, summer["expected"], summer["checks"]) == (0, False, [])


def test_costs_say_in_which_zone_their_days_are(run: Run) -> None:
    assert run("cost", "--days", 30)[1]["zone"] == "UTC"
