"""What each emulator cannot do, test by test. See `judge.Cannot`; a run fails where an entry is no longer needed."""

from collections.abc import Mapping, Sequence

from tests.second_opinion.judge import Cannot


def each(tests: Sequence[str], says: str, why: str) -> list[Cannot]:
    """Return an entry for each test that one lack stops."""
    return [Cannot(test, says, why) for test in tests]


LOCAL_BIGQUERY: list[Cannot] = []

BQEMULATOR: list[Cannot] = []

CANNOT: Mapping[str, Sequence[Cannot]] = {"local-bigquery": LOCAL_BIGQUERY, "bqemulator": BQEMULATOR}
