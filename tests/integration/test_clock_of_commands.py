"""By whose time commands change and show dates."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from ops.arguments import guest_parts, reading_parts
from worker.clock import SystemClock
from worker.errors import Unavailable
from worker.resources import DEMO_NOTE, Resources
from worker.settings import load


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
    with guest_parts() as parts, pytest.raises(Unavailable, match="time"):
        parts.clock.now()
    with Resources(load(), own=False, reads=True) as parts:
        assert isinstance(parts.clock, SystemClock), "a report goes on"


def test_a_report_of_a_demo_whose_store_is_lost_goes_by_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))
    (tmp_path / DEMO_NOTE).write_text("{}", encoding="utf-8")
    (tmp_path / "warehouse.duckdb").touch()
    before = SystemClock().now()
    with reading_parts() as parts:
        assert parts.clock.now() >= before
