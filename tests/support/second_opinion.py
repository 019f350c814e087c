"""BigQuery emulators that other people wrote, each as a process of its own on this machine.

Each emulator has an environment of its own on Python 3.13, outside the repository, in
`$XDG_CACHE_HOME/mlfs/second-opinion`. The environment is made once for each content of its requirements file. The
emulator's home folder lies beside the environment and holds DuckDB's extensions, because the emulators would otherwise
download the extensions.
An interrupted preparation leaves no stamp file; the next call starts the preparation anew.
"""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[1] / "second_opinion"
PYTHON = (3, 13)
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
_PLATFORM = "import duckdb; print('v' + duckdb.__version__, duckdb.sql('PRAGMA platform').fetchone()[0], sep='/')"


class Unprepared(Exception):
    """An emulator cannot be asked on this machine; the text names the reason and the next step."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """An emulator on PyPI.

    Attributes:
        name: Name of the package, of its program and of its requirements file.
        version: The version that was asked.
        arguments: Words after the program; `{port}`, `{grpc_port}` and `{data}` are filled in.
    """

    name: str
    version: str
    arguments: tuple[str, ...]

    @property
    def requirements(self) -> Path:
        return REQUIREMENTS / f"{self.name}.txt"

    @property
    def folder(self) -> Path:
        """The folder of its environment: another content of the requirements file is another folder."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        content = hashlib.sha256(self.requirements.read_bytes()).hexdigest()[:10]
        return cache / "mlfs" / "second-opinion" / f"{self.name}-{content}"


EMULATORS = {
    emulator.name: emulator
    for emulator in (
        Emulator(
            "local-bigquery",
            "0.4.0",
            ("serve", "--host", "127.0.0.1", "--port", "{port}", "--grpc-port", "{grpc_port}", "--data-dir", "{data}"),
        ),
        Emulator(
            "bqemulator",
            "1.4.0",
            ("start", "--rest-port", "{port}", "--grpc-port", "{grpc_port}", "--data-dir", "{data}"),
        ),
    )
}


def find_python() -> str:
    """Return the path of a Python 3.13.

    Raises:
        Unprepared: The machine has none on PATH and none of pyenv's.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    named = f"python{PYTHON[0]}.{PYTHON[1]}"
    for candidate in (sys.executable, named, *map(str, sorted(pyenv.glob(f"{PYTHON[0]}.{PYTHON[1]}.*/bin/python")))):
        if path := _is_right(candidate):
            return path
    raise Unprepared(f"{named} is not installed (on PATH, or by pyenv); the emulators need it")


def _is_right(candidate: str) -> str | None:
    """Return the path of the interpreter behind a candidate; pyenv's shim stands on PATH for versions that are off."""
    tell = f"import sys; print(sys.executable if sys.version_info[:2] == {PYTHON} else '')"
    try:
        told = subprocess.run([candidate, "-c", tell], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return None
    return told.stdout.strip() or None


def prepare(emulator: Emulator) -> Path:
    """Make the environment of an emulator unless it is there; return its folder.

    Raises:
        Unprepared: There is no Python 3.13, or the packages cannot be installed.
    """
    folder = emulator.folder
    stamp = folder / ".ready"
    if stamp.exists():
        return folder
    python = find_python()
    print(f"Preparing {folder} with {python}", file=sys.stderr)  # noqa: T201 -- a download takes a minute
    environment, interpreter = folder / "environment", str(folder / "environment" / "bin" / "python")
    _uv("venv", "--quiet", "--clear", "--python", python, str(environment))
    # The list is complete, and one package in it asks for a DuckDB that has no extensions yet.
    _uv("pip", "install", "--quiet", "--no-deps", "--python", interpreter, "--requirement", str(emulator.requirements))
    where = subprocess.run([interpreter, "-c", _PLATFORM], capture_output=True, text=True, check=True).stdout.strip()
    extensions = folder / "home" / ".duckdb" / "extensions" / where
    extensions.mkdir(parents=True, exist_ok=True)
    for file in environment.glob("lib/*/site-packages/duckdb_extension_*/extensions/*/*.duckdb_extension"):
        shutil.copy(file, extensions)
    stamp.touch()
    return folder


def _uv(*arguments: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    done = subprocess.run([str(uv), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unprepared(f"uv {' '.join(arguments)} failed: {done.stderr.strip()}")


class Running:
    """An emulator as a process; `fresh` replaces the process by a new one without projects, at the same address."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._folder = prepare(emulator)
        # Imported inside a run of pytest only: pytest wants to see `tests.conftest` first.
        from tests.conftest import free_port  # noqa: PLC0415

        self._port, self._grpc_port = free_port(), free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self._data = tempfile.TemporaryDirectory(prefix="mlfs-second-opinion-")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """The file with all that the process printed."""
        return Path(self._data.name) / "log"

    def fresh(self) -> None:
        """End the process, if there is one, and start another one with an empty data folder.

        Raises:
            Unprepared: The new process ends, or does not answer in time.
        """
        self._end()
        data = tempfile.mkdtemp(dir=self._data.name)
        fill = {"port": self._port, "grpc_port": self._grpc_port, "data": data}
        program = self._folder / "environment" / "bin" / self.emulator.name
        command = [str(program), *(word.format(**fill) for word in self.emulator.arguments)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_leash(), *command], stdout=log, stderr=log, env={**os.environ, "HOME": str(self._folder / "home")}
            )
        pause = threading.Event()
        for _ in range(int(START_TIMEOUT_S / 0.05)):
            if self._process.poll() is not None:
                break
            if self._answers():
                return
            pause.wait(0.05)
        raise Unprepared(f"{self.emulator.name} does not start; its last words:\n{self.log.read_text()[-2000:]}")

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def stop(self) -> None:
        """End the process and remove all that it stored. Repeatable."""
        self._end()
        self._data.cleanup()

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)
        self._process = None


def _leash() -> Sequence[str]:
    """Return the words before a command whose process dies with this one, even when this one is killed."""
    leash = shutil.which("setpriv")
    return [leash, "--pdeathsig", "TERM"] if leash else []


def rows_differ(ours: Sequence[Mapping[str, object]], theirs: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """Yield a line for each cell in which two lists of rows differ."""
    if len(ours) != len(theirs):
        yield f"{len(ours)} rows against {len(theirs)}"
    for number, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        for name in sorted({*our, *their}):
            if name not in our or name not in their or our[name] != their[name]:
                yield f"row {number}, {name}: {our.get(name)!r} against {their.get(name)!r}"
