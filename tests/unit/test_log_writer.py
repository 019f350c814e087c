"""Log lines leave on a thread of their own: nobody who logs waits for the reader, and what is missing is told."""

import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from tests.conftest import WaitUntil
from worker.observing import logs
from worker.observing.logs import LogWriter

# For what happens at once; never waited out by a test that passes.
SOON_S = 10.0


class Pipe:
    """A pipe whose reader reads when it is told to."""

    def __init__(self) -> None:
        self.reading_end, writing_end = os.pipe()
        self.stream: TextIO = os.fdopen(writing_end, "w", encoding="utf-8")

    def read_lines(self, number: int) -> list[str]:
        held = b""
        while held.count(b"\n") < number:
            held += os.read(self.reading_end, 65_536)
        return held.decode().splitlines()

    def leave(self) -> None:
        os.close(self.reading_end)
        self.reading_end = -1

    def close(self) -> None:
        if self.reading_end >= 0:
            self.leave()
        self.stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def missing(lines: int) -> str:
    return f"{lines} missing"


def test_lines_come_out_whole_and_in_order(pipe: Pipe) -> None:
    writer = LogWriter(pipe.stream, missing)
    for number in range(500):
        writer.put(f"line {number}")

    assert writer.flush(SOON_S)

    assert pipe.read_lines(500) == [f"line {number}" for number in range(500)]
    writer.close(SOON_S)


def test_a_reader_that_stalls_costs_lines_and_no_wait_and_is_told_how_many(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    monkeypatch.setattr(logs, "LINES_MAX", 100)
    writer = LogWriter(pipe.stream, missing)
    writer.put("x" * 1_000_000)  # more than any pipe holds
    wait_until(lambda: select.select([pipe.reading_end], [], [], 0)[0], "the thread is in the middle of it")
    for number in range(150):
        writer.put(f"line {number}")

    assert writer.dropped == 50
    assert not writer.flush(0.0)

    told = pipe.read_lines(102)
    assert told[1] == "50 missing"
    assert told[2:] == [f"line {number}" for number in range(100)]
    writer.put("afterwards")
    assert pipe.read_lines(1) == ["afterwards"]
    writer.close(SOON_S)


def test_lines_whose_reader_has_gone_are_dropped_and_counted(pipe: Pipe) -> None:
    writer = LogWriter(pipe.stream, missing)
    pipe.leave()

    writer.put("nobody reads this")
    assert writer.flush(SOON_S)

    assert writer.dropped == 1
    writer.close(SOON_S)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_lines_wait_for_a_full_disk_that_gets_room_again(tmp_path: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full, (tmp_path / "log").open("w", encoding="utf-8") as room:
        writer = LogWriter(full, missing)
        writer.put("kept")
        assert not writer.flush(0.2)
        assert writer._descriptor is not None
        os.dup2(room.fileno(), writer._descriptor)

        assert writer.flush(SOON_S)

    assert (tmp_path / "log").read_text(encoding="utf-8") == "kept\n"
    assert writer.dropped == 0
    writer.close(SOON_S)


def test_a_text_that_is_no_unicode_ends_nothing(pipe: Pipe) -> None:
    writer = LogWriter(pipe.stream, missing)
    writer.put("half a pair: \udc80")
    writer.put("next")

    assert pipe.read_lines(2) == ["half a pair: \\udc80", "next"]
    writer.close(SOON_S)


def test_the_descriptor_is_its_own_and_given_back(pipe: Pipe) -> None:
    """The caller closes the stream meanwhile: the file that is opened next must not get log lines."""
    writer = LogWriter(pipe.stream, missing)
    pipe.stream.close()
    writer.put("written all the same")

    writer.close(SOON_S)

    assert pipe.read_lines(1) == ["written all the same"]
    assert os.read(pipe.reading_end, 1) == b""
