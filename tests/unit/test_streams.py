"""Output that its reader does not take: a command waits, a process that leaves does not."""

import io
import os
import threading

import pytest

from ops import streams
from tests.conftest import WaitUntil


def test_a_write_that_waits_for_its_reader_is_given_up_once_the_process_leaves(
    monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    monkeypatch.setattr(streams, "_waits_are_bounded", threading.Event())
    reading_end, writing_end = os.pipe()
    outlet = streams._Outlet(writing_end, "w")
    text = io.TextIOWrapper(io.BufferedWriter(outlet), encoding="utf-8", line_buffering=True)
    printing = threading.Thread(target=lambda: text.write("x" * 1_000_000 + "\n"), daemon=True)
    printing.start()
    wait_until(lambda: os.read(reading_end, 1), "the write is under way")
    assert printing.is_alive()

    streams.bound_waits()

    wait_until(lambda: not printing.is_alive(), "the write is given up")
    assert outlet.fault is None
    text.close()
    os.close(reading_end)
