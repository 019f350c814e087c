"""The four top-level packages are common words: the wheel carries exactly them, and nothing else may own the names."""

import importlib.metadata
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DISTRIBUTION = "ml-feature-store-worker"
PACKAGES = ("statemachine", "schemas", "worker", "ops")
LOCKS = ("requirements.lock", "requirements-dev.lock")

# Test equipment stays in the checkout.
TEST_EQUIPMENT = ("bigquery_peer", "compose_runner", "memory_store", "memory_requests")

# Each of these installs a top-level package named like one of ours and overwrites it without a word.
RIVALS = {"python-statemachine", "statemachine", "ops", "schemas", "worker"}


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def locked(lock: str) -> dict[str, str]:
    """The distributions that a lock file pins, by normalised name."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins}


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel_names: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}

    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_the_wheel_holds_every_module_and_data_file_of_the_checkout(wheel_names: list[str]) -> None:
    in_checkout = {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for ending in ("*.py", "py.typed", "*.sql", "*.lua", "*.html", "*.css", "*.js")
        for file in (ROOT / package).rglob(ending)
    }

    assert sorted(in_checkout - set(wheel_names)) == []
    assert any(name.endswith(".lua") for name in in_checkout)
    assert any(name.endswith(".sql") for name in in_checkout)
    assert any(name.endswith(".html") for name in in_checkout)


def test_the_wheel_holds_no_tests_and_no_test_equipment(wheel_names: list[str]) -> None:
    assert [name for name in wheel_names if any(part in name for part in TEST_EQUIPMENT)] == []
    assert [name for name in wheel_names if re.search(r"(^|/)(tests?/|test_|conftest)", name)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_installed_distribution_owns_the_package(package: str) -> None:
    owners = importlib.metadata.packages_distributions().get(package, [])

    assert set(owners) <= {DISTRIBUTION}


@pytest.mark.parametrize("lock", LOCKS)
def test_no_rival_of_our_package_names_is_locked(lock: str) -> None:
    assert locked(lock).keys() & RIVALS == set()


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host_and_no_path(lock: str) -> None:
    suspicious = re.compile(r"https?:|://|file:| @ |--(extra-)?index-url|--find-links|^/|^-e", re.IGNORECASE)

    assert [line for line in (ROOT / lock).read_text().splitlines() if suspicious.search(line)] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_distribution_has_a_hash(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())

    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_development_lock_contains_the_runtime_lock() -> None:
    assert locked("requirements.lock").items() <= locked("requirements-dev.lock").items()


def test_the_locks_cover_what_the_project_asks_for() -> None:
    """What only an extra asks for is locked where its tests need it; the DataFrames are the user's choice."""
    requires = importlib.metadata.requires(DISTRIBUTION) or []
    extra = [line for line in requires if "extra ==" in line and "pandas" not in line and "polars" not in line]

    def names(lines: list[str]) -> set[str]:
        return {re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", line)[0]).lower() for line in lines}

    assert names([line for line in requires if "extra ==" not in line]) - locked("requirements.lock").keys() == set()
    assert names(extra) - locked("requirements-dev.lock").keys() == set()
