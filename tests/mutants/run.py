"""Put each fault of the catalogue into a copy of the tree and see that a test notices: `make mutants`.

Exit code 0 when every fault was noticed, 1 when one survived, 2 when the run itself proves nothing: a test that fails
without the fault, a fault whose text is gone, a test run that broke.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from tests.mutants.catalogue import MUTANTS, ROOT, Mutant

# A fault may turn a test into an endless wait; the test's own timeout ends that, and this ends what is left.
RUN_TIMEOUT_S = 150
FAILED_TEST = re.compile(r"^FAILED \S+::(\S+)", re.MULTILINE)
PASSED, FAILED = 0, 1


class Broken(Exception):
    """The run proves nothing."""


@dataclass(frozen=True, slots=True)
class Fate:
    """Whether one test noticed one mutant, and the seconds that the mutant's whole run took."""

    mutant: Mutant
    test: str
    killed: bool
    seconds: float

    def row(self) -> tuple[str, ...]:
        verdict = "killed" if self.killed else "SURVIVED"
        return self.mutant.name, self.mutant.file, self.test, verdict, f"{self.seconds:.1f}"


def copy_tree(target: Path) -> None:
    """Copy what git tracks or would track."""
    git = shutil.which("git")
    if git is None:
        raise Broken("git is needed to list the tree")
    listing = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in set(listing.stdout.decode().split("\0")) - {""}:
        source, copy = ROOT / name, target / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)


def pytest(tree: Path, tests: Iterable[str]) -> "subprocess.CompletedProcess[str]":
    """Run *tests* on the product as it stands in *tree*; never from byte code, which a quick change may outrun."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "400"}
    options = ["-p", "no:cacheprovider", "-p", "no:randomly", "--tb=no", "-rf"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )


def check_copy(tree: Path, mutants: Sequence[Mutant]) -> None:
    """See that the product under test is the copy, and that without a fault every named test passes."""
    imported = subprocess.run(
        [sys.executable, "-c", "import worker, statemachine; print(worker.__file__, statemachine.__file__)"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    if not all(path.startswith(str(tree)) for path in imported.stdout.split()):
        raise Broken(f"the tests would not run on the copy but on {imported.stdout}")
    done = pytest(tree, sorted({test for mutant in mutants for test in mutant.tests}))
    if done.returncode != PASSED:
        raise Broken(f"without any fault:\n{done.stdout}{done.stderr}")


def fates_of(mutant: Mutant, tree: Path) -> list[Fate]:
    """Put the fault in, run its tests, take it out; every one of them has to fail, a parametrised one at least once."""
    file = tree / mutant.file
    sound = file.read_text(encoding="utf-8")
    file.write_text(mutant.applied_to(sound), encoding="utf-8")
    started = perf_counter()
    try:
        done = pytest(tree, mutant.tests)
    finally:
        file.write_text(sound, encoding="utf-8")
    seconds = perf_counter() - started
    failed = FAILED_TEST.findall(done.stdout)
    if done.returncode not in {PASSED, FAILED} or bool(failed) != (done.returncode == FAILED):
        raise Broken(f"{mutant.name}: pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return [
        Fate(mutant, name, any(test == name or test.startswith(f"{name}[") for test in failed), seconds)
        for name in (test.partition("::")[2] for test in mutant.tests)
    ]


def table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-+-".join("-" * width for width in widths), *lines[1:]])


def chosen(names: Sequence[str]) -> list[Mutant]:
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        raise Broken(f"no such mutant: {', '.join(sorted(unknown))}; see --list")
    return [mutant for mutant in MUTANTS if not names or mutant.name in names]


def run(mutants: Sequence[Mutant]) -> list[Fate]:
    with tempfile.TemporaryDirectory(prefix="mlfs-mutants-") as folder:
        tree = Path(folder).resolve()
        copy_tree(tree)
        check_copy(tree, mutants)
        return [fate for mutant in mutants for fate in fates_of(mutant, tree)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name the mutants and their tests, run nothing")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this one; may be repeated")
    arguments = parser.parse_args()
    try:
        mutants = chosen(arguments.only)
        if arguments.list:
            rows = [(mutant.name, mutant.file, test.split("::")[1]) for mutant in mutants for test in mutant.tests]
            sys.stdout.write(table([("mutant", "file", "test"), *rows]) + "\n")
            return 0
        started = perf_counter()
        fates = run(mutants)
    except (Broken, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    seconds = perf_counter() - started
    rows = [("mutant", "file", "test that kills it", "verdict", "seconds"), *(fate.row() for fate in fates)]
    survivors = {fate.mutant.name for fate in fates if not fate.killed}
    killed = len(mutants) - len(survivors)
    sys.stdout.write(f"{table(rows)}\n{killed} of {len(mutants)} killed in {seconds:.0f} s\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
