"""What each emulator cannot do, test by test. See `judge.Cannot`; a run fails where an entry is no longer needed."""

from collections.abc import Mapping, Sequence

from tests.second_opinion.judge import Cannot


def each(tests: Sequence[str], says: str, why: str) -> list[Cannot]:
    """Return an entry for each test that one lack stops."""
    return [Cannot(test, says, why) for test in tests]


LOCAL_BIGQUERY: list[Cannot] = []

BQEMULATOR = [
    *each(
        [
            "test_a_claim_can_be_repeated",
            "test_a_claim_leaves_what_is_published",
            "test_a_claim_publishes_nothing",
            "test_a_committed_generation_is_final",
            "test_a_newer_generation_replaces_the_date",
            "test_a_publication_shows_its_rows_and_its_bookkeeping",
            "test_a_publication_without_its_staging_table_changes_nothing",
            "test_an_older_attempt_is_fenced_from_the_claim_on",
            "test_creating_the_tables_twice_keeps_what_is_in_them",
            "test_features_are_exported",
            "test_of_two_claimants_of_one_token_the_first_has_it",
            "test_one_date_never_touches_another",
            "test_publishing_the_same_token_again_changes_nothing",
            "test_the_claimant_publishes",
            "test_the_ledger_tells_what_was_committed",
            "test_the_newest_claim_can_be_read",
            "test_threads_publish_and_read_at_once",
        ],
        "Values were not provided for the following prepared statement parameters",
        "it takes no parameters in scripts",
    ),
    Cannot(
        "test_of_many_claimants_of_one_date_the_newest_stands",
        "not enough values to unpack|Values were not provided for the following prepared statement parameters",
        "it takes no parameters in scripts, so nobody publishes",
    ),
    *each(
        [
            "test_attempts_stage_apart",
            "test_pipelines_of_one_project_stage_apart",
            "test_staged_rows_are_read_under_the_placeholder",
            "test_staging_again_replaces",
        ],
        r"Table \S+ was not found",
        "it does not write the result of a query into the destination table",
    ),
    Cannot(
        "test_what_was_taken_back_comes_back_as_it_was_written",
        "Parameter argument/count mismatch",
        "it counts parameters that stand in a comment",
    ),
    Cannot(
        "test_a_night_is_the_same_rows_on_the_emulator",
        r"Table with name \w+ does not exist",
        "a load job of it makes no table",
    ),
]

CANNOT: Mapping[str, Sequence[Cannot]] = {"local-bigquery": LOCAL_BIGQUERY, "bqemulator": BQEMULATOR}
