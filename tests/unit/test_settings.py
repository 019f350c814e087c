"""Settings are read once, all faults are told together, and no secret is shown."""

import os
from datetime import date, time, timedelta
from pathlib import Path

import pytest

from statemachine.model import OnRerun, OnUpstreamFailure
from tests.support.nights import CALENDAR, POLICY
from worker.settings import BadSettings, Settings, load


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own settings counts."""
    for name in os.environ:
        if name.upper().startswith("MLFS_") or name == "PUBSUB_EMULATOR_HOST":
            monkeypatch.delenv(name)


def faults(monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[str]:
    """The names that are complained about, in order."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as caught:
        load()
    head, *lines = str(caught.value).split("\n  ")
    assert head == "wrong settings:"
    return [line.split(":")[0] for line in lines]


def test_without_any_setting_everything_is_embedded_below_the_data_directory(tmp_path: Path) -> None:
    settings = load(data_dir=tmp_path)

    assert f"duckdb://{tmp_path}/warehouse.duckdb" == settings.warehouse
    assert f"embedded://{tmp_path}/valkey" == settings.redis_url
    assert f"embedded://{tmp_path}/pubsub" == settings.pubsub


def test_a_relative_data_directory_is_made_absolute() -> None:
    assert f"embedded://{Path.cwd()}/.mlfs/valkey" == load().redis_url


def test_the_defaults_are_the_documents_rhythm_and_policy() -> None:
    settings = load()

    assert settings.calendar == CALENDAR
    assert settings.policy == POLICY


def test_every_setting_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "MLFS_REDIS_URL": "rediss://cache:6379/0",
        "MLFS_WAREHOUSE": "bigquery://nba",
        "MLFS_PUBSUB": "google",
        "MLFS_DEADLINE": "22:00",
        "MLFS_TIMEZONE": "Europe/Zurich",
        "MLFS_SEASON": "02-29..03-01",
        "MLFS_SKIP_DATES": "2024-12-24, 2024-12-25",
        "MLFS_RERUN": "rebuild",
        "MLFS_ON_UPSTREAM_FAILURE": "fallback_now",
        "MLFS_RETRY_DELAY_S": "1.5",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    settings = load()

    calendar, policy = settings.calendar, settings.policy
    assert ("rediss://cache:6379/0", "bigquery://nba", "google") == (
        settings.redis_url,
        settings.warehouse,
        settings.pubsub,
    )
    assert (time(22), "Europe/Zurich") == (calendar.deadline, calendar.zone.key)
    assert ((2, 29), (3, 1)) == (calendar.season_start, calendar.season_end)
    assert calendar.skip_dates == {date(2024, 12, 24), date(2024, 12, 25)}
    assert (OnRerun.REBUILD, OnUpstreamFailure.FALLBACK_NOW) == (policy.rerun, policy.on_upstream_failure)
    assert policy.retry_delay == timedelta(seconds=1.5)


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFS_DEADLINE", "")

    assert load().deadline == time(23, 25)


def test_googles_own_variable_for_its_emulator_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "localhost:8085")

    assert load().pubsub == "emulator://localhost:8085"
    assert load(pubsub="google").pubsub == "google"


