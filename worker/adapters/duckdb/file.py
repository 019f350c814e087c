"""DuckDB file of the warehouse, used by several processes in turn.

DuckDB lets a single process open a file for writing. The first call opens the file; IDLE_S after the last call a thread
closes the file, so that another process can open the file. A process that finds the file taken tries again every few
milliseconds, and raises `Unavailable` after `wait_s`. A process without idle time closes the file after TURN_S and
leaves the file closed for PAUSE_S, so that a waiting process gets a turn.

Every process opens the file for writing: read-only openings share the file among readers, but three looping readers
made a writer wait half as long again (ADR 0030).

A process that dies loses the lock at once. The next opening applies the content of DuckDB's log beside the file.
"""

import logging
import math
import random
import re
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import duckdb

from worker.adapters.duckdb.dialect import open_error
from worker.errors import Unavailable

# Standard logging: commands and programs with `worker.phase5` configure no log, so a warning goes to standard error.
log = logging.getLogger(__name__)

MEMORY = ":memory:"
WAIT_S = 30.0
IDLE_S = 0.5
TURN_S = 2.0
# Longer than a waiting process takes between two tries.
PAUSE_S = 0.05
RETRY_S = 0.005
# After this time a waiting process names the holder of the file, and tries less often: a try costs CPU time.
TELL_AFTER_S = 1.0
RETRY_SELDOM_S = 0.02

Config = Mapping[str, str | bool | int | float | list[str]]
_HOLDER = re.compile(r"PID (\d+)")
_WORDS_SHOWN_MAX, _WORD_CHARS_MAX = 3, 40


