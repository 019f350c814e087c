"""`mlfs tick` alone, with no worker anywhere, brings a night to its end."""

import json
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from ops.cli import app
from tests.support.nights import evening_zone
from worker.clock import SystemClock


@pytest.fixture
def overdue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A pipeline whose deadline is midnight at the beginning of the date: tonight's is past. Gives tonight."""
    now = SystemClock().now()
    zone = evening_zone(now)
    settings = {
        "MLFS_DATA_DIR": str(tmp_path),
        "MLFS_TIMEZONE": zone,
        "MLFS_DEADLINE": "00:00+0d",
        "MLFS_SEASON": "01-01..12-31",
        "MLFS_CATCH_UP_DAYS": "0",
        "MLFS_DRAIN_GRACE_S": "0",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return now.astimezone(ZoneInfo(zone)).date().isoformat()


def run(*arguments: str) -> tuple[int, Any]:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    return done.exit_code, json.loads(done.stdout)


def test_a_tick_fires_the_deadline_builds_and_tells_without_any_worker(overdue: str, tmp_path: Path) -> None:
    loaded, _tables = run("load", str(tmp_path / "sample"), "--generate", overdue)
    ticks = [run("tick") for _ in range(2)]
    _code, night = run("status", overdue)

    built = [one for _exit, answer in ticks for one in answer["built"]]
    assert (loaded, [code for code, _answer in ticks]) == (0, [0, 0])
    assert sum(answer["opened"] for _exit, answer in ticks) == 1
    assert [(one["analysis_date"], one["generation"]) for one in built] == [(overdue, 1)]
    assert built[0]["state"] == night["state"] in {"done", "degraded"}
    assert sum(answer["published"] for _exit, answer in ticks) == 1
    assert night["row_count"] >= 200
