"""`mlfs run` on a terminal prints short lines for a person; into a pipe the same worker prints JSON lines."""

import os
import pty
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from ops.commands.run import readable_line
from tests.support.programs import COMMAND, Program
from worker.settings import load


def test_no_text_from_outside_steers_the_terminal() -> None:
    line = readable_line(load())
    head = {"time": "2024-12-15T04:00:00Z", "severity": "ERROR", "analysis_date": "2024-12-15"}
    told = line({**head, "message": "decision", "state": "failed", "detail": "\x1b[2Jgone\r\x9b1m\n23:00:00 forged"})
    traced = line({**head, "message": "library", "exception": "Traceback\n  File \x1b]0;x\x07"})

    assert "23:00:00 error: 2024-12-15 failed:  [2Jgone 1m 23:00:00 forged" == told
    assert "23:00:00 error: library: analysis_date 2024-12-15, exception Traceback\n  File  ]0;x " == traced


def test_a_person_reads_the_address_of_the_page_and_how_to_load_tables(
    tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    program = Program(tmp_path / "data", {"MLFS_HTTP_PORT": "0"})
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMAND, "run"], env=program.environ(), stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    said: list[bytes] = []

    def read() -> None:
        try:
            while piece := os.read(ours, 65_536):
                said.append(piece)
        except OSError:
            return  # the other end is closed

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        wait_until(lambda: b"status page: http://" in b"".join(said), "the worker has started", 30)
        wait_until(lambda: b"no tables are there" in b"".join(said), "the worker has looked for tables", 30)
        program.here("emit", "2024-12-15", "player_daily_cache")
        wait_until(lambda: b"player_daily_cache reported success" in b"".join(said), "the report is shown", 30)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
    reader.join(10)
    os.close(ours)
    text = b"".join(said).decode()

    assert "{" not in text
    assert re.search(r"\d\d:\d\d:\d\d 2024-12-15 waiting: player_daily_cache reported success", text)
    assert f"ops load DIR --data-dir {tmp_path / 'data'}" in text
    assert "worker stopped" in text
