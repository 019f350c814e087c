"""A value that a command cannot use is named in one line of our own words, with exit code 2, and nothing is begun."""

import sys
from pathlib import Path

import pytest

from ops import cli
from ops.arguments import EXIT_REFUSED
from schemas.completion import ROW_COUNT_MAX, CompletionMessage

EMIT = ["emit", "2024-12-15", "player_daily_cache"]
BECAUSE = ["--reason", "because"]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> "Said":
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path / "data"))
    return Said(monkeypatch, capsys)


class Said:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int | str | None, str]:
        """Give exit code and standard error of `mlfs ARGUMENTS`."""
        self._monkeypatch.setattr(sys, "argv", ["mlfs", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, self._capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([*EMIT, "--rows", str(ROW_COUNT_MAX + 1)], "--rows"),
        ([*EMIT, "--rows", "-1"], "--rows"),
        ([*EMIT, "--rows", "many"], "--rows"),
        ([*EMIT, "--rows", "1.5"], "--rows"),
        ([*EMIT, "--run-id", "x" * 201], "--run-id must be 200 characters or fewer"),
        ([*EMIT, "--run-id", ""], "--run-id"),
        ([*EMIT, "--run-id", "caf\udce9"], "UTF-8"),
        ([*EMIT, "--status", "failed", "--error", "x" * 70_000], "--error"),
        ([*EMIT, "--status", "failed", "--error", "\udcff"], "UTF-8"),
        (["emit", "2024-12-15", "\udcff"], "UTF-8"),
        (["replay", "2024-12-15", *BECAUSE, "--wait", "nan"], "--wait"),
        (["replay", "2024-12-15", *BECAUSE, "--wait", "inf"], "--wait"),
        (["replay", "2024-12-15", *BECAUSE, "--concurrency", "0"], "--concurrency"),
        (["replay", "2024-12-15", *BECAUSE, "--idempotency-key", "two words"], "--idempotency-key"),
        (["replay", "2024-12-15", "--reason", "\u200b"], "--reason"),
        (["cancel", "2024-12-15", "--reason", "\u202e\u2060"], "--reason"),
        (["retract", "2024-12-15", "player_daily_cache", "--reason", "\ufeff"], "--reason"),
        (["build", "2024-12-15", "--reason", "\u200b"], "--reason"),
        (["status", "--limit", "0"], "--limit"),
        (["status", "--limit", "9" * 30], "--limit"),
        (["tick", "--wait", "nan"], "--wait"),
        (["recover", "--seek-hours", "nan"], "--seek-hours"),
        (["dlq", "list", "--wait", "inf"], "--wait"),
        (["lineage", "2024-12-15", "9" * 30], "PLAYER_ID"),
        (["emit", "soon", "player_daily_cache"], "DATE"),
        (["emit", "--bogus"], "--bogus"),
        (["nonsense"], "nonsense"),
    ],
)
def test_a_value_out_of_bounds_is_one_line(said: Said, tmp_path: Path, arguments: list[str], named: str) -> None:
    code, told = said(*arguments)

    assert (EXIT_REFUSED, 1) == (code, told.count("\n"))
    assert told.startswith("mlfs: ")
    assert named in told
    assert not [phrase for phrase in ("Input should", "Value error", "pydantic", "Traceback") if phrase in told]
    assert not (tmp_path / "data").exists()


def test_the_bounds_of_the_command_are_those_of_the_event() -> None:
    message = {"processor": "p", "analysis_date": "2024-12-15", "status": "success", "row_count": ROW_COUNT_MAX}

    assert CompletionMessage.model_validate(message).row_count == ROW_COUNT_MAX
