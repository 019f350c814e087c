"""What each emulator cannot do, test by test. See `judge.Cannot`; a run fails where an entry is no longer needed."""

from collections.abc import Mapping, Sequence

from tests.second_opinion.judge import Cannot

LOCAL_BIGQUERY: list[Cannot] = []

BQEMULATOR = [
    Cannot(
        "test_a_night_is_the_same_rows_on_the_emulator",
        r"Table with name \w+ does not exist",
        "a load job of it makes no table",
    ),
]

CANNOT: Mapping[str, Sequence[Cannot]] = {"local-bigquery": LOCAL_BIGQUERY, "bqemulator": BQEMULATOR}
