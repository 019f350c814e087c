"""Processor time of this process by part of the hot path: stacks sampled by py-spy, and thread times from the kernel.

py-spy is a separate process: py-spy stops this process for a moment, reads the stack of every thread and continues
this process. py-spy needs no hook in the interpreter, so Python and C are slowed alike. The samples have two limits. A
thread about to wait counts like a running thread, and each stop costs time, also in a waiting thread. So the samples
only divide the time of each kind of thread; the kernel counts this time in a run without the profiler. The threads of
gRPC have no Python stack, so only the kernel counts these threads.

`part_of` assigns a stack of frames to a part of the hot path.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from worker.errors import Unavailable

REST = "rest"
PARTS: Mapping[str, str] = {
    "receive": "Google's client: stream, messages, leases, hand-over to a thread",
    "parse": "read and check the message",
    "read": "read the records from the store: Redis' client, and the decoding",
    "decide": "decide, and check the invariants of the read and of the written record",
    "write": "write record and history as JSON",
    "script": "send the commit scripts and read the answers: Redis' client",
    "log": "the log line",
    "metrics": "metrics",
    "acknowledge": "acknowledge: the message's own part and the client's",
    "native": "gRPC's own threads, without Python",
    REST: "the rest: the engine's and the intake's own lines, and threads that wake and wait again",
}
"""In the order of the hot path; the kernel counts `native`, the samples divide the other parts."""

# The innermost frame with a rule decides, so a frame of Redis' client counts for the caller. A rule is a part of the
# path and the beginning of the function's name, `` for any. py-spy omits the common beginning of a package's paths.
_RULES: Sequence[tuple[str, str, str]] = (
    ("pubsub_v1/subscriber/message.py", "ack", "acknowledge"),
    ("pubsub_v1/subscriber/_protocol/dispatcher.py", "", "acknowledge"),
    ("pubsub_v1/subscriber/_protocol/streaming_pull_manager.py", "send_unary_ack", "acknowledge"),
    ("worker/adapters/pubsub/pull.py", "_delivery", "receive"),
    ("schemas/completion.py", "", "parse"),
    ("worker/intake.py", "_expectation", "parse"),
    ("schemas/record.py", "encode", "write"),
    ("worker/adapters/redis/store.py", "_call", "write"),
    ("worker/engine.py", "_history_entry", "write"),
    ("worker/adapters/redis/store.py", "load", "read"),
    ("worker/adapters/redis/client.py", "repeating", "read"),
    ("worker/adapters/redis/store.py", "commit", "script"),
    ("worker/adapters/redis/store.py", "_store", "script"),
    ("worker/adapters/redis/store.py", "_send", "script"),
    ("worker/adapters/redis/store.py", "_run", "script"),
    ("worker/adapters/redis/fields.py", "", "read"),
    ("statemachine/", "", "decide"),
    ("worker/observing/metrics.py", "", "metrics"),
    ("worker/observing/date_metrics.py", "", "metrics"),
    ("worker/observing/observer.py", "", "log"),
    ("structlog/", "", "log"),
    ("worker/observing/logs.py", "", "log"),
    ("worker/engine.py", "", REST),
    ("worker/intake.py", "", REST),
    ("worker/adapters/pubsub/pull.py", "_settle", REST),
)
# Without a rule for the stack: threads of Google's client, and threads of the worker while receiving a message.
_CLIENT: Sequence[str] = ("pubsub_v1/", "api_core/", "grpc/", "proto/", "worker/adapters/pubsub/")


START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 60.0
# Linux, <sys/prctl.h>: permits any process to trace this process, if the kernel asks for a permission.
_PR_SET_PTRACER, _PTRACER_ANY = 0x59616D61, -1
_UNNAMED_SHOWN_MAX = 15

NATIVE = "native"
_PYTHONS_NAME = re.compile(r"Thread-\d+ \((.+)\)")
_NUMBER = re.compile(r"[-_]?\d+$")

Samples = Mapping[str, Counter[str]]


def part_of(frames: Sequence[str]) -> str | None:
    """Return the part of the hot path for a stack; None for a stack without a part.

    Args:
        frames: `FUNCTION (FILE)`, the outermost first, in the form of py-spy.
    """
    for frame in reversed(frames):
        function, _, file = frame.removesuffix(")").rpartition(" (")
        method = function.rpartition(".")[2]
        for name, start, part in _RULES:
            if name in file and method.startswith(start):
                return part
    return "receive" if any(name in frame for frame in frames for name in _CLIENT) else None


class Sampling:
    """Samples this process during the block and fills `found` at the end. At 0 Hz only the thread times are read.

    Attributes:
        found: `thread_cpu_s`, processor seconds by kind of thread. With sampling also `thread_samples`, samples by kind
            of thread and part of the hot path, and `unnamed`, the commonest frames without a part.
    """

    def __init__(self, folder: Path, hz: int) -> None:
        self.found: dict[str, Any] = {}
        self._stacks = folder / "stacks.txt"
        self._hz = hz
        self._before: Mapping[int, float] = {}
        self._spy: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        if self._hz:
            self._spy = _start(self._stacks, self._hz)
        self._before = thread_seconds()
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _where: TracebackType | None) -> None:
        kinds = {thread.native_id: kind_of(thread.name) for thread in threading.enumerate()}
        spent: dict[str, float] = {}
        for thread, seconds in thread_seconds().items():
            name = kinds.get(thread, NATIVE)
            spent[name] = spent.get(name, 0.0) + seconds - self._before.get(thread, 0.0)
        self.found["thread_cpu_s"] = spent
        if self._spy is None:
            return
        _stop(self._spy)
        if kind is None:
            samples, unnamed = read_samples(self._stacks.read_text(encoding="utf-8").splitlines())
            self.found["thread_samples"] = samples
            self.found["unnamed"] = dict(unnamed.most_common(_UNNAMED_SHOWN_MAX))


def thread_seconds() -> dict[int, float]:
    """Return the processor seconds of each thread of this process, by native id. Linux only."""
    tasks = Path("/proc/self/task")
    return {int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks.iterdir()}


def kind_of(name: str) -> str:
    """Return the kind of a thread: the name without the number."""
    given = _PYTHONS_NAME.fullmatch(name)
    return _NUMBER.sub("", given[1] if given else name)


def read_samples(lines: Iterable[str]) -> tuple[Samples, Counter[str]]:
    """Read py-spy's raw format, `thread (ID): NAME;outermost;...;innermost COUNT`.

    Returns:
        The samples by kind of thread and part, and the count of each innermost frame without a part.
    """
    samples: dict[str, Counter[str]] = {}
    unnamed: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        part = part_of(frames)
        samples.setdefault(kind_of(thread.partition(": ")[2]), Counter())[part or REST] += int(count)
        if part is None:
            unnamed[frames[-1] if frames else ""] += int(count)
    return samples, unnamed


def divided(spent: Mapping[str, float], samples: Samples) -> dict[str, float]:
    """Divide the seconds of each kind of thread in proportion to the samples; without samples the kind counts as rest.

    The sum of the parts equals the sum of the seconds.
    """
    parts: dict[str, float] = {}
    for kind, seconds in spent.items():
        met = Counter({NATIVE: 1}) if kind == NATIVE else samples.get(kind) or Counter({REST: 1})
        for part, count in met.items():
            parts[part] = parts.get(part, 0.0) + seconds * count / met.total()
    return parts


def _start(stacks: Path, hz: int) -> "subprocess.Popen[str]":
    program = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise Unavailable("py-spy is not installed: pip install 'ml-feature-store-worker[profile]'")
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PTRACER_ANY, 0, 0, 0)
    command = [program, "record", "--pid", str(os.getpid()), "--rate", str(hz)]
    command += ["--threads", "--nolineno", "--format", "raw", "--output", str(stacks)]
    spy = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603 - looked up above
    said: list[str] = []
    begun = threading.Event()

    def listen() -> None:
        for line in spy.stdout or ():
            said.append(line)
            begun.set()

    # py-spy writes during the whole run, and a full pipe would stop py-spy.
    threading.Thread(target=listen, name="py-spy", daemon=True).start()
    if not begun.wait(START_TIMEOUT_S) or "Sampling" not in said[0]:
        spy.kill()
        raise Unavailable(f"py-spy cannot trace this process, which needs the right to: {''.join(said)[-300:]}")
    return spy


def _stop(spy: "subprocess.Popen[str]") -> None:
    spy.send_signal(signal.SIGINT)
    if spy.wait(STOP_TIMEOUT_S) != 0:
        raise Unavailable(f"py-spy ended with {spy.returncode}")
