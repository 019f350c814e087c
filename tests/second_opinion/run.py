"""Ask an emulator that other people wrote: `python -m tests.second_opinion.run --emulator local-bigquery`.

The contract of the warehouse runs against the emulator, and a night is built there and on DuckDB and compared row by
row. What the emulator cannot do is listed in `expected`, and printed. Words after `--` go to pytest.
"""

import argparse
import sys
from collections.abc import Sequence

import pytest

from tests.second_opinion.expected import CANNOT
from tests.second_opinion.judge import Beside, Judge
from tests.support.second_opinion import EMULATORS, Unprepared, prepare

ASKED = ("tests/contract/test_warehouse_contract.py", "tests/second_opinion/night.py")
# The emulators are slow; the limit only ends what hangs.
TEST_TIMEOUT_S = 300


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emulator", choices=sorted(EMULATORS), default="local-bigquery")
    parser.add_argument("pytest", nargs="*", help="words for pytest, such as -k night")
    asked = parser.parse_args(arguments)
    emulator = EMULATORS[asked.emulator]
    try:
        prepare(emulator)
    except Unprepared as error:
        print(f"SKIPPED, nothing was compared: {error}", file=sys.stderr)  # noqa: T201 -- the answer of a program
        return 0
    words = ["--timeout", str(TEST_TIMEOUT_S), *asked.pytest, *ASKED]
    judge = Judge(f"{emulator.name} {emulator.version}", CANNOT[emulator.name])
    return int(pytest.main(words, plugins=[Beside(emulator), judge]))


if __name__ == "__main__":
    sys.exit(main())
