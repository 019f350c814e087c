"""The table of docs/reliability.md: each kind of corruption, and on how many nights a build noticed the kind.

Run: python -m tests.measurements.noticed [FOLDER OF REAL NIGHTS]
"""

# ruff: noqa: T201 -- a script's output

import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path

from tests.support.corrupted_season import Caught, judge_all
from tests.support.corruptions import CORRUPTIONS
from worker.local.sample.data import write_sample_data

LAST = date(2024, 12, 15)
NIGHTS = 20
REAL_NIGHTS = [date(2024, 11, 1) + timedelta(days=day) for day in range(49)]


def main() -> None:
    """Print the table, then every night that was missed."""
    with tempfile.TemporaryDirectory() as folder:
        write_sample_data(Path(folder), analysis_date=LAST, nights_before=NIGHTS - 1)
        results = {
            "generated nights": judge_all(Path(folder), [LAST - timedelta(days=n) for n in reversed(range(NIGHTS))])
        }
    if len(sys.argv) > 1:
        results["real nights"] = judge_all(Path(sys.argv[1]), REAL_NIGHTS)
    print(f"| kind | noticed by | severity, state | {' | '.join(results)} |")
    print(f"|---|---|---|{'---|' * len(results)}")
    for kind in CORRUPTIONS:
        counts = [_count(result[kind.name]) for result in results.values()]
        checks = ", ".join(f"`{check}`" for check in sorted(kind.checks))
        print(f"| {kind.name} | {checks} | {kind.severity}, {kind.state} | {' | '.join(counts)} |")
    for where, result in results.items():
        for name, caught in result.items():
            for night, text in caught.missed:
                print(f"missed ({where}): {name}, {night}: {text}", file=sys.stderr)


def _count(caught: Caught) -> str:
    return f"{caught.nights - len(caught.missed)} of {caught.nights}"


if __name__ == "__main__":
    main()
