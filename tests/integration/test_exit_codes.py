"""The same cause ends every command with the same exit code, the one that docs/cli.md names."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from ops.arguments import EXIT_FAILED, EXIT_REFUSED, EXIT_UNAVAILABLE, report_fault
from ops.cli import app
from tests.conftest import free_port
from tests.support.nights import retracted
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.errors import Conflict, PipelineError
from worker.features.records import replay_row
from worker.pipelines.shipped import PIPELINE
from worker.settings import BadSettings

NIGHT = "2024-12-15"
WHY = ("--reason", "because")
CACHE = "player_daily_cache"
HOLDER = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"

READERS = (
    ("status",),
    ("status", NIGHT),
    ("explain", NIGHT),
    ("outlook", NIGHT),
    ("history", NIGHT),
    ("daily", NIGHT),
    ("incident", NIGHT),
    ("trend",),
    ("reliability",),
    ("durations",),
    ("cost",),
    ("backtest", "--from", NIGHT, "--to", NIGHT),
    ("lineage", NIGHT, "1"),
    ("features", NIGHT, "--out", "rows.csv"),
    ("diff", NIGHT),
    ("vacuum",),
    ("vacuum", "--dry-run"),
    ("build", NIGHT),
    ("build", NIGHT, "--dry-run"),
    ("doctor",),
    ("dlq", "list"),
)
ACTORS = (
    ("replay", NIGHT, *WHY, "--dry-run"),
    ("replay", NIGHT, *WHY, "--yes"),
    ("replay", "--from", NIGHT, "--to", NIGHT, *WHY),
    ("replay", "--from", NIGHT, "--to", NIGHT, *WHY, "--yes"),
    ("cancel", NIGHT, *WHY, "--dry-run"),
    ("cancel", NIGHT, *WHY, "--yes"),
    ("retract", NIGHT, CACHE, *WHY, "--dry-run"),
    ("retract", NIGHT, CACHE, *WHY, "--yes"),
    ("recover", "--dry-run"),
    ("recover", "--yes"),
    ("dlq", "redrive", "--dry-run"),
    ("dlq", "redrive", "--yes"),
)
NO_DATE = (
    *(tuple("2024-02-30" if word == NIGHT else word for word in command) for command in READERS if NIGHT in command),
    ("replay", "2024-02-30", *WHY),
    ("cancel", "2024-02-30", *WHY),
    ("retract", "2024-02-30", CACHE, *WHY),
    ("emit", "2024-02-30", CACHE),
    ("trend", "--to", "2024-02-30"),
    ("load", "folder", "--generate", "2024-02-30"),
    ("replay", "--from", "2024-02-30", "--to", NIGHT, *WHY),
    ("demo", "--date", "2024-02-30"),
)
OF_THE_STORE = (
    ("status",),
    ("status", NIGHT),
    ("explain", NIGHT),
    ("outlook", NIGHT),
    ("history", NIGHT),
    ("replay", NIGHT, *WHY, "--yes"),
    ("cancel", NIGHT, *WHY, "--yes"),
    ("retract", NIGHT, CACHE, *WHY, "--yes"),
    ("daily", NIGHT),
    ("trend",),
    ("doctor",),
)
OF_THE_WAREHOUSE = (
    ("load", "FILES"),
    ("build", NIGHT),
    ("build", NIGHT, "--dry-run"),
    ("features", NIGHT, "--out", "rows.csv"),
    ("diff", NIGHT),
    ("vacuum",),
    ("lineage", NIGHT, "1"),
    ("cost",),
    ("backtest", "--from", NIGHT, "--to", NIGHT),
    ("durations",),
    ("recover", "--dry-run"),
    ("replay", NIGHT, *WHY, "--yes"),
    ("doctor",),
)
UNANSWERED = (
    ("replay", NIGHT, *WHY),
    ("replay", NIGHT, *WHY, "--json"),
    ("replay", "--from", NIGHT, "--to", NIGHT, *WHY),
    ("replay", "--from", NIGHT, "--to", NIGHT, *WHY, "--json"),
)
REFUSED = (
    ("emit", NIGHT, "odds"),
    ("emit", NIGHT, CACHE, "--error", "the table is empty"),
    ("dlq", "redrive", "--reason", "nonsense"),
    ("explain", NIGHT),
    ("outlook", NIGHT),
    ("history", NIGHT),
    ("status", NIGHT),
    ("cancel", NIGHT, *WHY, "--yes"),
    ("retract", NIGHT, CACHE, *WHY, "--yes"),
    ("features", NIGHT, "--out", "rows.csv"),
    ("diff", NIGHT),
    ("features", NIGHT, "--out", "no-such-folder/rows.csv"),
    ("lineage", NIGHT, "1"),
    ("load", "no-such-folder"),
    ("demo", "--data", "no-such-folder"),
)

Ends = Callable[..., tuple[int, str]]


@pytest.fixture
def ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ends:
    """Run a command as `main` does, in an empty folder; give its exit code and what it said of a fault."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, arguments)
        if isinstance(done.exception, PipelineError | BadSettings):
            code = report_fault(done.exception)
            return code, capsys.readouterr().err
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return command


