"""Settings are read once, all faults are told together, and no secret is shown."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from statemachine.model import OnRerun, OnUpstreamFailure
from tests.support.nights import CALENDAR, POLICY
from worker.calendar import WallClock
from worker.resources import ProcessKind, Resources
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
    assert (WallClock.read("22:00"), "Europe/Zurich") == (calendar.deadline, calendar.zone.key)
    assert ((2, 29), (3, 1)) == (calendar.season_start, calendar.season_end)
    assert calendar.skip_dates == {date(2024, 12, 24), date(2024, 12, 25)}
    assert (OnRerun.REBUILD, OnUpstreamFailure.FALLBACK_NOW) == (policy.rerun, policy.on_upstream_failure)
    assert policy.retry_delay == timedelta(seconds=1.5)


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFS_DEADLINE", "")

    assert load().deadline == WallClock.read("23:25")


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
        ("MLFS_TICK_S", "1e-300"),
        ("MLFS_TICK_S", "nan"),
        ("MLFS_KEEP_FINISHED_DAYS", "99999999999"),
        ("MLFS_BIGQUERY_USD_PER_TIB", "inf"),
        ("MLFS_BIGQUERY_MAX_BYTES_BILLED", "9" * 30),
        ("MLFS_DUCKDB_MEMORY_LIMIT", "0GB"),
        ("MLFS_DUCKDB_MEMORY_LIMIT", "1MB"),
        ("MLFS_DUCKDB_MEMORY_LIMIT", "999999GB"),
        ("MLFS_DUCKDB_MEMORY_LIMIT", "nanGB"),
        ("MLFS_PUBSUB", "emulator://[::1]"),
        ("MLFS_PUBSUB", "emulator://:8085"),
        ("MLFS_PUBSUB", "emulator://localhost:0"),
        ("MLFS_PUBSUB", "emulator://localhost:99999"),
        ("MLFS_PUBSUB", "emulator://localhost:8085/path"),
        ("MLFS_PUBSUB", "emulator://http://localhost:8085"),
        ("MLFS_PUBSUB", "emulator://local host:8085"),
        ("MLFS_PUBSUB", "embedded://"),
        ("PUBSUB_EMULATOR_HOST", "http://localhost:8085"),
        ("PUBSUB_EMULATOR_HOST", "localhost"),
        ("PUBSUB_EMULATOR_HOST", "[::1"),
        ("MLFS_SUCCESS_TOPIC", "a b"),
        ("MLFS_TOPIC", "ab"),
        ("MLFS_TOPIC", "1st"),
        ("MLFS_TOPIC", "google-topic"),
        ("MLFS_TOPIC", "projects/p/topics/t"),
        ("MLFS_FAILURE_TOPIC", "x" * 256),
        ("MLFS_SUBSCRIPTION", "a/b"),
        ("MLFS_DEAD_LETTER_SUBSCRIPTION", "goog"),
        ("MLFS_PUBSUB_PROJECT", "My Project"),
        ("MLFS_PUBSUB_PROJECT", "x" * 31),
        ("MLFS_TRACE_PROJECT", "-"),
        ("MLFS_HTTP_HOST", "http://127.0.0.1"),
        ("MLFS_HTTP_HOST", "127.0.0.1:80"),
        ("MLFS_HTTP_HOST", "300.1.2.3"),
        ("MLFS_HTTP_HOST", "a b"),
        ("MLFS_ADMIN_HOST", "[::1]"),
        ("MLFS_ADMIN_PORT", "-1"),
        ("MLFS_REDIS_URL", "redis://"),
        ("MLFS_REDIS_URL", "redis://cache:99999"),
        ("MLFS_REDIS_URL", "redis://cache/first"),
        ("MLFS_REDIS_URL", "redis://[::1"),
        ("MLFS_REDIS_URL", "redis://cache/0?bogus=1"),
        ("MLFS_REDIS_URL", "redis://cache/0?socket_timeout=1000"),
        ("MLFS_REDIS_URL", "redis://cache?db=x"),
        ("MLFS_REDIS_URL", "unix:///run/valkey.sock?decode_responses=True"),
        ("MLFS_REDIS_URL", "unix://"),
        ("MLFS_WAREHOUSE", "duckdb://"),
        ("MLFS_BIGQUERY_ENDPOINT", "http://"),
        ("MLFS_BIGQUERY_ENDPOINT", "http://h:port"),
        ("MLFS_OPENLINEAGE", "file:///runs#1/events.jsonl"),
        ("MLFS_OPENLINEAGE", "file:///runs?/events.jsonl"),
        ("MLFS_OPENLINEAGE", "http://h:99999"),
        ("MLFS_OIDC_CERTS_URL", "https://"),
        ("MLFS_DATA_DIR", "/etc/hostname"),
        ("MLFS_SUBSCRIPTION", "caf\udce9"),
        ("MLFS_DEADLINE", "00:30"),
        ("MLFS_DEADLINE", "11:59:59"),
        ("MLFS_DEADLINE", "00:30+1"),
        ("MLFS_DEADLINE", "00:30+8d"),
        ("MLFS_DEADLINE", "23:25-1d"),
        ("MLFS_UPGRADE_CUTOFF", "01:00"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    assert name in faults(monkeypatch, **{name: value})


def test_faults_are_told_in_plain_words_and_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "MLFS_TICK_S": "1e-300",
        "MLFS_HTTP_PORT": "many",
        "MLFS_RERUN": "sometimes",
        "MLFS_SKIP_DATES": "soon",
        "MLFS_DATA_DIR": "/etc/hostname",
        "MLFS_TRUST_LOOPBACK": "perhaps",
        "MLFS_TOPIC": "a b",
        "PUBSUB_EMULATOR_HOST": "http://localhost:8085",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as caught:
        load()

    lines = str(caught.value).split("\n  ")[1:]
    assert {line.split(":")[0] for line in lines} == set(environment)
    assert not [line for line in lines if "Input should" in line or "Value error" in line or "pydantic" in line]


def test_faults_between_settings_are_told_together() -> None:
    wrong: dict[str, Any] = {
        "success_topic": "completions",
        "pubsub_faults": "duplicate=0.1",
        "dead_letter_topic": "x" * 250,
    }
    with pytest.raises(BadSettings) as caught:
        load(topic="completions", pubsub="google", **wrong)

    names = [line.split()[0] for line in str(caught.value).split("\n  ")[1:]]
    assert names == ["MLFS_TOPIC", "MLFS_PUBSUB_FAULTS", "MLFS_DEAD_LETTER_SUBSCRIPTION:"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pubsub", "emulator://[::1]:8085"),
        ("pubsub", "emulator://bus.internal:8085"),
        ("redis_url", "redis://user:p@ss@cache.internal:6379/3?health_check_interval=2"),
        ("redis_url", "unix:///run/valkey.sock?db=1"),
        ("redis_url", "rediss://[2001:db8::1]:6380"),
        ("http_host", "::1"),
        ("http_host", "0.0.0.0"),  # noqa: S104 - a value, nothing listens
        ("http_host", "worker-0.worker.svc.cluster.local"),
        ("pubsub_project", "example.com:my-project"),
        ("topic", "A-topic.with_all~of+it%20"),
        ("openlineage", "file:///runs%231/events.jsonl"),
        ("duckdb_memory_limit", "1.5GB"),
        ("tick_s", 0.01),
    ],
)
def test_a_value_that_works_is_taken(name: str, value: Any) -> None:
    assert getattr(load(**{name: value}), name) == value


@pytest.mark.parametrize("name", ["run#1", "run%233", "run 4", "lauf-ü"])
def test_a_folder_is_taken_by_its_whole_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    settings = load(data_dir=folder)

    with Resources(settings, ProcessKind.PULL) as parts:
        parts.warehouse.columns("nba_raw.nothing")
        assert parts.store.dates(1) == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [name]
    assert (folder / "warehouse.duckdb").is_file()


def test_a_folder_whose_name_duckdb_cannot_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="MLFS_DATA_DIR"):
        load(data_dir=tmp_path / "run?2")
    with pytest.raises(BadSettings, match="MLFS_WAREHOUSE"):
        load(warehouse=f"duckdb://{tmp_path}/run?2/warehouse.duckdb")


def test_a_folder_with_a_backslash_is_refused(tmp_path: Path) -> None:
    """DuckDB would create the file in another folder."""
    with pytest.raises(BadSettings, match=r"MLFS_DATA_DIR.* has a \\ in its name"):
        load(data_dir=tmp_path / "run\\2")
    with pytest.raises(BadSettings, match="MLFS_WAREHOUSE"):
        load(warehouse=f"duckdb://{tmp_path}/run\\2/warehouse.duckdb")


def test_a_deadline_after_midnight_names_its_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFS_DEADLINE", "00:30")
    monkeypatch.setenv("MLFS_UPGRADE_CUTOFF", "01:00+1d")
    with pytest.raises(BadSettings, match=r"00:30\+1d"):
        load()

    monkeypatch.setenv("MLFS_DEADLINE", "00:30+1d")
    settings = load()
    record = settings.calendar.fresh_record(date(2024, 12, 15), datetime(2024, 12, 15, 12, tzinfo=UTC))
    assert datetime(2024, 12, 16, 5, 30, tzinfo=UTC) == record.deadline_at
    assert datetime(2024, 12, 16, 6, 0, tzinfo=UTC) == record.upgrade_cutoff_at
    described = settings.describe()
    assert ("00:30+1d", "01:00+1d") == (described["MLFS_DEADLINE"], described["MLFS_UPGRADE_CUTOFF"])


def test_a_cutoff_on_the_night_itself_lies_before_a_deadline_after_midnight(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults(monkeypatch, MLFS_DEADLINE="00:30+1d") == ["MLFS_UPGRADE_CUTOFF"]
    assert faults(monkeypatch, MLFS_DEADLINE="00:30+1d", MLFS_UPGRADE_CUTOFF="01:00") == ["MLFS_UPGRADE_CUTOFF"]


def test_the_cutoff_may_not_lie_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(deadline="23:50").deadline == load().upgrade_cutoff
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
        ("rediss://cache?password=hunter2&db=1", "rediss://cache?password=***&db=1"),
    ],
)
def test_passwords_are_masked_where_settings_are_shown(url: str, shown: str) -> None:
    described = load(redis_url=url).describe()

    assert shown == described["MLFS_REDIS_URL"]


@pytest.mark.parametrize("name", ["api_key", "jwt", "apikey[]", "pass%77ord", "sessionid", "sv"])
def test_every_parameter_of_an_address_that_is_not_known_as_harmless_is_masked(name: str) -> None:
    described = load(openlineage=f"https://lineage/x?{name}=hunter2&location=US#{name}=hunter2").describe()

    assert f"https://lineage/x?{name}=***&location=US#{name}=***" == described["MLFS_OPENLINEAGE"]
    assert not [text for text in described.values() if "hunter2" in text]


@pytest.mark.parametrize(
    "name",
    [
        *("api_key", "apikey", "api-key", "API_KEY", "key", "auth", "pwd", "passwd", "secret", "client_secret", "sig"),
        *("credential", "token", "access_token", "X-Goog-Signature", "accessToken", "password", "sas", "api%5Fkey"),
    ],
)
def test_a_secret_in_a_query_is_masked_wherever_settings_are_shown(name: str) -> None:
    described = load(openlineage=f"https://u:pw3@h/x?limit=1&{name}=hunter3&location=2").describe()

    assert f"https://u:***@h/x?limit=1&{name}=***&location=2" == described["MLFS_OPENLINEAGE"]


def test_a_token_in_the_place_of_the_user_is_masked() -> None:
    assert load(openlineage="https://hunter2@h/x").describe()["MLFS_OPENLINEAGE"] == "https://***@h/x"


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
        settings.deadline = WallClock.read("22:00")  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert {f"MLFS_{name.upper()}" for name in Settings.model_fields} == set(load().describe())


@pytest.mark.parametrize("topic", ["success_topic", "failure_topic", "dead_letter_topic"])
def test_a_worker_cannot_be_sent_its_own_words(topic: str) -> None:
    with pytest.raises(BadSettings, match="MLFS_TOPIC is also a topic that the worker publishes to"):
        load(topic="completions", **{topic: "completions"})
