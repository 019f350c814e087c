"""A program of its own for each test, and worker processes that end with it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import Program, RunningWorker, not_tonight


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "data", {"MLFS_HTTP_PORT": "0"})


@pytest.fixture(scope="session")
def loaded_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated data of 2024-12-15: the files in `sample`, a warehouse that holds their rows in `data`; to copy."""
    folder = tmp_path_factory.mktemp("loaded")
    done = Program(folder / "data").run("load", str(folder / "sample"), "--generate", "2024-12-15")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def loaded(program: Program, loaded_folder: Path) -> Program:
    """The program with generated data in its warehouse."""
    shutil.copytree(loaded_folder / "data", program.data_dir)
    program.environment |= not_tonight()
    return program


@pytest.fixture
def start_worker(program: Program, tmp_path: Path, wait_until: Any) -> Iterator[Callable[[], RunningWorker]]:
    """Start `mlfs run` and give it back once it takes messages; what still runs at the end is stopped."""
    started: list[RunningWorker] = []
    if "MLFS_SEASON" not in program.environment:
        program.environment |= not_tonight()

    def start() -> RunningWorker:
        worker = program.launch(tmp_path / f"worker-{len(started)}.log")
        started.append(worker)
        wait_until(lambda: worker.address() or worker.process.poll() is not None, "the worker starts", timeout_s=30.0)
        assert worker.address(), worker.log_path.read_text(encoding="utf-8")
        return worker

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.terminate()
