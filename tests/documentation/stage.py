"""Where the commands of the documentation run for real: a folder with played nights, and workers in the background."""

import contextlib
import os
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.conftest import free_port
from tests.support.programs import COMMAND, Program, RunningWorker, not_tonight, run_here

_REDIRECTED = re.compile(r"\s*&$")
_CURL_OPTIONS = {"-X", "-H", "-d"}
# Wide enough that no table wraps, whatever the name of the machine or the length of a folder is.
COLUMNS = 400
# What differs between two runs of the same command, in the order in which it is looked for.
_VOLATILE: Mapping[str, str] = {
    r"duckdb:///\S+": "WAREHOUSE",
    r"(\.venv/bin/mlfs|\S*python\S* -m ops)\b": "mlfs",
    r"--data-dir /\S+": "--data-dir FOLDER",
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|\+\d\d:\d\d| [A-Z]{3,4})?": "INSTANT",
    r"\d\d-\d\d \d\d:\d\d:\d\d": "INSTANT",
    r"\d\d:\d\d(:\d\d)?( [A-Z]{3,4}\b)?": "CLOCK",
    r"\(in \d+ (s|min)\)": "(SOON)",
    r"\b\d{16}\b": "MESSAGE",
    r"[\w.-]+@[\w.-]+": "SOMEBODY",
    r"\b[A-Za-z][\w.-]*-\d{2,}\b": "WORKER",
    r"\d+\.\d\d s\b": "SECONDS",
    r"[─│╭╮╰╯]": " ",
}


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did; *text* is all that it said, standard output first."""

    code: int
    text: str


@dataclass
class Stage:
    """A working directory in which documented lines are typed, and what stands for the reader's own values.

    `exports` is the environment that earlier lines have set. Commands run in this process, but for those that stay.
    """

    folder: Path
    replaced: Mapping[str, str] = field(default_factory=dict)
    exports: dict[str, str] = field(default_factory=dict)
    workers: list[RunningWorker] = field(default_factory=list)
    wait_until: Callable[..., None] | None = None

    def environment(self, assigned: Mapping[str, str]) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFS_", "PUBSUB_"))}
        return {**clean, "COLUMNS": str(COLUMNS), **not_tonight(), **self.exports, **assigned}

    def type(self, line: str) -> Ran:
        """Run one line of a block as a shell in the folder would."""
        for written, meant in self.replaced.items():
            line = line.replace(written, meant)
        assigned: dict[str, str] = {}
        words = shlex.split(_REDIRECTED.sub("", line))
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            name, _, value = words.pop(0).partition("=")
            assigned[name] = value
        program, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
        if program == "export":
            name, _, value = arguments[0].partition("=")
            self.exports[name] = value.replace("$PWD", str(self.folder)).replace("$PATH", os.environ["PATH"])
            return Ran(0, "")
        if program == "curl":
            return self._curl(arguments)
        if program == "kill":
            return Ran(0, "")  # the caller stops its workers, once it has looked at them
        assert program == "mlfs", f"nobody here runs {program}"
        if arguments[0] in {"run", "serve"}:
            self.start(arguments[0], assigned)
            return Ran(0, "")
        return self._mlfs(arguments, self.environment(assigned))

    def _mlfs(self, arguments: list[str], environment: Mapping[str, str]) -> Ran:
        with contextlib.chdir(self.folder):
            done = run_here(arguments, environment)
        return Ran(done.returncode, done.stdout + done.stderr)

    def _curl(self, arguments: list[str]) -> Ran:
        """Send what curl would: with -d a form of that body, POST unless told otherwise."""
        left, method, headers, body, url = list(arguments), "", {}, None, ""
        while left:
            word = left.pop(0)
            if word in _CURL_OPTIONS:
                value = left.pop(0)
                method = value if word == "-X" else method
                body = value if word == "-d" else body
                if word == "-H":
                    name, _, text = value.partition(": ")
                    headers[name] = text
            else:
                assert not word.startswith("-"), f"{word} of curl is not known here"
                url = word
        if body is not None:
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        url = url if "://" in url else f"http://{url}"
        answer = httpx.request(
            method or ("GET" if body is None else "POST"), url, headers=headers, content=body, timeout=60
        )
        return Ran(0 if answer.is_success else 22, answer.text)

    def start(self, command: str, assigned: Mapping[str, str] | None = None) -> RunningWorker:
        """Start `mlfs run` or `mlfs serve` in the background, and give it back once it takes messages."""
        environment = self.environment(assigned or {})
        data_dir = self.folder / environment.pop("MLFS_DATA_DIR", ".mlfs")
        program = Program(data_dir, {name: value for name, value in environment.items() if name.startswith("MLFS_")})
        log = self.folder / f"worker-{len(self.workers)}.log"
        worker = program.launch(log, *COMMAND, command)
        self.workers.append(worker)
        assert self.wait_until is not None
        self.wait_until(lambda: worker.address() or worker.process.poll() is not None, f"mlfs {command} starts", 30.0)
        assert worker.address(), log.read_text(encoding="utf-8")
        return worker

    def stop_workers(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                assert worker.terminate() == 0, worker.log_path.read_text(encoding="utf-8")


@contextlib.contextmanager
def staged(folder: Path, wait_until: Callable[..., None]) -> Iterator[Stage]:
    """Give a stage whose pages have a port of their own in the place of 8080; nothing runs on afterwards."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    hosts = {"localhost:8080": f"127.0.0.1:{port}", "https://mlfs.example": f"http://127.0.0.1:{port}"}
    stage = Stage(folder, replaced=hosts, exports={"MLFS_HTTP_PORT": str(port)}, wait_until=wait_until)
    try:
        yield stage
    finally:
        for worker in stage.workers:
            if worker.process.poll() is None:
                worker.kill()


def play(folder: Path, *commands: str) -> list[str]:
    """Run each `mlfs demo …` in a process of its own, all at once; give what they printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFS_", "PUBSUB_"))}
    running = [
        subprocess.Popen(
            [*COMMAND, *shlex.split(command)[1:]],
            cwd=folder,
            # The package is found by its folder, whatever the working directory is.
            env={**clean, "COLUMNS": str(COLUMNS)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    printed = [process.communicate(timeout=120)[0] for process in running]
    for command, process, text in zip(commands, running, printed, strict=True):
        assert process.returncode in {0, 3}, f"{command}: {text}"
    return printed


def words(text: str, *also: str) -> Counter[str]:
    """Give the words of an output, however its lines are wrapped, with what is volatile masked; *also* masks more."""
    for pattern in also:
        text = re.sub(pattern, "ANY", text)
    for pattern, mask in _VOLATILE.items():
        text = re.sub(pattern, mask, text)
    return Counter(text.split())


def assert_same(written: str, real: str, *also: str, where: str) -> None:
    """Compare an output on a page with the real one, word by word; `…` on the page stands for words left out."""
    page, ran = words(written, *also), words(real, *also)
    abridged = page.pop("…", 0)
    more, less = page - ran, ran - page
    if more or (less and not abridged):
        pytest.fail(f"{where}: only on the page: {dict(more)}; only in reality: {dict(less)}\n{real}")
