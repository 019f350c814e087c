"""No process is forked: gRPC's threads do not survive that, and the child's clients hang. Programs are started anew."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("statemachine", "schemas", "worker", "ops")
FORKS = {"fork", "forkpty", "ProcessPoolExecutor", "preexec_fn"}
# They execute another program and share nothing with it. In a worker that is over before the first client exists.
STARTERS = ("worker/local/valkey.py", "ops/bench/", "tests/support/compose_runner/")


def forks(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [module or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.keyword):
            names = [node.arg or ""]
        else:
            continue
        for name in names:
            if name in FORKS or name.split(".")[0] == "multiprocessing":
                yield getattr(node, "lineno", 0), name


def starts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name == "subprocess" for alias in node.names):
            yield node.lineno, "subprocess"
        if isinstance(node, ast.ImportFrom) and node.module == "subprocess":
            yield node.lineno, "subprocess"


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            path = file.relative_to(ROOT).as_posix()
            yield path, ast.parse(file.read_text(encoding="utf-8"), path)


def test_nothing_forks() -> None:
    assert [] == [f"{path}:{line}: {name}" for path, tree in modules() for line, name in forks(tree)]


def test_only_the_embedded_store_the_benchmarks_and_the_stack_start_programs() -> None:
    assert [] == [
        f"{path}:{line}" for path, tree in modules() if not path.startswith(STARTERS) for line, _ in starts(tree)
    ]


@pytest.mark.parametrize(
    "source",
    ["import os\nos.fork()", "from os import fork", "import multiprocessing.pool", "Popen(x, preexec_fn=f)"],
)
def test_a_planted_fork_is_found(source: str) -> None:
    assert list(forks(ast.parse(source)))
