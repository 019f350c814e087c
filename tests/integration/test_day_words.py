"""`today`, `tonight` and `yesterday` mean the same in every command, by the clock that the command shows dates by.

The clock of the commands is a demo's: it goes on from the last change in the store, so a test sets it by a change.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ops.cli import app
from tests.support.nights import CACHE, CALENDAR, NIGHT, PROCESSORS, success
from tests.support.rigs import ModelClock, Rig
from worker.adapters.redis.client import connect
from worker.adapters.redis.store import RedisStore
from worker.calendar import WallClock
from worker.clock import SystemClock
from worker.errors import TwoDates
from worker.pipelines.shipped import PIPELINE
from worker.resources import DEMO_NOTE

DAY = timedelta(days=1)
WHY = ("--reason", "because", "--yes")
# The last processor reports at this time of the next day.
MOMENTS = ("00:00", "05:59", "06:00", "11:59", "12:00", "23:59")
READERS = ("status", "explain", "history", "incident", "daily")
CHANGES = (
    ("replay", "{word}", *WHY),
    ("replay", "{word}", *WHY, "--dry-run"),
    ("replay", "--from", "{word}", "--to", "2024-12-16", *WHY, "--wait", "0"),
    ("replay", "--from", "2024-12-15", "--to", "{word}", *WHY, "--wait", "0"),
    ("cancel", "{word}", *WHY),
    ("retract", "{word}", CACHE, *WHY),
)
At = Callable[[str], None]


@pytest.fixture
def store(valkey_url: str) -> Iterator[RedisStore]:
    client = connect(valkey_url)
    client.flushall()
    store = RedisStore(client, PIPELINE)
    yield store
    store.close()


@pytest.fixture
def at(tmp_path: Path, valkey_url: str, store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> At:
    """Set the commands' clock to a wall clock time of the day after `NIGHT`; both dates are open."""
    (tmp_path / DEMO_NOTE).write_text("{}", "utf-8")
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MLFS_REDIS_URL", valkey_url)

    def set_to(moment: str) -> None:
        rig = Rig(store=store, clock=ModelClock(CALENDAR.at(NIGHT + DAY, WallClock(0, time.fromisoformat(moment)))))
        for day in (NIGHT - DAY, NIGHT, NIGHT + DAY):
            rig.engine.apply(day, success(PROCESSORS[0]))

    return set_to


def mlfs(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize("moment", MOMENTS)
def test_every_command_that_reads_names_the_same_date_and_its_weekday(at: At, moment: str) -> None:
    at(moment)
    tonight = NIGHT if moment < "12:00" else NIGHT + DAY

    for word, day in {"today": tonight, "tonight": tonight, "yesterday": tonight - DAY}.items():
        for command in READERS:
            done = mlfs(command, word)
            assert f"{word} is {day:%A} {day}\n" in done.stderr, (command, done.stderr)
            assert str(day) in done.stdout or command == "history", (command, done.stdout)
        for command in ("status", "explain", "incident", "daily"):
            answer = json.loads(mlfs(command, word, "--json").stdout)
            assert (str(day), f"{day:%A}") == (answer["analysis_date"], answer["weekday"])


@pytest.mark.parametrize("moment", MOMENTS)
def test_without_a_date_reports_end_with_tonight_and_the_checklist_is_last_nights(at: At, moment: str) -> None:
    at(moment)
    tonight = NIGHT if moment < "12:00" else NIGHT + DAY

    trend = json.loads(mlfs("trend", "--json").stdout)
    checklist = json.loads(mlfs("daily", "--json").stdout)

    assert (str(tonight), str(NIGHT)) == (trend["days"][-1]["analysis_date"], checklist["analysis_date"])


@pytest.mark.parametrize("change", CHANGES, ids=" ".join)
@pytest.mark.parametrize("word", ["today", "tonight"])
@pytest.mark.parametrize("moment", ["00:00", "05:59"])
def test_soon_after_midnight_a_change_asks_for_the_date_and_changes_nothing(
    at: At, store: RedisStore, moment: str, word: str, change: tuple[str, ...]
) -> None:
    at(moment)
    before = store.load_all([NIGHT, NIGHT + DAY])

    done = mlfs(*(part.format(word=word) for part in change))

    assert isinstance(done.exception, TwoDates)
    assert (NIGHT, NIGHT + DAY) == done.exception.dates
    assert store.load_all([NIGHT, NIGHT + DAY]) == before


@pytest.mark.parametrize(("moment", "day"), [("06:00", NIGHT), ("11:59", NIGHT), ("12:00", NIGHT + DAY)])
def test_from_six_on_a_change_of_today_takes_the_date_that_readers_name(
    at: At, store: RedisStore, moment: str, day: date
) -> None:
    at(moment)

    done = mlfs("replay", "today", *WHY)
    ranged = mlfs("replay", "--from", "yesterday", "--to", "today", "--reason", "because", "--json")

    replayed = [record.analysis_date for record in store.load_all([NIGHT, NIGHT + DAY]).values() if record.requested_by]
    assert (0, [day]) == (done.exit_code, replayed), done.output
    assert {str(day), str(day - DAY)} == {row["analysis_date"] for row in json.loads(ranged.stdout)["dates"]}


def test_sample_data_of_today_has_rows_for_tonight_and_for_the_date_that_has_begun(at: At, tmp_path: Path) -> None:
    at("10:00")

    loaded = mlfs("load", str(tmp_path / "sample"), "--generate", "today")
    built = [mlfs("build", day, "--json") for day in ("today", str(NIGHT + DAY))]

    assert (0, [0, 0]) == (loaded.exit_code, [done.exit_code for done in built]), loaded.output
    assert [str(NIGHT), str(NIGHT + DAY)] == [json.loads(done.stdout)["analysis_date"] for done in built]


def test_the_overview_shows_what_a_waiting_date_has_and_until_when_it_waits(at: At) -> None:
    at("10:00")

    overview, one = mlfs("status").stdout, mlfs("status", str(NIGHT + DAY)).stdout

    assert overview.count("1 of 4, deadline") == 3
    assert "1 of 4, deadline 23:25 EST" in " ".join(one.split()), "a narrow screen wraps the cell"


def test_a_command_outside_a_demo_reads_words_by_the_machines_clock_and_opens_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path / "data"))
    expected = {CALENDAR.tonight(SystemClock().now())}

    done = mlfs("emit", "tonight", "no_processor")

    expected.add(CALENDAR.tonight(SystemClock().now()))
    assert any(f"tonight is {day:%A} {day}\n" in done.stderr for day in expected)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("text", ["tomorrow", "Today", "2024-12-1"])
def test_what_is_no_date_is_answered_with_every_word_there_is(text: str) -> None:
    done = mlfs("explain", text)

    assert done.exit_code == 2
    assert "write 2024-12-15, today, tonight, yesterday" in " ".join(done.stderr.replace("│", " ").split())


def test_a_date_of_a_demo_is_read_by_its_own_clock_whatever_the_machine_says(at: At) -> None:
    at("13:00")

    assert SystemClock().now() > datetime(2025, 1, 1, tzinfo=UTC)
    assert str(NIGHT + DAY) == json.loads(mlfs("explain", "today", "--json").stdout)["analysis_date"]
