"""Two plugins of pytest: one runs an emulator beside the tests, the other judges failures by a list.

The list names each test that an emulator cannot pass, with the text that the failure must hold. A listed test that
passes fails the run, a listed test that fails in another way fails the run, and so does an entry that names no test.
"""

import os
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.second_opinion import Emulator, Running, Unprepared

# An emulator reads the catalogues of all projects at each statement, and each test opens a project.
TESTS_PER_PROCESS = 6


@dataclass(frozen=True, slots=True)
class Cannot:
    """An entry of the list.

    Attributes:
        test: Name of the test function, with its parameters where only these cannot work.
        says: Regular expression that the failure matches: the answer of the emulator, or what differs.
        why: What the emulator lacks, for the printed list.
    """

    test: str
    says: str
    why: str


@dataclass(eq=False)
class Beside:
    """Runs the emulator while the tests run; the variable `SECOND_OPINION` is its address."""

    emulator: Emulator
    running: Running | None = None
    started: int = 0

    def pytest_sessionstart(self) -> None:
        """Start the emulator."""
        try:
            self.running = Running(self.emulator)
            self.running.fresh()
        except Unprepared as error:
            pytest.exit(str(error), returncode=1)
        os.environ["SECOND_OPINION"] = self.running.address

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Start the emulator anew, without projects, after each few tests."""
        assert self.running is not None
        if self.started and self.started % TESTS_PER_PROCESS == 0:
            self.running.fresh()
        self.started += 1

    def pytest_sessionfinish(self) -> None:
        """End the emulator."""
        if self.running is not None:
            self.running.stop()


@dataclass(eq=False)
class Judge:
    """Runs the tests that speak to BigQuery alone, and expects the failures of the list."""

    name: str
    cannot: Sequence[Cannot]
    judged: list[tuple[Cannot, str]] = field(default_factory=list)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the tests that speak to BigQuery; refuse a list with an entry that names no test."""
        others = [item for item in items if not is_for_bigquery(item)]
        items[:] = [item for item in items if is_for_bigquery(item)]
        config.hook.pytest_deselected(items=others)
        gone = [entry.test for entry in self.cannot if not any(names(entry, item) for item in items)]
        if gone and not config.getoption("keyword"):
            raise pytest.UsageError(f"no such test, remove or rename the entry: {', '.join(gone)}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, pytest.TestReport]:
        """Turn the failure of an entry into an expected failure, and a success of its test into a failure."""
        report: Any = yield
        entry = next((entry for entry in self.cannot if names(entry, item)), None)
        if entry is None or report.skipped:
            return report
        if report.failed:
            said = "\n".join(words_of(call.excinfo.value)) if call.excinfo else ""
            if re.search(entry.says, said):
                report.outcome, report.wasxfail = "skipped", entry.why
                self.judged.append((entry, said))
            else:
                report.sections.append(("listed", f"the list expects a failure that says {entry.says!r}"))
        elif report.when == "call":
            report.outcome = "failed"
            report.longrepr = f"{self.name} can do this now: remove {entry.test} from the list"
        return report

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print what the emulator cannot do, with the reason and the emulator's own words."""
        answers = dict(self.judged)
        terminalreporter.section(f"what {self.name} cannot do: {len(answers)}")
        for entry, said in sorted(answers.items(), key=lambda pair: pair[0].test):
            words = next((line for line in said.splitlines() if re.search(entry.says, line)), said.split("\n")[0])
            terminalreporter.line(f"{entry.test}: {entry.why}\n    {words.strip()[:300]}")


def words_of(error: BaseException) -> Iterator[str]:
    """Yield the text of an error, of its cause and of each error in a group: pytest groups what threads raise."""
    yield str(error)
    if error.__cause__ is not None:
        yield from words_of(error.__cause__)
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from words_of(member)


def is_for_bigquery(item: pytest.Item) -> bool:
    """Return whether a test speaks to the server that `SECOND_OPINION` names."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return parameters.get("warehouse") == "bigquery" or "bigquery_address" in getattr(item, "fixturenames", ())


def names(entry: Cannot, item: pytest.Item) -> bool:
    """Return whether an entry names a test, or all parameters of the test."""
    return entry.test in {item.name, getattr(item, "originalname", item.name)}