class SharedFile:
    """DuckDB file that is open during the calls of a process and closed between them. Thread-safe."""

    def __init__(
        self, path: str, config: Config, *, wait_s: float = WAIT_S, idle_s: float = IDLE_S, turn_s: float = TURN_S
    ) -> None:
        """Prepare to open the file.

        Args:
            path: A file, created by the first opening if missing, or `:memory:`, which stays open.
            config: Settings of the database.
            wait_s: Seconds to wait for a file opened by another process.
            idle_s: Seconds without a call after which the file is closed.
            turn_s: Seconds after which a busy process closes the file for a moment.
        """
        self._path = path
        self._config = dict(config)
        self._wait_s = wait_s
        self._idle_s, self._turn_s = (math.inf, math.inf) if path == MEMORY else (idle_s, turn_s)
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._opening = False
        self._openings = 0
        self._watcher: threading.Thread | None = None
        self._uses = 0
        self._opened_at = self._used_at = self._reopen_at = 0.0
        self._gave_up_at = -math.inf
        # For a program that does not call `close`.
        weakref.finalize(self, _close_at_exit, weakref.ref(self))

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Return a cursor; the file stays open until the end of the block.

        Raises:
            Unavailable: Another process keeps the file open for too long, the file is gone, or `close` was called.
            Fatal: The file is not a database.
        """
        connection = self._enter()
        try:
            with closing(connection.cursor()) as cursor:
                yield cursor
        finally:
            with self._changed:
                self._uses -= 1
                self._used()

    def close(self, patience_s: float) -> None:
        """Refuse further calls and close the file, at the latest at the end of the last running call.

        Args:
            patience_s: Seconds to wait for running calls. Afterwards the method returns, and the calls go on.
        """
        self._closed.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._uses and not self._opening, patience_s)
            if self._uses:
                return
            self._give_back()
        # A thread that outlives the interpreter makes DuckDB's binding complain on standard error.
        if self._watcher is not None:
            self._watcher.join(patience_s + self._idle_s)

    def _enter(self) -> duckdb.DuckDBPyConnection:
        """Count a use of the connection; open the connection unless another thread is opening the connection."""
        now = time.monotonic()
        # After a failed wait the next calls try once: a sweep over many analysis dates must not wait for each date.
        patience_ends = now + self._wait_s if now >= self._gave_up_at + self._wait_s else now
        with self._changed:
            self._changed.wait_for(lambda: not self._opening)
            if self._closed.is_set():
                raise Unavailable(f"the warehouse {self._path} is closed: this process is ending")
            if self._connection is not None:
                self._uses += 1
                return self._connection
            self._opening = True
        opened = None
        try:
            opened = self._open(patience_ends)
        finally:
            with self._changed:
                self._opening = False
                if opened is not None:
                    self._connection = opened
                    self._openings += 1
                    self._uses += 1
                    self._opened_at = time.monotonic()
                self._changed.notify_all()
        if self._idle_s < math.inf:
            watcher = threading.Thread(target=self._watch, args=(self._openings,), name="warehouse-file", daemon=True)
            watcher.start()
            self._watcher = watcher
        return opened

    def _open(self, patience_ends: float) -> duckdb.DuckDBPyConnection:
        """Open the file; wait while another process has the file open."""
        self._closed.wait(max(self._reopen_at - time.monotonic(), 0.0))
        started, told = time.monotonic(), False
        while True:
            try:
                return self._connect()
            except duckdb.Error as error:
                if not is_taken(error):
                    raise open_error(error, self._path) from error
                now = time.monotonic()
                if now >= patience_ends or self._closed.is_set():
                    if patience_ends > started:
                        self._gave_up_at = now
                    raise Unavailable(self._refusal(error)) from error
                seldom = now - started >= TELL_AFTER_S
                if seldom and not told:
                    told = True
                    log.warning(
                        "waiting up to %.0f s for the warehouse file %s, which %s has open",
                        self._wait_s,
                        self._path,
                        holder(error),
                    )
            pause_s = RETRY_SELDOM_S if seldom else RETRY_S
            self._closed.wait(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 -- spreads retries, guards nothing

    def _connect(self) -> duckdb.DuckDBPyConnection:
        if self._openings and self._path != MEMORY and not Path(self._path).exists():
            # DuckDB would create an empty file, and each analysis date would fail because of missing tables.
            raise Unavailable(
                f"the warehouse file {self._path} is gone; put the file back. If it is lost, stop the worker, then: "
                "mlfs load DIR, mlfs recover, mlfs run"
            )
        connection = duckdb.connect(self._path, config=self._config)
        try:
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            # BigQuery raises an error where IEEE returns infinity; this setting makes DuckDB raise, too.
            connection.execute("SET GLOBAL ieee_floating_point_ops = false")
        except BaseException:
            connection.close()
            raise
        return connection

    def _refusal(self, error: duckdb.Error) -> str:
        return (
            f"the warehouse file {self._path} is open in another process, {holder(error)}, and was not given back "
            f"within {self._wait_s:g} s (MLFS_DUCKDB_WAIT_S). Run the command again. A large load or build may take "
            "longer; a program that is not mlfs, such as a DuckDB shell, keeps the file until that program ends"
        )

    def _used(self) -> None:
        """Record the end of a use; close the file if the process ends or the turn of the process is over."""
        self._used_at = time.monotonic()
        if self._uses:
            return
        if self._closed.is_set():
            self._give_back()
        elif self._connection is not None and self._used_at - self._opened_at >= self._turn_s:
            self._give_back()
            self._reopen_at = self._used_at + PAUSE_S

    def _watch(self, opening: int) -> None:
        """Close the file when the file has been idle for long enough; end with the connection of this *opening*."""
        with self._changed:
            while self._connection is not None and self._openings == opening:
                left_s = self._used_at + self._idle_s - time.monotonic()
                if not self._uses and left_s <= 0:
                    self._give_back()
                else:
                    self._changed.wait(self._idle_s if self._uses else left_s)

    def _give_back(self) -> None:
        """Close the connection and the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # Closing moves the log into the file. If closing fails (a full disk), the log keeps each commit.
            with suppress(duckdb.Error):
                connection.close()
        self._changed.notify_all()


def _close_at_exit(known: "weakref.ref[SharedFile]") -> None:
    """Close the file at the end of the process, unless the object was collected before."""
    if (file := known()) is not None:
        file.close(0.0)


def is_taken(error: duckdb.Error) -> bool:
    """Return whether another process has the file open."""
    return " lock " in str(error)


def holder(error: duckdb.Error) -> str:
    """Return the process that has the file open, with the command where the system shows the command."""
    found = _HOLDER.search(str(error))
    # The kernel answers 0 for a process that this container cannot see.
    number = int(found[1]) if found else 0
    if not number:
        return "a process that this system does not show (another container?)"
    command = _command(number)
    return f"process {number} ({command})" if command else f"process {number}"


def _command(process_id: int) -> str:
    """Return the first words of the command of a process, without folders; empty for an unreadable command."""
    try:
        words = Path(f"/proc/{process_id}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    if words[0].rpartition("/")[2].startswith("python") and len(words) > 1 and not words[1].startswith("-"):
        words = words[1:]
    shown = [words[0].rpartition("/")[2], *words[1:_WORDS_SHOWN_MAX]]
    return " ".join(word for word in shown if word.isprintable() and len(word) <= _WORD_CHARS_MAX).strip()
