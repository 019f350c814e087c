"""By whose time commands change and show dates."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from ops.arguments import guest_resources, reading_resources
from ops.cli import app
from tests.support.nights import CACHE, EVENING, NIGHT, success
from tests.support.rigs import Rig
from worker.adapters.redis.client import connect
from worker.adapters.redis.store import RedisStore
from worker.clock import SystemClock
from worker.errors import Unavailable
from worker.features.model import Statement
from worker.pipelines.shipped import PIPELINE
from worker.resources import DEMO_NOTE


@pytest.fixture
def url_without_time(valkey_url: str) -> Iterator[str]:
    """The address of a store that serves everything but its clock."""
    with redis.Redis.from_url(valkey_url) as client:
        client.execute_command("ACL", "SETUSER", "timeless", "on", ">secret", "~*", "&*", "+@all", "-time")
        yield valkey_url.replace("://", "://timeless:secret@")
        client.execute_command("ACL", "DELUSER", "timeless")


def test_a_date_is_changed_by_the_stores_time_or_not_at_all(
    url_without_time: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MLFS_REDIS_URL", url_without_time)
    with guest_resources() as resources, pytest.raises(Unavailable, match="time"):
        resources.clock.now()
    with reading_resources() as resources:
        assert isinstance(resources.clock, SystemClock), "a report goes on"


def test_a_report_of_a_demo_whose_store_is_lost_goes_by_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))
    (tmp_path / DEMO_NOTE).write_text("{}", encoding="utf-8")
    (tmp_path / "warehouse.duckdb").touch()
    before = SystemClock().now()
    with reading_resources() as resources:
        assert resources.clock.now() >= before


def test_audit_and_history_of_a_demo_bear_the_clock_of_the_demo(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MLFS_REDIS_URL", valkey_url)
    (tmp_path / DEMO_NOTE).write_text("{}", encoding="utf-8")
    client = connect(valkey_url)
    client.flushall()
    store = RedisStore(client, PIPELINE)
    Rig(store=store).engine.apply(NIGHT, success(CACHE))
    for arguments in (("retract", str(NIGHT), CACHE), ("replay", str(NIGHT)), ("cancel", str(NIGHT))):
        done = CliRunner().invoke(app, [*arguments, "--reason", "because", "--yes"])
        assert done.exit_code == 0, done.stderr
    changed = [entry.at for entry in store.history(NIGHT)][-3:]
    store.close()
    with reading_resources() as resources:
        sql = "SELECT mode, requested_at FROM nba_predictions.replay_audit ORDER BY requested_at"
        rows = resources.warehouse.query(Statement(name="audit", sql=sql))

    assert ["retract", "normal", "cancel"] == [row["mode"] for row in rows]
    for row, at in zip(rows, changed, strict=True):
        assert EVENING <= row["requested_at"] <= at < row["requested_at"] + timedelta(minutes=1)