@pytest.fixture
def stored(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator["redis.Redis"]:
    """A store that has never heard of any date, and a warehouse without upstream tables."""
    client = redis.Redis.from_url(valkey_url)
    client.flushall()
    monkeypatch.setenv("MLFS_REDIS_URL", valkey_url)
    yield client
    client.flushall()
    client.close()


def an_empty_warehouse(folder: Path) -> Path:
    path = folder / ".mlfs" / "warehouse.duckdb"
    warehouse = DuckDbWarehouse(str(path))
    warehouse.ensure_tables()
    warehouse.close()
    return path


@pytest.mark.parametrize("command", [*READERS, *ACTORS], ids=" ".join)
def test_a_command_in_a_wrong_folder_names_the_setting_and_leaves_nothing(
    ends: Ends, tmp_path: Path, command: tuple[str, ...]
) -> None:
    code, said = ends(*command)

    assert code == EXIT_REFUSED
    assert "MLFS_DATA_DIR" in said
    assert str(tmp_path / ".mlfs") in said
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_makes_no_part_that_is_not_there(ends: Ends, tmp_path: Path) -> None:
    an_empty_warehouse(tmp_path)
    there = sorted((tmp_path / ".mlfs").iterdir())

    for command in ACTORS:
        if "--dry-run" in command and command[0] != "recover":
            assert ends(*command)[0] == EXIT_REFUSED
    # The store is what it would restore: without one it compares with an empty one, elsewhere.
    assert ends("recover", "--dry-run")[0] == 0
    assert sorted((tmp_path / ".mlfs").iterdir()) == there


def test_a_damaged_journal_of_the_local_bus_is_one_line_and_a_lasting_fault(ends: Ends, tmp_path: Path) -> None:
    """Exit code 1, not 4: a supervisor that starts the worker again cures nothing."""
    journal = tmp_path / ".mlfs" / "pubsub" / "journal.sqlite"
    journal.parent.mkdir(parents=True)
    journal.write_bytes(os.urandom(8_000))

    code, said = ends("emit", NIGHT, CACHE)

    assert code == EXIT_FAILED
    assert said.count("\n") == 1
    assert f"mv {journal}" in said


def test_what_cannot_be_loaded_makes_no_warehouse(ends: Ends, tmp_path: Path) -> None:
    assert ends("load", "no-such-folder")[0] == EXIT_REFUSED
    assert list(tmp_path.iterdir()) == []


def test_a_reader_beside_a_demo_names_its_folder(ends: Ends, tmp_path: Path) -> None:
    demo = tmp_path / ".mlfs" / "demo-nominal"
    demo.mkdir(parents=True)
    (demo / "demo.json").write_text("{}", "utf-8")

    assert ends("status")[1].endswith(f" status --data-dir {demo}\n")


@pytest.mark.parametrize(
    ("note", "told"),
    [
        ("", "another demo"),  # a kill during the write
        ('{"scenario": "nominal"', "another demo"),
        ("[1]", "another demo"),
        ('{"scenario": "outage"}', "another demo"),
        ('{"scenario": "outage", "data": "generated"}', "the scenario outage on generated data"),
    ],
)
def test_a_demo_does_not_go_on_in_the_folder_of_another_demo(ends: Ends, tmp_path: Path, note: str, told: str) -> None:
    (tmp_path / "demo.json").write_text(note, "utf-8")
    code, said = ends("demo", "--dir", str(tmp_path), "--resume")

    assert (EXIT_REFUSED, f"mlfs: {tmp_path} holds {told}; play afresh without --resume, or name another --dir\n") == (
        code,
        said,
    )


@pytest.mark.parametrize("command", NO_DATE, ids=" ".join)
def test_what_is_no_date_is_wrong_usage(ends: Ends, tmp_path: Path, command: tuple[str, ...]) -> None:
    code, said = ends(*command)

    assert (code, "2024-02-30" in said) == (EXIT_REFUSED, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [*READERS, ("config",), ("demo",), ("run",)], ids=" ".join)
def test_a_wrong_setting_is_named_by_every_command(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MLFS_DEADLINE", "late")
    code, said = ends(*command)

    assert (code, "MLFS_DEADLINE" in said) == (EXIT_REFUSED, True)


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("command", REFUSED, ids=" ".join)
def test_what_makes_no_sense_is_refused(ends: Ends, tmp_path: Path, command: tuple[str, ...]) -> None:
    an_empty_warehouse(tmp_path)

    assert ends(*command)[0] == EXIT_REFUSED


@pytest.mark.parametrize("command", UNANSWERED, ids=" ".join)
def test_what_nobody_agrees_to_is_not_done(
    ends: Ends, stored: "redis.Redis", tmp_path: Path, command: tuple[str, ...]
) -> None:
    """As in cron and CI: one rule for one date and for a range."""
    an_empty_warehouse(tmp_path)

    assert ends(*command)[0] == EXIT_REFUSED
    assert stored.keys("*:date:*") == []


@pytest.mark.parametrize("command", OF_THE_STORE, ids=" ".join)
def test_a_store_that_does_not_answer_is_unavailable(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    an_empty_warehouse(tmp_path)
    monkeypatch.setenv("MLFS_REDIS_URL", f"redis://127.0.0.1:{free_port()}")

    assert ends(*command)[0] == EXIT_UNAVAILABLE


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose warehouse another process has open."""
    folder = tmp_path_factory.mktemp("held")
    path = an_empty_warehouse(folder)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        yield path
        holder.kill()


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("command", OF_THE_WAREHOUSE, ids=" ".join)
def test_a_warehouse_that_another_process_holds_is_unavailable_and_says_what_to_do(
    ends: Ends,
    held: Path,
    sample_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    monkeypatch.setenv("MLFS_WAREHOUSE", f"duckdb://{held}")
    monkeypatch.setenv("MLFS_DUCKDB_WAIT_S", "0.1")
    code, said = ends(*(str(sample_folder) if word == "FILES" else word for word in command))

    assert code == EXIT_UNAVAILABLE
    told = " ".join(said.split())
    assert f"the warehouse file {held} is open in another process, process " in told
    assert "was not given back within 0.1 s (MLFS_DUCKDB_WAIT_S). Run the command again." in told


@pytest.mark.parametrize("command", [("status", NIGHT), ("explain", NIGHT)], ids=" ".join)
def test_a_damaged_record_is_a_failure(ends: Ends, stored: "redis.Redis", command: tuple[str, ...]) -> None:
    stored.hset(f"{{mlfs:{PIPELINE}}}:date:{NIGHT}", mapping={"r": "no record", "n": 1})

    code, said = ends(*command)
    assert (code, f"the stored record of {NIGHT} is unreadable" in said) == (EXIT_FAILED, True)


def test_a_record_that_others_keep_changing_is_worth_another_try() -> None:
    assert report_fault(Conflict("2024-12-15: changed too often")) == EXIT_UNAVAILABLE


@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=str)
def test_a_build_on_an_empty_warehouse_names_the_tables_and_the_next_step(
    ends: Ends, tmp_path: Path, options: tuple[str, ...]
) -> None:
    an_empty_warehouse(tmp_path)
    code, said = ends("build", NIGHT, *options)

    assert code == EXIT_FAILED
    words = " ".join(said.split())  # a narrow terminal wraps the message
    assert f"{NIGHT}: no active players: table nba_raw.nbac_player_list does not exist" in words
    assert "mlfs load DIR" in words
    assert "Catalog Error" not in said


def test_recovery_fails_where_a_retraction_could_not_take_effect(
    ends: Ends, stored: "redis.Redis", tmp_path: Path
) -> None:
    """Its date is not in the ledger, so nothing has begun the damaged record anew."""
    record = retracted(CACHE)
    warehouse = DuckDbWarehouse(str(an_empty_warehouse(tmp_path)))
    warehouse.log_replay(
        replay_row(
            record.analysis_date,
            requested_at=record.retractions[0].at,
            requested_by="ana",
            reason="wrong rows",
            mode="retract",
            previous_state=None,
            previous_generation=0,
            decision="retracted",
            retraction=record.retractions[0],
        )
    )
    warehouse.close()
    stored.hset(f"{{mlfs:{PIPELINE}}}:date:{NIGHT}", mapping={"v": 1, "r": b"damaged", "n": "operation"})
    recover = ("recover", "--days", "10000", "--seek-hours", "0", "--yes")

    failed, said = ends(*recover)
    stored.flushall()
    again = ends(*recover, "--json")

    assert (EXIT_FAILED, 1) == (failed, said.count(f"not taken back again: the stored record of {NIGHT} is unreadable"))
    assert (0, []) == (again[0], json.loads(again[1])["not_restored"])