def test_all_faults_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    told = faults(
        monkeypatch,
        MLFS_DEADLIN="23:25",
        MLFS_LEASE_S="1",
        MLFS_TIMEZONE="Mars/Olympus",
        MLFS_REDIS_URL="http://cache",
        MLFS_HTTP_PORT="many",
        MLFS_SEASON="autumn",
    )

    assert {
        "MLFS_DEADLIN",
        "MLFS_LEASE_S",
        "MLFS_TIMEZONE",
        "MLFS_REDIS_URL",
        "MLFS_HTTP_PORT",
        "MLFS_SEASON",
    } == set(told)
    assert len(told) == 6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFS_DEADLINE", "25:00"),
        ("MLFS_WAREHOUSE", "bigquery://"),
        ("MLFS_WAREHOUSE", "bigquery://nba?region=US"),
        ("MLFS_BIGQUERY_ENDPOINT", "127.0.0.1:9050"),
        ("MLFS_BIGQUERY_STAGING_DATASET", "a-dataset"),
        ("MLFS_BIGQUERY_MAX_BYTES_BILLED", "0"),
        ("MLFS_DEADLINE", "23:25Z"),
        ("MLFS_UPGRADE_CUTOFF", "23:50-05:00"),
        ("MLFS_TIMEZONE", "../../etc/passwd"),
        ("MLFS_SEASON", "10-15"),
        ("MLFS_SEASON", "02-30..06-30"),
        ("MLFS_SKIP_DATES", "2024-13-01"),
        ("MLFS_EARLIEST_DATE", "long ago"),
        ("MLFS_CATCH_UP_DAYS", "61"),
        ("MLFS_DRAIN_GRACE_S", "-1"),
        ("MLFS_ATTEMPTS_MAX", "0"),
        ("MLFS_RETRY_DELAY_S", "nan"),
        ("MLFS_TICK_S", "0"),
        ("MLFS_BUILD_THREADS", "0"),
        ("MLFS_DUCKDB_MEMORY_LIMIT", "2GB; DROP"),
        ("MLFS_HTTP_PORT", "65536"),
        ("MLFS_LOG_LEVEL", "loud"),
        ("MLFS_RERUN", "sometimes"),
        ("MLFS_WAREHOUSE", "postgres://db"),
        ("MLFS_PUBSUB", "kafka://broker"),
        ("MLFS_PUBSUB", "Google"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    assert name in faults(monkeypatch, **{name: value})


def test_the_cutoff_may_not_lie_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(deadline=time(23, 50)).deadline == load().upgrade_cutoff
    assert faults(monkeypatch, MLFS_DEADLINE="23:51") == ["MLFS_UPGRADE_CUTOFF"]


def test_a_name_that_is_no_setting_is_a_fault_also_where_it_is_not_the_process_environment() -> None:
    with pytest.raises(BadSettings, match="MLFS_DEADLIN: no such setting"):
        load({"MLFS_DEADLIN": "23:25", "PATH": "/bin"})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://worker:hunter2@cache:6379/0", "redis://worker:***@cache:6379/0"),
        ("rediss://:hunter2@cache", "rediss://:***@cache"),
        ("redis://worker:hunt@hunter2@cache", "redis://worker:***@cache"),
        ("redis://cache:6379", "redis://cache:6379"),
    ],
)
def test_passwords_are_masked_where_settings_are_shown(url: str, shown: str) -> None:
    described = load(redis_url=url).describe()

    assert shown == described["MLFS_REDIS_URL"]
    assert not [text for text in described.values() if "hunter2" in text]


def test_a_wrong_address_is_refused_without_repeating_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFS_REDIS_URL", "http://worker:hunter2@cache")

    with pytest.raises(BadSettings) as caught:
        load()

    assert "hunter2" not in str(caught.value)


def test_what_is_shown_can_be_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(skip_dates=frozenset({date(2024, 12, 24), date(2024, 12, 25)}), season=((2, 29), (3, 1)))
    for name, value in first.describe().items():
        monkeypatch.setenv(name, value)

    assert first == load()


def test_settings_cannot_be_changed_after_the_start() -> None:
    settings = load()

    with pytest.raises(ValueError, match="frozen"):
        settings.deadline = time(1)  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert {f"MLFS_{name.upper()}" for name in Settings.model_fields} == set(load().describe())


@pytest.mark.parametrize("topic", ["success_topic", "failure_topic", "dead_letter_topic"])
def test_a_worker_cannot_be_sent_its_own_words(topic: str) -> None:
    with pytest.raises(BadSettings, match="MLFS_TOPIC is also a topic that the worker publishes to"):
        load(topic="completions", **{topic: "completions"})
