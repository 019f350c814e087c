"""`mlfs demo` on generated data: each kind of night ends as promised."""

import os
import subprocess

import pytest

from tests.support.programs import COMMAND, Program

COMPONENTS = {
    "phase4_availability",
    "phase3_fallback",
    "data_freshness",
    "dependency_completeness",
    "row_completeness",
    "null_field_rate",
}

NOMINAL = "demo-nominal"


def test_a_nominal_night_ends_done_with_a_score_near_a_hundred(program):
    row = program.json("demo")

    assert row["state"] == "done"
    assert row["generation"] == 1
    assert row["row_count"] >= 400
    assert row["quality_score"] >= 98.0
    assert set(row["components"]) == COMPONENTS
    assert row["component_total"] == pytest.approx(sum(row["components"].values()), abs=0.05)


def test_a_missing_processor_degrades_at_the_deadline_and_is_upgraded_when_it_comes(program):
    row = program.json("demo", "--scenario", "missing-processor")

    first, second = row["told"]
    assert (row["state"], row["generation"]) == ("done", 2)
    assert (first["state"], first["generation"], first["supersedes"]) == ("degraded", 1, None)
    assert (second["state"], second["generation"], second["supersedes"]) == ("done", 2, 1)
    assert 80.0 <= first["quality_score"] <= 95.0
    assert second["quality_score"] >= 98.0


def test_an_outage_is_a_full_fallback_worth_exactly_seventy_five(program):
    done = program.run("demo", "--scenario", "outage", "--json")

    assert done.returncode == 3, done.stderr
    assert '"quality_score": 75.0' in done.stdout
    assert '"state": "degraded"' in done.stdout
    assert '"fallback_rate": 1.0' in done.stdout


def test_a_night_without_data_fails_and_publishes_nothing(program):
    done = program.run("demo", "--scenario", "no-data", "--json")

    assert done.returncode == 1
    assert '"because": "no_data"' in done.stdout
    assert '"told": []' in done.stdout


def test_a_night_played_again_resumes_and_its_events_change_nothing(program):
    shown = program.run("demo")
    first = program.json("demo", "--resume")
    again = program.json("demo", "--resume")

    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("duplicate: changes nothing") == 2
    assert shown.stdout.index("player_daily_cache wrote") < shown.stdout.index("player_composite_factors wrote")
    assert "\x1b[" not in shown.stdout, "colour without a terminal"
    assert again["told"] == []
    for name in ("state", "generation", "attempt", "committed_at", "quality_score"):
        assert first[name] == again[name], name


def test_several_nights_run_one_after_the_other(program):
    rows = program.json("demo", "--nights", "2")

    assert [row["analysis_date"] for row in rows] == ["2024-12-14", "2024-12-15"]
    assert [row["state"] for row in rows] == ["done", "done"]


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """A demo whose reader took one line and went: the program, that line, what was said of it, and the exit code."""
    program = Program(tmp_path_factory.mktemp("left") / "data", {"MLFS_HTTP_PORT": "0"})
    with subprocess.Popen(
        [*COMMAND, "demo"], env=program.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        first = process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    return program, first, said, process.returncode


def test_a_demo_whose_reader_goes_away_ends_quietly_and_as_it_would_have(left):
    _program, first, said, code = left

    assert "night of 2024-12-15" in first
    assert (code, said) == (0, "")


def test_a_replayed_demo_goes_on_in_its_own_night_and_opens_no_other_date(left):
    program = left[0]
    played = Program(program.data_dir / NOMINAL, program.environment)
    asked = played.here("replay", "2024-12-15", "--reason", "the cache was repaired", "--yes")
    again = played.json("demo", "--resume")  # from inside the demo's folder: it lies beside the others all the same
    emitted = played.json_here("emit", "2024-12-15", "player_daily_cache", "--run-id", "2")
    explained = played.json_here("explain", "2024-12-15")
    history = played.json_here("history", "2024-12-15")
    dates = [row["analysis_date"] for row in played.json_here("status")]

    assert asked.returncode == 0, asked.stderr
    assert (again["state"], again["generation"]) == ("done", 2)
    assert {entry["at"][:13] for entry in history} == {"2024-12-16T04"}
    assert {emitted["completed_at"][:13], explained["now"][:13]} == {"2024-12-16T04"}
    assert dates == ["2024-12-15"]
    assert not list(played.data_dir.glob("demo-*"))


@pytest.mark.parametrize("command", [("--help",), ("config",)], ids=" ".join)
def test_a_command_into_a_closed_pipe_ends_quietly(program, command):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, *command], env=program.environ(), stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writing)

    assert (done.returncode, done.stderr) == (0, b"")
