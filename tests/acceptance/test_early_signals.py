"""A signal is heard from the first moment: while modules are imported, and before a worker takes messages."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import WaitUntil
from tests.support.programs import COMMAND, Program
from worker.local.ownership import DirectoryLock, read_address

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Stands in for a library: the signal comes while that is imported.
SIGNALLING = "import os, signal\nos.kill(os.getpid(), signal.{name})\n"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_during_the_imports_ends_the_process_at_once_and_silently(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "typer.py").write_text(SIGNALLING.format(name=number.name), encoding="utf-8")

    done = subprocess.run(
        [*COMMAND, "run"],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "MLFS_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")
    assert not (tmp_path / "data").exists()


def test_the_installed_command_and_the_module_are_one_entry_point() -> None:
    installed = Path(sys.executable).with_name("mlfs").read_text(encoding="utf-8")

    assert "from ops.__main__ import main" in installed


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_before_the_worker_takes_messages_ends_it_in_order(
    program: Program, tmp_path: Path, number: signal.Signals, wait_until: WaitUntil
) -> None:
    """The signal comes while the worker waits for the folder of the bus, its store running already."""
    with DirectoryLock(program.data_dir / "pubsub") as held:
        assert held.try_acquire()
        worker = program.launch(tmp_path / "log")
        wait_until(lambda: read_address(program.data_dir / "valkey"), "its store runs", timeout_s=30.0)
        worker.process.send_signal(number)
    code = worker.process.wait(8.0)

    log = worker.log_path.read_text(encoding="utf-8")
    assert code == 128 + number, log
    assert "Traceback" not in log
    assert "worker_started" not in log
    assert not (program.data_dir / "valkey" / "valkey.sock").exists()
