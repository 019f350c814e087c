"""The import contracts of pyproject.toml hold, and each of them bites when somebody breaks it."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("statemachine", "schemas", "worker", "ops")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

# For every contract: (the module that misbehaves, what is appended to it). A module that is not there is created.
BREAKS = [
    ("layers", "statemachine/model.py", "import schemas.completion"),
    ("layers", "schemas/completion.py", "import worker.errors"),
    ("layers", "worker/errors.py", "import ops"),
    ("pure-core", "statemachine/model.py", "import time"),
    ("pure-core", "worker/features/model.py", "import duckdb"),
    ("stdlib-core", "statemachine/model.py", "import pydantic"),
    ("floors", "worker/errors.py", "import worker.engine"),
    ("floors", "worker/engine.py", "import worker.adapters.redis.store"),
    ("floors", "worker/module_without_a_floor.py", "import worker.errors"),
]


def lint_imports(root: Path, contract: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    return subprocess.run(
        [*command, "--contract", contract] if contract else command,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_import_contract_is_kept() -> None:
    result = lint_imports(ROOT)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(("contract", "module", "forbidden"), BREAKS)
def test_a_forbidden_import_breaks_its_contract(checkout: Path, contract: str, module: str, forbidden: str) -> None:
    with (checkout / module).open("a") as source:
        source.write(f"\n{forbidden}\n")

    result = lint_imports(checkout, contract)

    assert result.returncode == 1, result.stdout + result.stderr
    assert "Contracts: 0 kept, 1 broken." in result.stdout


def test_every_contract_has_a_planted_break() -> None:
    assert {contract["id"] for contract in CONTRACTS} == {contract for contract, _, _ in BREAKS}
