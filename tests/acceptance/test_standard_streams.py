"""Output that is closed, full or read by nobody: no command ends in a stack, and the exit code tells what was lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.arguments import EXIT_REFUSED, EXIT_UNAVAILABLE

SHELL = "exec {python} -m ops {words} {redirection}"


def run(folder: Path, words: str, redirection: str) -> tuple[int, str, str]:
    """Run `mlfs` by a shell in *folder*, its streams redirected; give exit code, output and error."""
    line = SHELL.format(python=sys.executable, words=words, redirection=redirection)
    environment = {**os.environ, "MLFS_DATA_DIR": str(folder / "data")}
    done = subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, text=True, check=False, cwd=folder, env=environment, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_closed_output_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    code, _, said = run(tmp_path, "emit today player_daily_cache", ">&-")

    assert (code, said) == (
        EXIT_REFUSED,
        "mlfs: standard output is closed (>&-); to throw the output away: > /dev/null\n",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("words", "wanted"), [("config", 0), ("status", EXIT_REFUSED)])
def test_closed_error_changes_neither_output_nor_code(tmp_path: Path, words: str, wanted: int) -> None:
    code, told, said = run(tmp_path, words, "2>&-")

    assert (code, said) == (wanted, "")
    assert ("MLFS_DATA_DIR" in told) == (wanted == 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("words", ["config", "demo --help"])
def test_output_that_cannot_be_written_is_one_line_and_a_code(tmp_path: Path, words: str) -> None:
    code, _, said = run(tmp_path, words, "> /dev/full")

    assert (code, said) == (
        EXIT_UNAVAILABLE,
        "mlfs: the output is not complete: No space left on device; the command ran to the end\n",
    )
