"""A DuckDB file is opened while it is used, given back when it is idle, and waited for while it is taken."""

import logging
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import duckdb
import pytest

from tests.conftest import WaitUntil
from tests.support.generation_rows import STARTED_AT, publication_of, rows_select
from tests.support.nights import NIGHT
from worker.adapters.duckdb import file
from worker.adapters.duckdb.file import SharedFile, holder
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.errors import Unavailable
from worker.features.model import BuildKey, Statement

NEIGHBOUR = """
import duckdb, sys
connection = None
print("up", flush=True)
for line in sys.stdin:
    if line == "open\\n":
        try:
            connection = duckdb.connect(sys.argv[1])
            print("opened", flush=True)
        except duckdb.IOException:
            print("taken", flush=True)
    else:
        connection.close()
        print("closed", flush=True)
"""


class Neighbour:
    """Another process, which opens the file once when told to, and closes it when told to."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NEIGHBOUR, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._heard() == "up"

    def told(self, word: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self._heard()

    def opens(self) -> bool:
        return self.told("open") == "opened"

    def visits(self) -> bool:
        """Open the file and close it again, if it is free."""
        return self.opens() and self.told("close") == "closed"

    def _heard(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __enter__(self) -> "Neighbour":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


@pytest.fixture
def neighbour(path: Path) -> Iterator[Neighbour]:
    with Neighbour(path) as neighbour:
        yield neighbour


@pytest.fixture
def warehouse(path: Path) -> Iterator[DuckDbWarehouse]:
    opened = DuckDbWarehouse(str(path))
    opened.ensure_tables()
    yield opened
    opened.close()


def idle_for_a_while(folder: Path, wait_until: WaitUntil) -> None:
    """Wait until another file, used last of all now, has been given back: so long was every other one idle."""
    with closing(DuckDbWarehouse(str(folder / "clock.duckdb"))), Neighbour(folder / "clock.duckdb") as other:
        wait_until(other.visits, "a file that is idle is given back")


def test_an_idle_file_is_given_back_and_what_was_written_meanwhile_is_seen(
    warehouse: DuckDbWarehouse, path: Path, wait_until: WaitUntil
) -> None:
    write = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('CREATE TABLE nba_predictions.later (x BIGINT)')"
    assert warehouse.columns("nba_predictions.later") == {}

    def written() -> bool:
        done = subprocess.run([sys.executable, "-c", write, str(path)], capture_output=True, text=True, check=False)
        return done.returncode == 0

    wait_until(written, "another process writes")

    assert warehouse.columns("nba_predictions.later") == {"x": "INT64"}


def test_a_file_is_given_back_between_the_steps_of_a_build(
    warehouse: DuckDbWarehouse, neighbour: Neighbour, wait_until: WaitUntil
) -> None:
    key = BuildKey(analysis_date=NIGHT, generation=1, attempt=1)
    publication = publication_of(key)
    warehouse.claim(key, STARTED_AT, publication.request.claimant)
    warehouse.stage(key, rows_select(key))

    wait_until(neighbour.opens, "the file is given back after the rows are stored")
    neighbour.told("close")
    warehouse.publish(publication)

    assert warehouse.read_ledger(NIGHT) is not None


def test_a_process_that_never_idles_gives_others_a_turn(path: Path, neighbour: Neighbour) -> None:
    file = SharedFile(str(path), {}, idle_s=math.inf, turn_s=0.0)
    with file.cursor(), file.cursor():
        assert not neighbour.opens()

    assert neighbour.visits()
    file.close(1.0)


def test_who_finds_the_file_taken_waits_and_says_for_whom_once(
    warehouse: DuckDbWarehouse,
    path: Path,
    neighbour: Neighbour,
    wait_until: WaitUntil,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(file, "TELL_AFTER_S", 0.0)
    caplog.set_level(logging.WARNING, file.__name__)
    wait_until(neighbour.opens, "the file is given back")
    found: list[object] = []
    readers = [threading.Thread(target=lambda: found.append(warehouse.read_ledger(NIGHT))) for _ in range(3)]
    for reader in readers:
        reader.start()
    wait_until(lambda: caplog.messages != [], "somebody says that they wait")

    assert found == []
    neighbour.told("close")
    for reader in readers:
        reader.join()
    assert found == [None] * 3
    [said] = caplog.messages
    command = f"{Path(sys.executable).name} -c"
    assert f"file {path}, which process {neighbour.process.pid} ({command}) has open" in said


def test_after_the_wait_it_is_unavailable_and_the_file_serves_again_later(path: Path, wait_until: WaitUntil) -> None:
    with closing(DuckDbWarehouse(str(path), wait_s=0.0)) as warehouse, Neighbour(path) as neighbour:
        wait_until(neighbour.opens, "the file is given back")
        with pytest.raises(Unavailable, match=rf"{path} is open in another process, process {neighbour.process.pid} "):
            warehouse.columns("nba_raw.later")
        neighbour.told("close")

        assert warehouse.columns("nba_raw.later") == {}


@pytest.mark.timeout(20)
def test_after_a_wait_in_vain_the_next_call_does_not_wait_again(
    path: Path, neighbour: Neighbour, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert neighbour.opens()
    file = SharedFile(str(path), {})
    for wait_s in (0.1, 3600.0):
        monkeypatch.setattr(file, "_wait_s", wait_s)
        with pytest.raises(Unavailable, match="is open in another process"), file.cursor():
            """The second wait would outlast the test."""


def test_a_process_that_cannot_be_seen_is_not_process_0() -> None:
    unseen = duckdb.IOException("Could not set lock on file: Conflicting lock is held in PID 0. See also …")

    assert holder(unseen) == "a process that this system does not show (another container?)"


def test_a_file_that_is_gone_is_not_made_anew(
    warehouse: DuckDbWarehouse, neighbour: Neighbour, path: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    wait_until(neighbour.visits, "the file is given back")
    path.rename(tmp_path / "elsewhere.duckdb")

    with pytest.raises(Unavailable, match=rf"the warehouse file {path} is gone; put the file back"):
        warehouse.read_ledger(NIGHT)
    assert not path.exists()
    (tmp_path / "elsewhere.duckdb").rename(path)
    assert warehouse.read_ledger(NIGHT) is None


def test_a_closed_warehouse_is_not_opened_again(warehouse: DuckDbWarehouse, neighbour: Neighbour) -> None:
    warehouse.close()

    with pytest.raises(Unavailable, match="this process is ending"):
        warehouse.read_ledger(NIGHT)
    assert neighbour.opens()


WRITER = """
import sys
from datetime import UTC, date, datetime
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.features.records import replay_row
warehouse = DuckDbWarehouse(sys.argv[1])
warehouse.ensure_tables()
for number in range(6):
    warehouse.log_replay(replay_row(
        date(2024, 12, 15), requested_at=datetime.now(UTC), requested_by=sys.argv[2], reason=str(number), mode="normal",
        previous_state=None, previous_generation=0, decision="replay_accepted",
    ))
    if number % 3 == 0:
        warehouse.close()
        warehouse = DuckDbWarehouse(sys.argv[1])
warehouse.close()
"""


def test_three_processes_that_make_one_file_and_write_at_once_lose_nothing(path: Path) -> None:
    commands = [[sys.executable, "-c", WRITER, str(path), f"writer-{number}"] for number in range(3)]
    with ExitStack() as stack:
        writers = [stack.enter_context(subprocess.Popen(command)) for command in commands]
        assert [writer.wait(50) for writer in writers] == [0, 0, 0]

    with closing(DuckDbWarehouse(str(path))) as warehouse:
        sql = "SELECT COUNT(DISTINCT CONCAT(requested_by, reason)) AS written FROM nba_predictions.replay_audit"
        assert [{"written": 18}] == list(warehouse.query(Statement(name="count", sql=sql)))
