"""Faults that somebody could put into the product, each with the test that must notice.

A guarantee that no test misses when it is taken away is not guarded. `make mutants` takes them away one by one.
"""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

COMMIT = "worker/adapters/redis/commit.lua"
ARRIVALS = "worker/foresight/recording.py"
ARRIVALS_TESTS = "tests/unit/test_arrivals.py"
BUILDS = "statemachine/builds.py"
TIMERS = "statemachine/timers.py"
ASKED = "statemachine/interventions.py"
REDIS = "worker/adapters/redis/store.py"
FENCE = "worker/features/records.py"
BIGQUERY = "worker/adapters/bigquery/warehouse.py"
BIGQUERY_JOBS = "worker/adapters/bigquery/jobs.py"
BIGQUERY_ERRORS = "worker/adapters/bigquery/errors.py"
PUBLISH_SQL = "worker/features/templates/dml/publish.sql"
FEATURES_SQL = "worker/features/templates/sql/features.sql"
SQL = "worker/features/sql.py"
USABLE = "worker/features/usable.py"
OUTLOOK = "worker/foresight/outlook.py"
OUTLOOK_TESTS = "tests/unit/test_outlook.py"
OUTLOOK_NIGHT = "tests/integration/test_outlook.py"
UNUSABLE = "tests/integration/test_unusable_upstream.py"
DEFINITION_FILES = "worker/pipelines/files.py"

STORE_CONTRACT = "tests/contract/test_state_store_contract.py"
SAMPLE_NIGHTS = "tests/integration/test_build_sample_nights.py"
WAREHOUSE_CONTRACT = "tests/contract/test_warehouse_contract.py"
BIGQUERY_FAULTS = "tests/faults/test_bigquery_faults.py"
DOCTOR = "tests/integration/test_doctor.py"
PULLING = "tests/integration/test_pulling.py"
OIDC = "worker/adapters/google_tokens.py"
PAGE = "tests/unit/test_status_page.py"
TRACING_TESTS = "tests/unit/test_tracing.py"
OIDC_TESTS = "tests/unit/test_oidc_tokens.py"
INTERVENTIONS = "tests/unit/test_interventions.py"
CONNECTIONS = "tests/unit/test_connections.py"
REPLICATION = "tests/contract/test_redis_replication.py"
DAMAGE = "tests/contract/test_redis_store_damage.py"
LOG_WRITER = "worker/observing/logs.py"
LOG_WRITER_TESTS = "tests/unit/test_log_writer.py"
VALKEY = "worker/local/valkey.py"
EMBEDDED = "tests/integration/test_embedded_servers.py"
JOURNAL = "worker/local/pubsub/journal.py"
JOURNAL_TESTS = "tests/contract/test_pubsub_journal.py"
TIME = "tests/unit/test_decide_time.py"
OPTIONAL = "tests/unit/test_decide_optional.py"
SWEEP = "tests/unit/test_deadlines.py"
CANARY_FAULTS = "tests/faults/test_canary_faults.py"
JUDGE = "tests/chaos/test_check.py"
SIMULATION = "tests/simulation/test_simulation.py"
ROLLING = "tests/acceptance/test_rolling_upgrade.py"
GENERATIONS = "worker/features/generations.py"
GENERATIONS_CONTRACT = "tests/contract/test_generations_contract.py"
CHANGES = "tests/unit/test_changes_of_an_upgrade.py"
PROFILE_FINDINGS = "worker/features/profile_findings.py"
PROFILE_FINDINGS_TESTS = "tests/unit/test_profile_findings.py"
PROFILE_OF_A_BUILD = "tests/integration/test_profile_of_a_build.py"
UNPUBLISHED = "worker/features/templates/parts/unpublished.sql"
PARQUET = "worker/adapters/duckdb/parquet.py"
LINKED_FILES = "tests/integration/test_linked_files.py"
PARQUET_TYPES = "tests/integration/test_parquet_types.py"
SUPERSEDED = "worker/features/templates/parts/superseded.sql"
DOUBTS = "tests/unit/test_decide_findings.py"
FINDINGS = "tests/unit/test_findings_of_a_build.py"
NUMBERS_AND_GAMES = "tests/integration/test_numbers_and_games.py"
BACKTEST = "worker/foresight/backtest.py"
BACKTEST_TESTS = "tests/unit/test_backtest.py"
PLAYED_SEASONS = "tests/simulation/test_backtest.py::test_a_backtest_ends_every_night_as_a_worker_would"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One fault.

    Attributes:
        name: What is taken away.
        file: The product file.
        old: Text that stands there exactly once.
        new: What it becomes.
        tests: Test ids of pytest; each of them must fail, a parametrised one at least once.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied_to(self, source: str) -> str:
        """Give the source with the fault in it; refuse where the text is not there exactly once."""
        found = source.count(self.old)
        if found != 1:
            raise ValueError(f"{self.name}: its text stands {found} times in {self.file}, not once:\n{self.old}")
        return source.replace(self.old, self.new)


MUTANTS = (
    Mutant(
        name="commit-ignores-version",
        file=COMMIT,
        old="if (stored[1] or '0') ~= ARGV[1] or (stored[2] or '') ~= ARGV[11] then",
        new="if false then",
        tests=(f"{STORE_CONTRACT}::test_a_commit_on_a_version_that_has_moved_on_stores_nothing[valkey]",),
    ),
    Mutant(
        name="commit-ignores-revision",
        file=COMMIT,
        old=" or (stored[2] or '') ~= ARGV[11] then",
        new=" then",
        tests=(
            f"{STORE_CONTRACT}::test_a_decision_on_a_lost_record_is_not_stored_on_the_next_life_of_the_date[valkey]",
        ),
    ),
    Mutant(
        name="commit-forgets-operations",
        file=COMMIT,
        old="if redis.call('EXISTS', KEYS[7]) == 1 then",
        new="if false then",
        tests=(f"{STORE_CONTRACT}::test_an_operation_sent_twice_is_stored_once[valkey]",),
    ),
    Mutant(
        name="repeat-waits-for-no-replica",
        file=COMMIT,
        old="  redis.call('PEXPIRE', KEYS[7], ARGV[9])\n",
        new="",
        tests=(f"{REPLICATION}::test_a_commit_repeated_on_a_new_connection_waits_for_the_replica_too[valkey]",),
    ),
    Mutant(
        name="a-report-leaves-no-mark",
        file=COMMIT,
        old="if ARGV[13] ~= '' then\n",
        new="if false then\n",
        tests=(f"{STORE_CONTRACT}::test_a_commit_with_reports_marks_its_date_until_the_mark_is_removed[valkey]",),
    ),
    Mutant(
        name="a-newer-mark-is-removed",
        file="worker/adapters/redis/unmark.lua",
        old="  if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or '-1') == tonumber(ARGV[i + 1]) then\n",
        new="  if true then\n",
        tests=(f"{STORE_CONTRACT}::test_a_mark_that_a_later_commit_replaced_stays[valkey]",),
    ),
    Mutant(
        name="arrivals-of-an-unsettled-night",
        file=ARRIVALS,
        old="    if record.state in TERMINAL_STATES and record.wake_at is None:\n",
        new="    if record.state in TERMINAL_STATES:\n",
        tests=(f"{ARRIVALS_TESTS}::test_a_night_with_a_step_to_come_is_not_written",),
    ),
    Mutant(
        name="arrivals-of-the-record-alone-are-lost",
        file=ARRIVALS,
        old="    for name, kept in record.completions.items():\n",
        new="    for name, kept in ():\n",
        tests=(f"{ARRIVALS_TESTS}::test_reports_that_a_release_without_reports_stored_are_written_from_the_record",),
    ),
    Mutant(
        name="a-refused-night-stops-the-others",
        file=ARRIVALS,
        old="            if len(found) == 1:\n                return [], exc\n",
        new="            return [], exc\n",
        tests=(f"{ARRIVALS_TESTS}::test_a_night_that_the_warehouse_refuses_stops_no_other_night",),
    ),
    Mutant(
        name="marks-go-before-the-rows",
        file=ARRIVALS,
        old="        self._store.arrivals_written({day: marks[day] for day in done})\n",
        new="        self._store.arrivals_written({day: marks[day] for day in settled})\n",
        tests=(f"{ARRIVALS_TESTS}::test_while_the_warehouse_is_away_the_marks_stay_and_the_log_says_so_once",),
    ),
    Mutant(
        name="an-arrival-is-appended-again",
        file="worker/adapters/duckdb/warehouse.py",
        old="arrival_rows(arrivals), identity=IDENTITY)\n",
        new="arrival_rows(arrivals))\n",
        tests=(
            f"{WAREHOUSE_CONTRACT}"
            "::test_an_arrival_recorded_again_changes_nothing_and_a_new_one_beside_it_is_added[memory]",
        ),
    ),
    Mutant(
        name="commit-drops-messages",
        file=COMMIT,
        old="""  redis.call('XADD', KEYS[4], '*', 'event_id', ARGV[i], 'topic', ARGV[i + 1], 'data', ARGV[i + 2],
    'attributes', ARGV[i + 3], 'ordering_key', ARGV[i + 4])
""",
        new="",
        tests=(f"{STORE_CONTRACT}::test_the_outbox_gives_messages_in_order_until_each_is_removed[valkey]",),
    ),
    Mutant(
        name="commit-sets-no-wake",
        file=COMMIT,
        old="  redis.call('ZADD', KEYS[2], ARGV[5], ARGV[4])\n",
        new="",
        tests=(f"{STORE_CONTRACT}::test_dates_come_due_in_the_order_of_their_instants[valkey]",),
    ),
    Mutant(
        name="ledger-ignores-newer-claims",
        file=FENCE,
        old="        if (generation, attempt) > key.token:\n",
        new="        if (generation, attempt) > key.token and wanted == 'nothing':\n",
        tests=(f"{WAREHOUSE_CONTRACT}::test_an_older_attempt_is_fenced_from_the_claim_on",),
    ),
    Mutant(
        name="ledger-ignores-generation",
        file=FENCE,
        old='    if row["generation"] >= key.generation:',
        new='    if row["generation"] > key.generation:',
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_committed_generation_is_final",),
    ),
    Mutant(
        name="ledger-ignores-claimant",
        file=FENCE,
        old="        if (generation, attempt) == key.token and holder != claimant:\n",
        new="        if (generation, attempt) == key.token and not claimant:\n",
        tests=(f"{WAREHOUSE_CONTRACT}::test_of_two_claimants_of_one_token_the_first_has_it",),
    ),
    Mutant(
        name="publication-ignores-the-claimant",
        file=PUBLISH_SQL,
        old="  AND ledger.claimed_by = @claimant\n",
        new="",
        tests=(f"{BIGQUERY_FAULTS}::test_rows_of_another_claimants_attempt_are_not_published",),
    ),
    Mutant(
        name="bigquery-trusts-a-job-it-attached-to",
        file=BIGQUERY,
        old="                if finished.changed and not finished.attached:\n",
        new="                if finished.changed:\n",
        tests=(f"{BIGQUERY_FAULTS}::test_a_repeated_claim_that_was_overtaken_is_fenced_although_its_job_succeeded",),
    ),
    Mutant(
        name="bigquery-trusts-a-statement-that-changed-nothing",
        file=BIGQUERY,
        old="                if finished.changed and not finished.attached:\n",
        new="                if not finished.attached:\n",
        tests=(f"{BIGQUERY_FAULTS}::test_a_claim_never_takes_another_workers_claim_for_its_own",),
    ),
    Mutant(
        name="bigquery-counts-the-tries-of-a-conflict",
        file=BIGQUERY_JOBS,
        old=" or self._seconds() >= gives_up_at:\n",
        new=" or tries >= 8:\n",
        tests=(f"{BIGQUERY_FAULTS}::test_conflicts_that_end_within_five_minutes_are_outlasted",),
    ),
    Mutant(
        name="bigquery-never-gives-a-conflict-up",
        file=BIGQUERY_JOBS,
        old=" or self._seconds() >= gives_up_at:\n",
        new=":\n",
        tests=(f"{BIGQUERY_FAULTS}::test_conflicts_without_end_are_given_up_with_nothing_changed",),
    ),
    Mutant(
        name="bigquery-gives-up-where-too-many-statements-wait",
        file=BIGQUERY_ERRORS,
        old=', "too many DML statements outstanding")',
        new=")",
        tests=(f"{BIGQUERY_FAULTS}::test_too_many_statements_that_wait_pass_by_themselves",),
    ),
    Mutant(
        name="bigquery-hopes-for-resources-that-never-come",
        file=BIGQUERY_ERRORS,
        old='        *("resourcesExceeded", "responseTooLarge"),\n',
        new='        *("responseTooLarge",),\n',
        tests=(f"{BIGQUERY_FAULTS}::test_the_reason_decides_and_not_the_status",),
    ),
    Mutant(
        name="bigquery-counts-the-time-of-a-job-as-time-of-tries",
        file=BIGQUERY_JOBS,
        old="        tries, gives_up_at = 0, 0.0\n",
        new="        tries, gives_up_at = 0, self._seconds() + self._limits.retry_s\n",
        tests=(f"{BIGQUERY_FAULTS}::test_a_job_that_failed_late_gets_a_second_try",),
    ),
    Mutant(
        name="bigquery-looks-for-tables-one-after-the-other",
        file="worker/adapters/bigquery/tables.py",
        old="ThreadPoolExecutor(LOOKS_AT_ONCE)",
        new="ThreadPoolExecutor(1)",
        tests=(f"{BIGQUERY_FAULTS}::test_upstream_tables_are_looked_for_side_by_side",),
    ),
    Mutant(
        name="bigquery-names-no-table-of-a-missing-dataset",
        file=BIGQUERY_ERRORS,
        old="    if lost is None:\n",
        new="    if True:\n",
        tests=(f"{BIGQUERY_FAULTS}::test_a_dataset_that_is_missing_is_named_with_the_table",),
    ),
    Mutant(
        name="a-parameter-without-a-value-stays-in-the-text",
        file="worker/features/plan.py",
        old="unset=frozenset(values.keys() - given)",
        new="unset=frozenset()",
        tests=("tests/integration/test_bigquery_night.py::test_a_date_takes_six_jobs_from_claim_to_publication",),
    ),
    Mutant(
        name="costs-denied-name-no-role",
        file=BIGQUERY_ERRORS,
        old='COST_READER if is_denied and "INFORMATION_SCHEMA" in str(error) else NEXT_STEPS.get(reason)',
        new="NEXT_STEPS.get(reason)",
        tests=(
            "tests/integration/test_bigquery_night.py::test_costs_that_the_account_may_not_see_name_the_role_that_it_needs",
        ),
    ),
    Mutant(
        name="doctor-counts-on-rows-before-the-end-of-a-script",
        file="worker/adapters/bigquery/permissions.py",
        old="ROLLBACK TRANSACTION;\nSELECT found AS row_count;",
        new="SELECT found AS row_count;\nROLLBACK TRANSACTION;",
        tests=(f"{DOCTOR}::test_the_permission_tests_run_as_the_account_that_builds_and_leave_nothing",),
    ),
    Mutant(
        name="bigquery-does-not-ask-the-ledger-after-an-error",
        file=BIGQUERY,
        old="                failure = error\n",
        new="                raise error\n",
        tests=(f"{BIGQUERY_FAULTS}::test_a_commit_whose_answer_never_came_is_found_in_the_ledger",),
    ),
    Mutant(
        name="bigquery-tries-a-burnt-job-id-again",
        file=BIGQUERY_JOBS,
        old='f"{spec.job_id}-r{number}"',
        new="spec.job_id",
        tests=(f"{BIGQUERY_FAULTS}::test_a_job_that_failed_in_passing_runs_again_under_another_id",),
    ),
    Mutant(
        name="gives-up-without-closing-the-ledger",
        file="worker/repair.py",
        old="            self._warehouse.claim(key, self._clock.now(), CLOSING)\n",
        new="            pass\n",
        tests=("tests/unit/test_published_unreported.py::test_what_is_called_failed_can_no_longer_be_published",),
    ),
    Mutant(
        name="gives-up-without-asking-the-ledger",
        file=BUILDS,
        old='            return give_up(record, Reason.GIVING_UP, failure, "nobody")\n',
        new="            reason, because = Reason.RETRIES_EXHAUSTED, FailedBecause.RETRIES_EXHAUSTED\n",
        tests=("tests/unit/test_decide_builds.py::test_a_generation_is_given_up_only_after_the_ledger_was_asked",),
    ),
    Mutant(
        name="commit-ignores-replicas",
        file=REDIS,
        old="        if not isinstance(reached, int) or reached < self._replicas:",
        new="        if reached < 0:",
        tests=(f"{REPLICATION}::test_a_commit_is_unavailable_while_the_replica_stands_still[valkey]",),
    ),
    Mutant(
        name="repeat-without-barrier",
        file="worker/engine.py",
        old="                self._store.barrier()\n",
        new="                pass\n",
        tests=(
            "tests/unit/test_intake.py::test_a_repeat_is_acknowledged_only_once_the_first_is_durable",
            f"{REPLICATION}::test_a_repeat_is_not_acknowledged_before_the_replica_holds_the_first[valkey]",
        ),
    ),
    Mutant(
        name="intake-acks-unstored",
        file="worker/intake.py",
        old='            outcome, verdict = "unavailable", Verdict.HOLD',
        new='            outcome, verdict = "unavailable", Verdict.ACK',
        tests=("tests/unit/test_intake.py::test_what_could_not_be_stored_stays_with_the_bus",),
    ),
    Mutant(
        name="relay-removes-unconfirmed",
        file="worker/relay.py",
        old="        try:\n            with publishing(self._tracer, message) as traced:\n",
        new="        self._store.remove_from_outbox(entry.entry_id)\n"
        "        try:\n            with publishing(self._tracer, message) as traced:\n",
        tests=("tests/unit/test_relay.py::test_what_is_not_confirmed_stays_and_holds_back_only_its_own_date",),
    ),
    Mutant(
        name="redrive-removes-unconfirmed",
        file="worker/dead_letters.py",
        old="            queue.send_again(letters)\n",
        new="            queue.remove(batch)\n            queue.send_again(letters)\n",
        tests=(
            "tests/unit/test_redrive.py::test_broken_off_it_says_how_far_it_came_and_loses_nothing[send_again-100-100]",
        ),
    ),
    Mutant(
        name="redriven-message-is-another",
        file="schemas/completion.py",
        old="    return first if known else delivery.message_id",
        new="    return delivery.message_id",
        tests=("tests/unit/test_dead_letter.py::test_sent_twice_by_accident_it_is_one_completion",),
    ),
    Mutant(
        name="failure-counts-as-success",
        file="statemachine/model.py",
        old="        return self.status is not CompletionStatus.FAILED",
        new="        return self.status in CompletionStatus",
        tests=("tests/unit/test_decide.py::test_a_failed_processor_is_shown_but_does_not_count",),
    ),
    Mutant(
        name="deadline-without-probe",
        file=TIMERS,
        old="    if probe is None:\n        return Ruling(Reason.NEEDS_PROBE)\n    kept =",
        new="    probe = probe or {}\n    kept =",
        tests=("tests/unit/test_decide.py::test_nothing_falls_back_before_somebody_has_looked_into_the_tables",),
    ),
    Mutant(
        name="renewal-under-the-old-revision",
        file="worker/adapters/redis/renew.lua",
        old="redis.call('HSET', KEYS[1], 'n', ARGV[3], 'l', ARGV[4])\n",
        new="redis.call('HSET', KEYS[1], 'l', ARGV[4])\n",
        tests=(
            f"{STORE_CONTRACT}::test_a_decision_on_the_record_before_a_renewal_is_a_conflict[fakeredis]",
            f"{STORE_CONTRACT}::test_a_renewal_extends_the_lease_and_changes_nothing_else[fakeredis]",
        ),
    ),
    Mutant(
        name="renewal-of-any-record",
        file="worker/adapters/redis/renew.lua",
        old="if stored[1] ~= ARGV[1] or (revision ~= ARGV[2] and revision ~= ARGV[3]) then\n",
        new="if stored[1] == nil then\n",
        tests=(f"{STORE_CONTRACT}::test_a_renewal_of_a_lost_record_is_a_conflict[fakeredis]",),
    ),
    Mutant(
        name="renewal-of-an-earlier-commit-counts",
        file="worker/adapters/redis/fields.py",
        old="    if revision != record.revision.encode():\n",
        new="    if not revision:\n",
        tests=(f"{STORE_CONTRACT}::test_a_commit_after_a_renewal_replaces_the_renewal[fakeredis]",),
    ),
    Mutant(
        name="lease-renewed-by-any-token",
        file="statemachine/evidence.py",
        old="    return now_building == (event.generation, event.attempt, event.claimant)\n",
        new="    return bool(now_building)\n",
        tests=("tests/unit/test_decide_builds.py::test_nobody_renews_the_lease_of_another_token",),
    ),
    Mutant(
        name="failed-attempts-unbounded",
        file=BUILDS,
        old="        case FailureKind.UNAVAILABLE if record.attempt < policy.attempts_max:",
        new="        case FailureKind.UNAVAILABLE if record.attempt < 2 * policy.attempts_max:",
        tests=("tests/unit/test_decide_builds.py::test_the_last_attempt_fails_the_generation",),
    ),
    Mutant(
        name="expired-leases-unbounded",
        file=TIMERS,
        old="    if not record.giving_up and record.attempt < policy.attempts_max:\n",
        new="    if not record.giving_up and record.attempt < 2 * policy.attempts_max:\n",
        tests=("tests/unit/test_decide_builds.py::test_a_date_whose_workers_all_die_fails_in_the_end",),
    ),
    Mutant(
        name="claims-without-following",
        file="worker/builds/builder.py",
        old="            self.follow(committed)\n",
        new="            pass\n",
        tests=(
            "tests/unit/test_builder.py::test_a_publication_that_nobody_reported_is_told_before_another_generation_is_built",
            "tests/unit/test_builder.py::test_a_date_that_the_store_lost_is_taken_over_from_the_ledger_and_not_built_again",
        ),
    ),
    Mutant(
        name="sweep-looks-at-the-head-only",
        file="worker/sweep.py",
        old="        self._skip = self._skip + BATCH_MAX if len(due) == BATCH_MAX else 0\n",
        new="        self._skip = 0\n",
        tests=("tests/unit/test_deadlines.py::test_dates_that_wait_for_a_build_hide_no_deadline",),
    ),
    Mutant(
        name="cancels-without-closing-the-ledger",
        file=ASKED,
        old="    if record.attempt:\n        # An attempt may",
        new="    if record.attempt < 0:\n        # An attempt may",
        tests=("tests/unit/test_decide_published.py::test_a_cancel_of_a_date_that_was_tried_closes_the_ledger_first",),
    ),
    Mutant(
        name="gate-ignored",
        file="worker/builds/steps.py",
        old="    if not report.gate_passed:",
        new="    if not report.row_count:",
        tests=("tests/unit/test_builder.py::test_a_build_below_the_gate_is_not_published",),
    ),
    Mutant(
        name="copies-are-copied",
        file="worker/features/templates/sql/yesterday.sql",
        old=" AND data_source <> 'yesterday'",
        new="",
        tests=("tests/integration/test_yesterday.py::test_a_copy_is_never_copied_again",),
    ),
    Mutant(
        name="row-score-on-another-line",
        file=SQL,
        old="_decimal(100 - low + slope * left)",
        new="_decimal(100 - low)",
        tests=(f"{SAMPLE_NIGHTS}::test_a_night_with_faults",),
    ),
    Mutant(
        name="source-date-of-a-row-that-gave-nothing",
        file=FEATURES_SQL,
        old='{{ features_from(table.name) | each("{} IS NOT NULL") | joined("OR", 8) }},',
        new="{{ table.short }}_date IS NOT NULL,",
        tests=("tests/integration/test_build_small.py::test_a_defense_row_that_gave_no_cell_gives_no_date",),
    ),
    Mutant(
        name="nan-is-a-value",
        file="worker/features/pipeline.py",
        old='return (*finite(text), f"AS {name}")',
        new='return (text, f"AS {name}")',
        tests=(f"{NUMBERS_AND_GAMES}::test_a_value_that_is_no_number_counts_as_null_in_its_place",),
    ),
    Mutant(
        name="a-superseded-row-still-makes-a-game",
        file="worker/features/templates/parts/scheduled.sql",
        old="PARTITION BY {{ schedule.game }} ORDER BY processed_at",
        new="PARTITION BY {{ schedule.game }}, {{ day }} ORDER BY processed_at",
        tests=(f"{NUMBERS_AND_GAMES}::test_of_the_rows_of_a_game_the_newest_counts_wherever_it_puts_the_game",),
    ),
    Mutant(
        name="a-night-without-schedule-has-no-games",
        file="worker/features/templates/parts/tonight.sql",
        old="(SELECT COUNT(*) FROM scheduled) = 0",
        new="(SELECT COUNT(*) FROM scheduled) < 0",
        tests=(f"{NUMBERS_AND_GAMES}::test_without_a_schedule_the_opponents_come_from_phase4",),
    ),
    Mutant(
        name="an-unknown-team-plays",
        file="worker/features/templates/parts/scheduled.sql",
        old="(SELECT COUNT(*) FROM known_team) = 0",
        new="(SELECT COUNT(*) FROM known_team) >= 0",
        tests=(f"{NUMBERS_AND_GAMES}::test_a_game_of_an_empty_or_unknown_team_is_no_game",),
    ),
    Mutant(
        name="refused-publish-is-not-counted",
        file="worker/builds/builder.py",
        old='return committed, "adopted" if adopted else "fenced"',
        new='return committed, "adopted"',
        tests=("tests/faults/test_readers_see_whole_dates.py::test_a_stale_workers_publish_is_refused_and_counted",),
    ),
    Mutant(
        name="drift-is-not-looked-for-at-the-start",
        file="worker/app.py",
        old='            Loop(name="schema", run_once=SchemaWatch(warehouse, observer).run_once),\n',
        new="",
        tests=("tests/acceptance/test_worker_process.py::test_a_worker_over_drifted_tables_shows_them_and_stays_up",),
    ),
    Mutant(
        name="resources-are-opened-by-the-first-thread-that-asks",
        file="worker/app.py",
        old="        resources.open()\n",
        new="",
        tests=("tests/unit/test_wiring.py::test_every_resource_is_open_before_the_first_thread_starts",),
    ),
    Mutant(
        name="a-build-that-fails-keeps-its-date-out-of-the-queue",
        file="worker/builds/queue.py",
        old="        finally:\n            self.queue.finished(day)\n",
        new="        else:\n            self.queue.finished(day)\n",
        tests=("tests/unit/test_wiring.py::test_a_build_that_fails_stops_no_other_and_its_date_can_be_queued_again",),
    ),
    Mutant(
        name="gives-back-what-an-absent-store-did-not-take",
        file="worker/adapters/pubsub/pull.py",
        old="            elif verdict is Verdict.RETRY:\n",
        new="            else:\n",
        tests=(f"{PULLING}::test_a_short_absence_of_the_store_gives_no_message_back",),
    ),
    Mutant(
        name="believes-a-silent-stream",
        file="worker/adapters/pubsub/watchdog.py",
        old="is_proof = answer is PullCheckResult.MESSAGE or (",
        new="is_proof = (",
        tests=(f"{PULLING}::test_a_silent_stream_is_replaced_and_its_message_handled_within_two_minutes",),
    ),
    Mutant(
        name="replaces-a-stream-while-the-bus-is-away",
        file="worker/adapters/pubsub/watchdog.py",
        old="            if is_alive or not is_proof:\n",
        new="            if is_alive:\n",
        tests=(f"{PULLING}::test_a_bus_that_is_away_is_waited_for",),
    ),
    Mutant(
        name="a-message-found-by-asking-is-only-acknowledged",
        file="worker/adapters/pubsub/pull.py",
        old="probe.settle(found, stored=self._is_stored(found.delivery))",
        new="probe.settle(found, stored=True)",
        tests=(f"{PULLING}::test_a_process_that_new_streams_do_not_cure_ends_and_says_why",),
    ),
    Mutant(
        name="a-stop-waits-for-no-acknowledgement",
        file="worker/adapters/pubsub/stream.py",
        old="            await_callbacks_on_shutdown=True,\n",
        new="            await_callbacks_on_shutdown=False,\n",
        tests=(f"{PULLING}::test_a_stop_waits_for_what_is_in_hand_and_its_acknowledgement",),
    ),
    Mutant(
        name="intervention-without-audit",
        file="worker/interventions/audit.py",
        old="        self._log_replay(row)\n",
        new="",
        tests=(
            f"{INTERVENTIONS}::test_without_an_audit_row_nothing_happens",
            f"{INTERVENTIONS}::test_the_audit_says_who_why_and_on_what",
        ),
    ),
    Mutant(
        name="request-repeated-under-its-key",
        file="worker/interventions/idempotency.py",
        old="        if known is not None:\n",
        new="        if known is None and self._log is None:\n",
        tests=(f"{INTERVENTIONS}::test_a_request_sent_again_under_its_key_takes_effect_once",),
    ),
    Mutant(
        name="push-acks-unstored",
        file="worker/http/push_and_tick.py",
        old="        if verdict is not Verdict.ACK:",
        new="        if verdict is None:",
        tests=("tests/unit/test_push.py::test_without_the_store_it_is_to_come_again",),
    ),
    Mutant(
        name="token-for-any-audience",
        file=OIDC,
        old="audience=list(audiences),",
        new="audience=None,",
        tests=(f"{OIDC_TESTS}::test_a_wrong_claim_is_refused",),
    ),
    Mutant(
        name="bad-certificates-kept-for-an-hour",
        file=OIDC,
        old="            self._cache.set(self._url, kept) if kept else self._cache.delete(self._url)\n",
        new="",
        tests=(f"{OIDC_TESTS}::test_an_endpoint_that_gives_no_certificates_says_nothing_about_the_token",),
    ),
    Mutant(
        name="the-senders-span-taken-for-our-own",
        file="worker/observing/tracing.py",
        old="    return context.is_valid and not context.is_remote\n",
        new="    return context.is_valid\n",
        tests=(f"{TRACING_TESTS}::test_without_tracing_no_line_and_no_message_of_ours_names_the_senders_span",),
    ),
    Mutant(
        name="token-of-unverified-address",
        file=OIDC,
        old='        if claims.get("email_verified") is not True:',
        new='        if not claims.get("email_verified"):',
        tests=(f"{OIDC_TESTS}::test_a_wrong_claim_is_refused",),
    ),
    Mutant(
        name="form-of-any-site",
        file="worker/http/guard.py",
        old="        if not own:\n",
        new="        if own is None:\n",
        tests=(f"{PAGE}::test_another_site_cannot_send_the_form",),
    ),
    Mutant(
        name="page-without-escaping",
        file="worker/http/rendering.py",
        old="            autoescape=True,\n",
        new="            autoescape=False,\n",
        tests=(f"{PAGE}::test_texts_from_outside_stay_texts",),
    ),
    Mutant(
        name="first-of-a-kind-unseen",
        file="worker/observing/metrics.py",
        old="        self._begin_nights_at_zero()\n",
        new="",
        tests=("tests/unit/test_metrics.py::test_what_alert_rules_watch_and_what_a_usual_night_counts_begins_at_zero",),
    ),
    Mutant(
        name="finding-of-a-build-not-counted",
        file="worker/observing/metrics.py",
        old="                for finding in outcome.report.findings:\n",
        new="                for finding in outcome.report.findings[:0]:\n",
        tests=(
            "tests/unit/test_metrics.py::test_each_finding_of_a_build_is_counted_and_the_first_of_each_kind_is_seen",
        ),
    ),
    Mutant(
        name="note-calls-a-person",
        file="worker/observing/date_metrics.py",
        old="        if finding.severity in SEVERITIES_SHOWN\n",
        new="",
        tests=("tests/unit/test_metrics.py::test_findings_that_ask_somebody_to_act_are_shown_by_date_and_check",),
    ),
    Mutant(
        name="failed-processor-called-missing",
        file="worker/observing/date_metrics.py",
        old="                if name not in record.completions\n",
        new="                if name not in record.counted\n",
        tests=(
            "tests/unit/test_metrics.py::test_a_processor_that_failed_is_shown_until_its_success_and_is_not_called_missing",
        ),
    ),
    Mutant(
        name="opened-early-by-an-event-called-unopened",
        file="worker/observing/date_metrics.py",
        old="for day, record in records.items() if record is None}",
        new="for day, record in records.items()}",
        tests=(
            "tests/unit/test_metrics.py::test_an_expected_date_that_no_sweep_has_opened_is_shown_until_it_has_a_record",
        ),
    ),
    Mutant(
        name="day-without-a-game-expected",
        file="worker/calendar.py",
        old="            return day in self.game_days\n",
        new="            pass\n",
        tests=("tests/unit/test_calendar.py::test_a_day_is_expected_for_its_game_where_the_schedule_is_known",),
    ),
    Mutant(
        name="dead-schedule-silences-the-alarm",
        file="worker/calendar.py",
        old="        if not self.game_days.isdisjoint(reach):\n",
        new="        if self.game_days:\n",
        tests=("tests/unit/test_calendar.py::test_a_day_is_expected_for_its_game_where_the_schedule_is_known",),
    ),
    Mutant(
        name="clock-ahead-stops-the-reading-of-the-schedule",
        file="worker/builds/upstream.py",
        old="or not now < self._next <= now + SCHEDULE_PAUSE\n",
        new="or not now < self._next\n",
        tests=("tests/unit/test_schedule_watch.py::test_a_store_clock_that_was_far_ahead_does_not_stop_the_reading",),
    ),
    Mutant(
        name="relative-link-in-a-pager",
        file="ops/generate/manifests.py",
        old=" or not parts.hostname:\n",
        new=":\n",
        tests=("tests/integration/test_made_manifests.py::test_an_address_that_no_pager_can_open_is_refused",),
    ),
    Mutant(
        name="quality-hidden-while-built-again",
        file="worker/observing/date_metrics.py",
        old="if record.result is not None), None)",
        new="if record.result is not None and record.wake_at is None), None)",
        tests=("tests/unit/test_metrics.py::test_the_quality_of_the_latest_night_is_shown_while_it_is_built_again",),
    ),
    Mutant(
        name="retraction-forgotten-on-redelivery",
        file="statemachine/completions.py",
        old="    if record.withdrawn(arrived):\n",
        new="    if record.withdrawn(arrived) and arrived.row_count is None:\n",
        tests=("tests/unit/test_retraction.py::test_no_redelivery_brings_it_back",),
    ),
    Mutant(
        name="retraction-of-any-run",
        file=ASKED,
        old=" or known.identity != event.identity:",
        new=":",
        tests=("tests/unit/test_retraction.py::test_what_does_not_count_cannot_be_taken_back",),
    ),
    Mutant(
        name="retracted-rows-are-found",
        file="statemachine/evidence.py",
        old=" and name not in record.ignored\n",
        new="\n",
        tests=("tests/unit/test_retraction.py::test_rows_of_a_retracted_run_are_not_found_at_the_deadline",),
    ),
    Mutant(
        name="retracted-rows-are-read",
        file="worker/features/model.py",
        old=" and processor not in self.ignored\n",
        new="\n",
        tests=("tests/unit/test_retraction_audit.py::test_a_rebuild_reads_every_table_but_that_one",),
    ),
    Mutant(
        name="tonight-begins-at-midnight",
        file="worker/calendar.py",
        old="return local.date() - timedelta(days=1) if local.time() < NIGHT_ENDS else local.date()",
        new="return local.date()",
        tests=("tests/unit/test_calendar.py::test_until_noon_today_and_tonight_are_the_date_before",),
    ),
    Mutant(
        name="sweep-opens-by-the-night",
        file="worker/calendar.py",
        old="        today = self.league_day(now)\n        first = today\n",
        new="        today = self.tonight(now)\n        first = today\n",
        tests=("tests/unit/test_calendar.py::test_what_the_sweep_opens_goes_by_the_leagues_day",),
    ),
    Mutant(
        name="change-of-today-does-not-ask",
        file="worker/calendar.py",
        old='if word != "yesterday" and local.time() < CHANGES_ASK_UNTIL:',
        new='if word == "tomorrow":',
        tests=("tests/unit/test_calendar.py::test_a_change_of_today_between_midnight_and_six_asks_which_of_two_dates",),
    ),
    Mutant(
        name="request-that-changes-today-does-not-ask",
        file="worker/http/actions.py",
        old="day if word is None else self.calendar.day_to_change(word, self.clock.now())",
        new="day",
        tests=(
            "tests/unit/test_http.py::test_soon_after_midnight_a_request_that_changes_tonight_is_asked_for_the_date",
        ),
    ),
    Mutant(
        name="name-of-a-form-over-the-verified-caller",
        file="worker/http/pages.py",
        old="controls.name if controls.name and caller == LOCAL_CALLER else caller",
        new="controls.name or caller",
        tests=("tests/unit/test_status_page.py::test_the_name_in_a_form_never_stands_in_for_a_verified_caller",),
    ),
    Mutant(
        name="retraction-of-whatever-run-counts-by-now",
        file="worker/http/pages.py",
        old='            fields = {**fields, "run_id": event.identity}\n',
        new="",
        tests=(
            "tests/unit/test_status_page.py::test_a_run_is_taken_back_from_its_page_and_only_the_run_that_was_shown",
        ),
    ),
    Mutant(
        name="command-that-changes-today-does-not-ask",
        file="ops/arguments.py",
        old="settings.calendar.day_to_change(text, now_of_words(settings))",
        new="settings.calendar.named_day(text, now_of_words(settings))",
        tests=(
            "tests/integration/test_day_words.py"
            "::test_soon_after_midnight_a_change_asks_for_the_date_and_changes_nothing",
        ),
    ),
    Mutant(
        name="words-by-the-machines-clock",
        file="ops/arguments.py",
        old="        return resources.clock.now()\n",
        new="        return SystemClock().now()\n",
        tests=(
            "tests/integration/test_day_words.py"
            "::test_a_date_of_a_demo_is_read_by_its_own_clock_whatever_the_machine_says",
        ),
    ),
    Mutant(
        name="stored-texts-in-utc-on-the-page",
        file="worker/http/rendering.py",
        old="return in_zone(text, self._zone)",
        new="return text",
        tests=("tests/unit/test_status_page.py::test_every_instant_on_the_page_is_on_the_wall_clock_of_the_page",),
    ),
    Mutant(
        name="connections-without-a-limit",
        file="worker/http/connections.py",
        old="        if len(self.connections) <= self.bounds.connections_max:\n",
        new="        if len(self.connections) <= 1_000_000:\n",
        tests=(
            f"{CONNECTIONS}::test_idle_connections_make_room_for_others_oldest_first",
            f"{CONNECTIONS}::test_with_every_connection_at_work_health_is_answered_and_the_rest_refused",
        ),
    ),
    Mutant(
        name="half-a-head-for-ever",
        file="worker/http/connections.py",
        old="        if self.cycle is not before:\n",
        new="        if data:\n",
        tests=(f"{CONNECTIONS}::test_a_head_that_dribbles_gets_no_more_time",),
    ),
    Mutant(
        name="body-for-ever",
        file="worker/http/middleware.py",
        old="            async with asyncio.timeout_at(self._due):\n",
        new="            async with asyncio.timeout_at(None):\n",
        tests=(f"{CONNECTIONS}::test_a_body_that_does_not_come_is_answered_and_the_connection_closed",),
    ),
    Mutant(
        name="bus-without-a-limit",
        file="worker/local/pubsub/server.py",
        old="options=_OPTIONS + bounds,",
        new="options=_OPTIONS,",
        tests=(f"{CONNECTIONS}::test_the_local_bus_takes_a_bounded_number_of_connections",),
    ),
    Mutant(
        name="redirect-to-the-host-that-was-named",
        file="worker/http/application.py",
        old="        redirect_slashes=False,\n",
        new="",
        tests=("tests/unit/test_http.py::test_a_path_that_is_not_quite_ours_sends_nobody_elsewhere",),
    ),
    Mutant(
        name="bus-through-the-proxy",
        file="worker/adapters/pubsub/connection.py",
        old="    NO_PROXY,\n",
        new="",
        tests=("tests/integration/test_proxy_environment.py::test_every_kind_of_pubsub_client_reaches_a_local_server",),
    ),
    Mutant(
        name="loopback-through-the-proxy",
        file="worker/adapters/direct.py",
        old="    session.trust_env = not is_local(url)\n",
        new="",
        tests=("tests/integration/test_proxy_environment.py::test_http_clients_reach_this_machine",),
    ),
    Mutant(
        name="deadline-in-the-morning-by-mistake",
        file="worker/settings/model.py",
        old=' and "+" not in value and read.at < NOON:',
        new=" and not value:",
        tests=("tests/unit/test_settings.py::test_a_deadline_after_midnight_names_its_day",),
    ),
    Mutant(
        name="deadline-on-the-night-itself",
        file="worker/calendar.py",
        old="        on = day + timedelta(days=wall_clock.days)\n",
        new="        on = day\n",
        tests=("tests/unit/test_settings.py::test_a_deadline_after_midnight_names_its_day",),
    ),
    Mutant(
        name="any-name-for-pubsub",
        file="worker/settings/checks.py",
        old="    if not _RESOURCE.fullmatch(value):\n",
        new="    if not value:\n",
        tests=("tests/unit/test_settings.py::test_a_wrong_value_is_named",),
    ),
    Mutant(
        name="secrets-of-a-query-shown",
        file="worker/errors.py",
        old='MAY_HOLD_CREDENTIAL = re.compile("[@=]|eyJ',
        new='MAY_HOLD_CREDENTIAL = re.compile("@|assword=|eyJ',
        tests=("tests/unit/test_logs.py::test_no_credential_is_written",),
    ),
    Mutant(
        name="unseen-reason",
        file="worker/interventions/audit.py",
        old=" or not re.search(SEEN_PATTERN, text):",
        new=" or not text.strip():",
        tests=("tests/unit/test_reason_text.py::test_no_character_that_shows_nothing_is_a_reason",),
    ),
    Mutant(
        name="token-that-never-ends",
        file="worker/adapters/google_tokens.py",
        old=" and 0 <= value <= SECONDS_MAX\n",
        new="\n",
        tests=("tests/unit/test_oidc_tokens.py::test_a_wrong_claim_is_refused",),
    ),
    Mutant(
        name="audiences-told-to-strangers",
        file="worker/adapters/google_tokens.py",
        old='    if "audience" in text:\n',
        new="    if not text:\n",
        tests=("tests/unit/test_oidc_tokens.py::test_a_stranger_does_not_learn_which_audiences_are_accepted",),
    ),
    Mutant(
        name="pydantic-speaks",
        file="ops/cli.py",
        old="    if isinstance(cause, ValidationError):\n",
        new="    if cause is error:\n",
        tests=("tests/integration/test_bounds_of_commands.py::test_a_value_out_of_bounds_is_one_line",),
    ),
    Mutant(
        name="damaged-file-tried-for-ever",
        file="worker/adapters/duckdb/dialect.py",
        old="    if (lasting := _lasting(text, path)) is not None:\n        return lasting\n",
        new="",
        tests=(
            "tests/contract/test_warehouse_contract.py::test_a_damaged_file_is_a_lasting_fault_that_names_the_file_and_the_cure",
        ),
    ),
    Mutant(
        name="own-tables-by-spelling",
        file="worker/local/parquet_folder.py",
        old="    if table.casefold() in {own.casefold() for own in own_tables}:\n",
        new="    if table in own_tables:\n",
        tests=("tests/integration/test_warehouse_loading.py::test_the_workers_own_tables_are_known_in_any_spelling",),
    ),
    Mutant(
        name="folder-name-taken-for-a-pattern",
        file="worker/adapters/duckdb/dialect.py",
        old='    return _PATTERNS.sub(r"[\\g<0>]", path)\n',
        new="    return path\n",
        tests=(f"{LINKED_FILES}::test_the_name_of_a_folder_is_a_name",),
    ),
    Mutant(
        name="column-guessed-from-a-folder",
        file=PARQUET,
        old="({_literal(path)}, hive_partitioning = false)",
        new="({_literal(path)})",
        tests=(f"{LINKED_FILES}::test_the_name_of_a_folder_is_a_name",),
    ),
    Mutant(
        name="view-of-a-link-stays-as-made",
        file="worker/adapters/duckdb/links.py",
        old="is_stale=present != select",
        new="is_stale=False",
        tests=(f"{LINKED_FILES}::test_a_converted_column_that_nobody_reads_may_go",),
    ),
    Mutant(
        name="columns-of-a-link-from-the-engine",
        file="worker/adapters/duckdb/warehouse.py",
        old="        columns |= {names[link.table.casefold()]: dict(link.columns) for link in links}\n",
        new="",
        tests=(f"{LINKED_FILES}::test_the_columns_of_a_link_are_those_of_the_file_now",),
    ),
    Mutant(
        name="value-rounded-by-a-conversion",
        file="worker/adapters/duckdb/conversions.py",
        old=" AND {{}} = trunc({{}})",
        new="",
        tests=(f"{PARQUET_TYPES}::test_a_column_with_other_values_keeps_the_type_of_the_file",),
    ),
    Mutant(
        name="value-of-a-replaced-file-rounded",
        file="worker/adapters/duckdb/conversions.py",
        old="THEN {value} ELSE error({text}) END",
        new="THEN {value} ELSE {value} END",
        tests=(f"{LINKED_FILES}::test_a_value_that_does_not_fit_any_more_changes_no_value",),
    ),
    Mutant(
        name="unusable-roster-loaded-as-if-nothing-were",
        file="worker/local/folder_check.py",
        old="FindingSeverity.CRITICAL if table == pipeline.entity.roster else FindingSeverity.WARNING",
        new="FindingSeverity.WARNING",
        tests=("tests/integration/test_load_check.py::test_the_roster_alone_is_indispensable",),
    ),
    Mutant(
        name="exception-while-reading-charged-to-the-group",
        file="worker/intake.py",
        old="except Exception:  # noqa: BLE001 - handled alone, the message raises again and is charged",
        new="except Refusal:",
        tests=(
            "tests/unit/test_one_bad_message.py::test_an_exception_while_a_message_is_read_leaves_its_group_untouched",
        ),
    ),
    Mutant(
        name="exception-while-storing-charged-to-the-group",
        file="worker/intake.py",
        old="except Exception as exc:  # noqa: BLE001 - handled alone, the message that raises is charged",
        new="except Conflict as exc:",
        tests=("tests/unit/test_one_bad_message.py::test_a_date_that_the_store_refuses_holds_no_other_date",),
    ),
    Mutant(
        name="unreadable-message-comes-for-ever",
        file="worker/intake.py",
        old="        if times < RAISES_MAX:\n",
        new="        if times:\n",
        tests=(
            "tests/unit/test_one_bad_message.py::test_an_exception_while_a_message_is_stored_is_charged_to_it_alone",
        ),
    ),
    Mutant(
        name="refusing-dead-letter-topic-holds",
        file="worker/intake.py",
        old='            return "not_parked", Verdict.RETRY\n',
        new='            return "not_parked", Verdict.HOLD\n',
        tests=(
            "tests/unit/test_one_bad_message.py::test_a_topic_that_refuses_gives_back_bad_messages_alone_and_is_left_alone_for_a_while",
        ),
    ),
    Mutant(
        name="refusing-dead-letter-topic-is-asked-for-each-message",
        file="worker/dead_letters.py",
        old="            self._closed_until = self._stopwatch() + PAUSE_S\n            next_step",
        new="            next_step",
        tests=(
            "tests/unit/test_one_bad_message.py::test_a_topic_that_refuses_gives_back_bad_messages_alone_and_is_left_alone_for_a_while",
        ),
    ),
    Mutant(
        name="slow-dead-letter-topic-holds-both-threads",
        file="worker/dead_letters.py",
        old="self._turn.acquire(timeout=TURN_MAX_S)",
        new="self._turn.acquire(timeout=30)",
        tests=("tests/unit/test_one_bad_message.py::test_a_topic_that_does_not_answer_holds_one_thread_at_most",),
    ),
    Mutant(
        name="letter-refused-for-an-attribute-comes-for-ever",
        file="worker/dead_letters.py",
        old="            if ours == message.attributes:\n                raise\n",
        new="            raise\n",
        tests=(
            "tests/unit/test_one_bad_message.py::test_a_letter_that_the_bus_refuses_is_parked_without_the_senders_attributes",
        ),
    ),
    Mutant(
        name="attribute-beyond-the-bus-limit-kept",
        file="schemas/dead_letter.py",
        old=" and len(value.encode()) <= VALUE_BYTES_MAX\n",
        new="\n",
        tests=(
            "tests/unit/test_dead_letter.py::test_an_attribute_that_pubsub_refuses_is_left_out_of_the_copy_and_named",
        ),
    ),
    Mutant(
        name="depth-left-to-the-stack",
        file="schemas/completion.py",
        old="    return bool(brackets)\n",
        new="    return False\n",
        tests=(
            "tests/unit/test_one_bad_message.py::test_messages_of_every_depth_are_stored_or_parked_in_groups_and_alone",
            "tests/unit/test_one_bad_message.py::test_the_depth_that_is_read_does_not_depend_on_the_place_on_the_stack",
        ),
    ),
    Mutant(
        name="sender-clock-believed",
        file="schemas/completion.py",
        old="min(said_at, published_at)",
        new="said_at",
        tests=(
            "tests/unit/test_completion_message.py::test_a_run_counts_as_ended_when_its_message_was_published_at_the_latest",
        ),
    ),
    Mutant(
        name="time-far-ahead-accepted",
        file="schemas/completion.py",
        old=" and said_at - received_at > AHEAD_MAX:",
        new=" and said_at - received_at > 9 * AHEAD_MAX:",
        tests=("tests/unit/test_completion_message.py::test_a_time_more_than_a_day_ahead_is_refused_and_named",),
    ),
    Mutant(
        name="redriven-run-becomes-newer",
        file="schemas/dead_letter.py",
        old="            FIRST_PUBLISHED_AT: self.first_published_at,\n",
        new="",
        tests=("tests/unit/test_dead_letter.py::test_sent_again_it_has_its_own_attributes_its_first_id_and_a_count",),
    ),
    Mutant(
        name="dropped-run-told-at-debug",
        file="worker/observing/observer.py",
        old="before.result is not None)",
        new="False)",
        tests=("tests/unit/test_one_bad_message.py::test_a_run_that_is_dropped_after_a_publication_is_told_at_info",),
    ),
    Mutant(
        name="observer-undoes-a-commit",
        file="worker/engine.py",
        old="        except Exception:\n            # The decision is stored",
        new="        except Conflict:\n            # The decision is stored",
        tests=("tests/unit/test_one_bad_message.py::test_an_observer_that_raises_undoes_nothing",),
    ),
    Mutant(
        name="refused-connections-are-kept",
        file="worker/adapters/redis/client.py",
        old="    client.connection_pool.disconnect(inuse_connections=False)\n",
        new="",
        tests=(
            f"{REPLICATION}::test_a_failover_that_moves_the_address_is_followed_by_the_commit_that_notices[valkey]",
            f"{REPLICATION}::test_commits_sent_together_follow_a_failover[valkey]",
        ),
    ),
    Mutant(
        name="ready-means-ping",
        file=REDIS,
        old='                pipe.set(self._key("barrier"), 1)\n',
        new="                pipe.ping()\n",
        tests=(f"{REPLICATION}::test_a_server_that_answers_and_takes_no_write_is_not_ready[valkey]",),
    ),
    Mutant(
        name="unreadable-entry-stops-its-reader",
        file="worker/adapters/redis/indexes.py",
        old="            except UNREADABLE as exc:\n",
        new="            except KeyboardInterrupt as exc:\n",
        tests=(
            f"{DAMAGE}::test_an_unreadable_member_is_passed_over_counted_and_set_aside[valkey_url-outbox]",
            f"{DAMAGE}::test_an_unreadable_change_hides_no_other_one",
        ),
    ),
    Mutant(
        name="unreadable-date-stops-its-reader",
        file="worker/adapters/redis/indexes.py",
        old="            except ValueError as exc:\n                self._damage.member(name, member, str(exc)",
        new="            except KeyError as exc:\n                self._damage.member(name, member, str(exc)",
        tests=(f"{DAMAGE}::test_an_unreadable_member_is_passed_over_counted_and_set_aside[valkey_url-wake]",),
    ),
    Mutant(
        name="index-set-aside-is-not-made-anew",
        file="worker/adapters/redis/damage.py",
        old='                if name in {"wake", "dates", "arrivals"}:\n',
        new='                if name == "":\n',
        tests=(f"{DAMAGE}::test_an_index_that_was_set_aside_is_made_anew_from_the_records[valkey_url-wake]",),
    ),
    Mutant(
        name="key-of-a-wrong-type-stays-in-the-way",
        file=REDIS,
        old="        if not refused:\n",
        new="        if answers:\n",
        tests=(f"{DAMAGE}::test_a_commit_sets_a_key_of_another_kind_aside_and_is_stored_whole[valkey_url-wake]",),
    ),
    Mutant(
        name="version-beside-the-record-is-not-read",
        file="worker/adapters/redis/fields.py",
        old="    if version != str(record.version).encode() or",
        new="    if",
        tests=(f"{DAMAGE}::test_a_record_beside_another_version_is_damaged[valkey_url-v]",),
    ),
    Mutant(
        name="ready-whatever-the-loops-do",
        file="worker/app.py",
        old="        faults += self._passes.faults()\n",
        new="",
        tests=(
            "tests/unit/test_http.py::test_three_failed_passes_in_a_row_make_a_worker_not_ready_until_one_succeeds",
        ),
    ),
    Mutant(
        name="a-bug-about-one-date-stops-the-sweep",
        file="worker/sweep.py",
        old='        except Exception as exc:\n            log.exception("date_failed_unexpectedly"',
        new='        except KeyError as exc:\n            log.exception("date_failed_unexpectedly"',
        tests=("tests/unit/test_deadlines.py::test_a_date_whose_handling_fails_in_any_way_does_not_stop_the_rest",),
    ),
    Mutant(
        name="an-outcome-that-breaks-the-publisher-stops-the-relay",
        file="worker/relay.py",
        old="        except Exception as exc:  # noqa: BLE001",
        new="        except OSError as exc:  # noqa: BLE001",
        tests=("tests/unit/test_relay.py::test_an_outcome_that_the_publisher_cannot_take_holds_back_no_other_date",),
    ),
    Mutant(
        name="scrape-waits-for-a-store-that-hangs",
        file="worker/observing/date_metrics.py",
        old="            return [*known, *self._scrape()]\n",
        new="            return [*known, *self._read()]\n",
        tests=("tests/unit/test_metrics.py::test_a_store_that_hangs_is_not_up_and_is_asked_once",),
    ),
    Mutant(
        name="missing-right-goes-unnoticed-at-the-start",
        file=REDIS,
        old="        if missing := self.missing_rights():\n",
        new="        if missing := []:\n",
        tests=("tests/contract/test_redis_rights.py::test_each_command_that_is_missing_is_named[valkey_url]",),
    ),
    Mutant(
        name="log-without-a-bound",
        file=LOG_WRITER,
        old="if self._queue.qsize() >= LINES_MAX:",
        new="if False:",
        tests=(f"{LOG_WRITER_TESTS}::test_a_reader_that_stalls_costs_lines_and_no_wait_and_is_told_how_many",),
    ),
    Mutant(
        name="log-hides-missing-lines",
        file=LOG_WRITER,
        old="if missing and self._write(",
        new="if missing < 0 and self._write(",
        tests=(f"{LOG_WRITER_TESTS}::test_a_reader_that_stalls_costs_lines_and_no_wait_and_is_told_how_many",),
    ),
    Mutant(
        name="log-drops-on-a-full-disk",
        file=LOG_WRITER,
        old="            except OSError:\n                self._pause.wait(RETRY_S)\n",
        new="            except OSError:\n                return False\n",
        tests=(f"{LOG_WRITER_TESTS}::test_lines_wait_for_a_full_disk_that_gets_room_again",),
    ),
    Mutant(
        name="log-writes-to-a-borrowed-descriptor",
        file=LOG_WRITER,
        old="os.dup(stream.fileno())",
        new="stream.fileno()",
        tests=(f"{LOG_WRITER_TESTS}::test_the_descriptor_is_its_own_and_given_back",),
    ),
    Mutant(
        name="output-waits-for-its-reader-to-the-end",
        file="ops/streams.py",
        old="if _waits_are_bounded.is_set() and (",
        new="if _waits_are_bounded is None and (",
        tests=(
            "tests/unit/test_streams.py::test_a_write_that_waits_for_its_reader_is_given_up_once_the_process_leaves",
        ),
    ),
    Mutant(
        name="valkey-unwatched",
        file=VALKEY,
        old="            if self._is_running():\n                continue\n",
        new="            if self._is_running() or not recent:\n                continue\n",
        tests=(f"{EMBEDDED}::test_a_server_that_dies_is_started_again_with_its_data",),
    ),
    Mutant(
        name="valkey-adopted-unwatched",
        file=VALKEY,
        old="return _listens(self.url)",
        new="return True",
        tests=(f"{EMBEDDED}::test_an_adopted_server_is_watched_and_stopped_like_an_own_one",),
    ),
    Mutant(
        name="valkey-restarted-for-ever",
        file=VALKEY,
        old="if len(recent) == RESTARTS_MAX:",
        new="if len(recent) > RESTARTS_MAX:",
        tests=(f"{EMBEDDED}::test_a_server_that_keeps_dying_is_given_up",),
    ),
    Mutant(
        name="valkey-outlives-a-broken-off-end",
        file="ops/leaving.py",
        old="    kill_servers()\n",
        new="",
        tests=(
            "tests/acceptance/test_pulling_process.py"
            "::test_a_worker_whose_store_hangs_leaves_in_time_too_and_loses_nothing",
        ),
    ),
    Mutant(
        name="worker-stays-without-its-server",
        file="worker/app.py",
        old="                return failure\n",
        new="                break\n",
        tests=(f"{EMBEDDED}::test_a_worker_whose_server_is_lost_is_not_alive_and_ends",),
    ),
    Mutant(
        name="bus-dies-unnoticed",
        file="worker/local/pubsub/server.py",
        old="        return self._failure\n",
        new="        return None\n",
        tests=(f"{EMBEDDED}::test_a_bus_whose_server_ends_by_itself_says_so_and_still_stops",),
    ),
    Mutant(
        name="journal-empty-is-new",
        file=JOURNAL,
        old="    if found == 0:\n",
        new="    if found < 0:\n",
        tests=(f"{JOURNAL_TESTS}::test_a_damaged_journal_is_refused_with_its_cure_and_the_cure_works",),
    ),
    Mutant(
        name="journal-taken-away-unnoticed",
        file=JOURNAL,
        old="if _identity(self._path) != self._file:",
        new="if _identity(self._path) is self:",
        tests=(f"{JOURNAL_TESTS}::test_a_journal_that_was_taken_away_is_written_anew_with_what_it_held",),
    ),
    Mutant(
        name="signal-unheard-during-imports",
        file="ops/__main__.py",
        old="signal.signal(number, _end_at_once)",
        new="signal.getsignal(number)",
        tests=(
            "tests/acceptance/test_early_signals.py"
            "::test_a_signal_during_the_imports_ends_the_process_at_once_and_silently",
        ),
    ),
    Mutant(
        name="signal-before-the-start-forgotten",
        file="ops/commands/run.py",
        old="            if stop.is_set():\n",
        new="            if stop is None:\n",
        tests=(
            "tests/acceptance/test_early_signals.py::test_a_signal_before_the_worker_takes_messages_ends_it_in_order",
        ),
    ),
    Mutant(
        name="failure-forgets-the-deadline",
        file="statemachine/decision.py",
        old="    return record.deadline_at if claimed_before else None\n",
        new="    return None\n",
        tests=(
            f"{TIME}::test_a_failure_before_the_deadline_keeps_the_deadline",
            f"{TIME}::test_a_build_that_ran_across_the_deadline_and_failed_does_not_stand_for_the_deadlines_own",
            f"{SWEEP}::test_a_date_that_failed_before_its_deadline_is_built_at_it",
        ),
    ),
    Mutant(
        name="absent-optional-processor-is-awaited",
        file="statemachine/evidence.py",
        old=" - failed - record.ignored - policy.optional",
        new=" - failed - record.ignored",
        tests=(f"{OPTIONAL}::test_rows_of_an_optional_processor_start_no_upgrade",),
    ),
    Mutant(
        name="late-optional-report-upgrades",
        file="statemachine/evidence.py",
        old="    return frozenset(empty | unreported) - policy.optional\n",
        new="    return frozenset(empty | unreported)\n",
        tests=(f"{OPTIONAL}::test_a_late_report_of_an_optional_processor_is_held_like_a_rerun",),
    ),
    Mutant(
        name="optional-processor-holds-back-a-rescue",
        file="statemachine/model.py",
        old="        return tuple(name for name in missing if name not in self.optional)\n",
        new="        return missing\n",
        tests=(f"{OPTIONAL}::test_after_the_deadline_a_failed_date_is_rescued_without_an_optional_processor",),
    ),
    Mutant(
        name="optional-rebuild-without-end",
        file="statemachine/evidence.py",
        old="for name in runs if name not in record.relied_on and built_without(",
        new="for name in runs if built_without(",
        tests=(f"{OPTIONAL}::test_a_rebuild_for_an_optional_processor_whose_table_stays_empty_is_the_last",),
    ),
    Mutant(
        name="absent-optional-block-costs-points",
        file="worker/features/plan.py",
        old="if name not in names},\n",
        new="},\n",
        tests=(
            "tests/integration/test_optional_processor.py::test_an_absent_optional_block_costs_no_point_and_no_state",
        ),
    ),
    Mutant(
        name="cancelled-date-has-a-deadline",
        file="statemachine/decision.py",
        old="    if because is FailedBecause.CANCELLED:\n        return None\n",
        new="",
        tests=(f"{TIME}::test_a_cancelled_date_has_no_deadline",),
    ),
    Mutant(
        name="published-date-has-a-deadline",
        file="statemachine/decision.py",
        old="return look_at if awaited_tables(record, policy) and look_at < record.upgrade_cutoff_at else None",
        new="return look_at",
        tests=(
            f"{TIME}::test_a_failed_replay_of_a_date_published_in_full_has_nothing_due",
            f"{TIME}::test_a_replay_that_fails_after_the_cutoff_has_nothing_due",
        ),
    ),
    Mutant(
        name="canary-is-read-as-a-completion",
        file="worker/intake.py",
        old="        if CANARY in delivery.attributes:\n            return self._hand_to_canary(delivery)\n",
        new="",
        tests=(f"{CANARY_FAULTS}::test_a_journey_passes_every_step_and_ends_within_two_sweeps",),
    ),
    Mutant(
        name="canary-needs-the-store-to-begin",
        file="worker/canary.py",
        old='            log.warning("canary_published_without_store", error=str(exc))\n',
        new="            return\n",
        tests=(f"{CANARY_FAULTS}::test_a_redis_that_is_away_stops_the_journey_at_its_commit",),
    ),
    Mutant(
        name="every-replica-sends-a-canary",
        file="worker/canary.py",
        old='if self._requests.begin(f"canary:{number}", CANARY, 2 * EVERY) is not None:',
        new="if False:",
        tests=(f"{CANARY_FAULTS}::test_of_two_replicas_one_begins_the_journey_and_both_know_its_end",),
    ),
    Mutant(
        name="canary-has-the-keys-of-the-dates",
        file="worker/adapters/redis/store.py",
        old="replicas=self._replicas, part=name)",
        new="replicas=self._replicas)",
        tests=(f"{CANARY_FAULTS}::test_a_journey_passes_every_step_and_ends_within_two_sweeps",),
    ),
    Mutant(
        name="deadline-again-and-again",
        file="statemachine/decision.py",
        old=" and record.lease.claimed_at < record.deadline_at\n",
        new="\n",
        tests=(f"{TIME}::test_the_build_at_the_deadline_is_the_last_that_starts_by_itself",),
    ),
    Mutant(
        name="waiting-failure-cannot-be-cancelled",
        file=ASKED,
        old="record.wake_at is None or record.state is State.DEGRADED",
        new="record.state in {State.DONE, State.DEGRADED, State.FAILED}",
        tests=(f"{TIME}::test_a_failed_date_that_waits_for_its_deadline_can_be_cancelled",),
    ),
    Mutant(
        name="date-expires-before-its-deadline",
        file="worker/engine.py",
        old=" and after.wake_at is None\n",
        new="\n",
        tests=("tests/unit/test_engine.py::test_a_date_for_which_something_is_due_does_not_expire",),
    ),
    Mutant(
        name="degraded-is-looked-at-only-at-its-cutoff",
        file="statemachine/evidence.py",
        old="min(max(now + policy.look_every, record.deadline_at), record.upgrade_cutoff_at)",
        new="record.upgrade_cutoff_at",
        tests=(
            f"{TIME}::test_a_degraded_date_is_looked_at_each_minute_until_its_cutoff_and_at_it",
            f"{SWEEP}::test_the_tables_of_a_degraded_date_are_looked_into_once_a_minute",
        ),
    ),
    Mutant(
        name="half-written-tables-are-found",
        file="statemachine/evidence.py",
        old="max(now + policy.look_every, record.deadline_at)",
        new="now + policy.look_every",
        tests=(f"{TIME}::test_before_the_deadline_only_an_event_upgrades_a_date",),
    ),
    Mutant(
        name="failed-processor-is-found",
        file="statemachine/evidence.py",
        old=" - failed - record.ignored - policy.optional\n",
        new=" - record.ignored - policy.optional\n",
        tests=(f"{TIME}::test_a_reported_failure_and_a_run_that_was_taken_back_are_never_found",),
    ),
    Mutant(
        name="no-look-at-the-cutoff",
        file=TIMERS,
        old="    if awaited and now < record.upgrade_cutoff_at + PROBE_PATIENCE:\n",
        new="    if awaited and now < record.upgrade_cutoff_at:\n",
        tests=(f"{SWEEP}::test_the_last_look_is_at_the_cutoff",),
    ),
    Mutant(
        name="rows-are-never-too-late",
        file=TIMERS,
        old="    if awaited and now < record.upgrade_cutoff_at + PROBE_PATIENCE:\n",
        new="    if awaited:\n",
        tests=(f"{TIME}::test_after_the_look_at_the_cutoff_rows_are_too_late",),
    ),
    Mutant(
        name="looks-fill-the-history",
        file="worker/observing/observer.py",
        old="{Reason.LEASE_RENEWED, Reason.STILL_MISSING}",
        new="{Reason.LEASE_RENEWED}",
        tests=("tests/unit/test_engine.py::test_a_look_that_found_nothing_is_stored_without_history",),
    ),
    Mutant(
        name="looks-hold-up-deadlines",
        file="worker/sweep.py",
        old="self._aside if record.result is None else self._aside_for_upgrades\n",
        new="self._aside\n",
        tests=(
            "tests/unit/test_aside.py"
            "::test_looks_into_degraded_dates_that_hang_hold_up_no_deadline_and_the_cutoff_closes_their_windows",
        ),
    ),
    Mutant(
        name="calendar-ahead-is-believed",
        file="worker/sweep.py",
        old="        if mark is None or mark <= latest:\n",
        new="        if mark is None or mark != latest:\n",
        tests=(f"{SWEEP}::test_a_mark_ahead_of_the_clock_is_lowered_and_the_nights_are_opened",),
    ),
    Mutant(
        name="calendar-is-lowered-by-each",
        file="worker/adapters/redis/indexes.py",
        old='f"({ceiling.toordinal()}", "+inf"',
        new='"-inf", "+inf"',
        tests=(f"{STORE_CONTRACT}::test_a_mark_that_is_too_high_is_lowered_once",),
    ),
    Mutant(
        name="replay-answered-with-the-older-commit",
        file="statemachine/evidence.py",
        old=" and record.trigger in {Trigger.REPLAY, Trigger.RETRACTION}\n",
        new=" and record.trigger is Trigger.RETRACTION\n",
        tests=(
            "tests/unit/test_decide_builds.py::test_a_commit_in_the_ledger_never_ends_a_replay_that_nobody_has_claimed",
        ),
    ),
    Mutant(
        name="replay-answered-after-a-blind-claim",
        file="statemachine/evidence.py",
        old="    return 0 < record.own_from <= result.attempt <= record.attempt\n",
        new="    return 0 < result.attempt <= record.attempt\n",
        tests=(
            "tests/unit/test_decide_builds.py"
            "::test_a_commit_found_after_a_claim_that_could_not_read_the_ledger_is_not_the_replays",
        ),
    ),
    Mutant(
        name="replay-beside-the-ledger",
        file="worker/interventions/audit.py",
        old="        if unreported is not None:\n            self._engine",
        new="        if unreported is not None and not unreported.read_from_ledger:\n            self._engine",
        tests=(
            "tests/unit/test_audit.py::test_a_replay_of_a_date_published_by_hand_opens_the_next_generation_at_once",
        ),
    ),
    Mutant(
        name="told-by-the-state-alone",
        file="worker/observing/outbox.py",
        old="        found[day] = Untold(\n",
        new="        found[date.min] = Untold(\n",
        tests=("tests/unit/test_untold.py::test_phase_5_was_told_only_once_the_bus_has_confirmed_it",),
    ),
    Mutant(
        name="failed-replay-pages",
        file="statemachine/evidence.py",
        old='    return "P0" if record.result is None else',
        new='    return "P0" if record.failure is not None else',
        tests=("tests/unit/test_untold.py::test_a_failed_replay_of_a_published_date_pages_nobody",),
    ),
    Mutant(
        name="refusal-not-kept",
        file="worker/relay.py",
        old="            self._store.note_refused(entry.entry_id, str(exc)[:ERROR_CHARS_MAX] or type(exc).__name__)\n",
        new="",
        tests=("tests/unit/test_untold.py::test_phase_5_was_told_only_once_the_bus_has_confirmed_it",),
    ),
    Mutant(
        name="weights-of-a-row-by-hand",
        file=SQL,
        old="        weight = self.parts_of_a_block() // cells\n",
        new="        weight = 12 // cells\n",
        tests=("tests/integration/test_added_to_the_definition.py::test_a_feature_is_one_entry",),
    ),
    Mutant(
        name="unusable-table-is-read",
        file=SQL,
        old="    is_gone = table in without.tables\n",
        new="    is_gone = False\n",
        tests=("tests/contract/test_sql_oracle.py::test_what_is_unusable_counts_as_empty_in_both_engines",),
    ),
    Mutant(
        name="a-retyped-key-costs-the-column-alone",
        file=USABLE,
        old="_whole_table(fault) if fault.column in essential else fault for fault",
        new="fault for fault",
        tests=(f"{UNUSABLE}::test_a_table_without_the_columns_that_find_and_order_rows_is_unusable",),
    ),
    Mutant(
        name="columns-of-another-type-are-read-as-they-are",
        file=USABLE,
        old="        if kind not in {wanted, listed.get(name)}:\n",
        new="        if not kind:\n",
        tests=("tests/unit/test_usable_upstream.py::test_a_type_that_holds_the_same_values_is_cast_and_no_fault",),
    ),
    Mutant(
        name="an-id-with-a-fraction-is-rounded",
        file=SQL,
        old='return f"IF(SAFE_CAST({name} AS INT64) = {name}, SAFE_CAST({name} AS INT64), NULL)"',
        new='return f"SAFE_CAST({name} AS INT64)"',
        tests=(f"{UNUSABLE}::test_an_id_with_a_fraction_is_no_id",),
    ),
    Mutant(
        name="a-forced-fallback-looks-at-phase4",
        file=USABLE,
        old="for block in pipeline.blocks if request.reads(block.processor)}",
        new="for block in pipeline.blocks}",
        tests=(f"{UNUSABLE}::test_a_forced_fallback_does_not_look_at_phase4",),
    ),
    Mutant(
        name="the-probe-counts-rows-that-no-build-can-read",
        file="worker/builds/upstream.py",
        old="as_of=as_of, without=usable.without)",
        new="as_of=as_of)",
        tests=(f"{UNUSABLE}::test_a_table_without_the_columns_that_find_and_order_rows_is_unusable",),
    ),
    Mutant(
        name="a-table-that-breaks-during-the-build-fails-the-build",
        file="worker/builds/steps.py",
        old="            except UPSTREAM_ERRORS as exc:\n",
        new="            except Fenced as exc:\n",
        tests=(f"{UNUSABLE}::test_a_table_that_breaks_during_the_build_is_found_and_left_out",),
    ),
    Mutant(
        name="one-denied-column-costs-the-table",
        file="worker/builds/upstream.py",
        old="    if whole is not None or not broken:\n",
        new="    if True:\n",
        tests=(f"{UNUSABLE}::test_a_column_behind_a_policy_tag_is_missing_on_bigquery",),
    ),
    Mutant(
        name="a-denied-table-fails-the-build",
        file="worker/adapters/bigquery/tables.py",
        old="            except AccessDenied:\n",
        new="            except SchemaDrift:\n",
        tests=(f"{UNUSABLE}::test_a_denied_table_is_missing_on_bigquery",),
    ),
    Mutant(
        name="a-phase3-table-is-wanted-by-every-cell",
        file="worker/features/input_findings.py",
        old="        return stats.left_empty.get(feature.name, 0)\n",
        new="        return stats.blocks[block.name].players\n",
        tests=(f"{UNUSABLE}::test_a_phase3_table_that_nobody_needs_tonight_is_a_warning",),
    ),
    Mutant(
        name="as-of-sees-the-roster-of-later",
        file=FEATURES_SQL,
        old="  WHERE {{ roster.date }} = @analysis_date{{ seen }}\n",
        new="  WHERE {{ roster.date }} = @analysis_date\n",
        tests=(f"{UNUSABLE}::test_as_of_hides_rows_of_every_upstream_table",),
    ),
    Mutant(
        name="expression-beside-the-allow-list",
        file=DEFINITION_FILES,
        old="find_expression_faults(expression, columns, feature.type)",
        new="find_expression_faults('1', columns, feature.type)",
        tests=(
            "tests/unit/test_pipeline_definition.py::test_an_expression_that_the_engines_may_read_differently_is_named",
        ),
    ),
    Mutant(
        name="expression-of-mixed-types",
        file="worker/pipelines/expression_types.py",
        old="    if len(known) > 1 and not known <= NUMBERS:\n",
        new="    if not known:\n",
        tests=(
            "tests/unit/test_pipeline_definition.py::test_an_expression_that_the_engines_may_read_differently_is_named",
        ),
    ),
    Mutant(
        name="hand-written-sql-that-nothing-reads",
        file=DEFINITION_FILES,
        old="        raise BadPipeline(str(path), unread)\n",
        new="        unread.clear()\n",
        tests=(
            "tests/unit/test_pipeline_definition.py::test_a_hand_written_statement_that_nothing_would_read_is_refused",
        ),
    ),
    Mutant(
        name="reserved-word-as-a-name",
        file="schemas/pipeline.py",
        old='RESERVED.intersection(name.split("."))',
        new="RESERVED.intersection(())",
        tests=("tests/unit/test_pipeline_definition.py::test_what_does_not_fit_is_named",),
    ),
    Mutant(
        name="names-that-collide-inside-a-statement",
        file="worker/pipelines/checks.py",
        old='    yield from _twice("name inside the statements", _inside(pipeline))\n',
        new="",
        tests=("tests/unit/test_pipeline_definition.py::test_what_does_not_fit_is_named",),
    ),
    Mutant(
        name="cell-of-a-block-that-does-not-apply",
        file=SQL,
        old='        return both if table.matches == block.matches else self._if_it_applies(block, both, "NULL")\n',
        new="        return both\n",
        tests=(
            "tests/contract/test_sql_oracle_other_shapes.py::test_both_engines_agree_on_a_pipeline_of_another_shape",
        ),
    ),
    Mutant(
        name="audit-after-the-effect",
        file="worker/interventions/audit.py",
        old="        self._log_replay(row)\n        self._log_row(row)\n",
        new="        self._engine.apply(analysis_date, event, actor=event.actor)\n        self._log_replay(row)\n",
        tests=("tests/unit/test_audit.py::test_without_its_row_nothing_is_changed",),
    ),
    Mutant(
        name="file-never-given-back",
        file="worker/adapters/duckdb/file.py",
        old="                if not self._uses and left_s <= 0:\n",
        new="                if not self._uses and left_s <= -self._wait_s:\n",
        tests=(
            "tests/integration/test_warehouse_file.py::test_an_idle_file_is_given_back_and_what_was_written_meanwhile_is_seen",
        ),
    ),
    Mutant(
        name="taken-file-given-up-at-once",
        file="worker/adapters/duckdb/file.py",
        old="                if now >= patience_ends or self._closed.is_set():\n",
        new="                if now >= started or self._closed.is_set():\n",
        tests=("tests/integration/test_warehouse_file.py::test_who_finds_the_file_taken_waits_and_says_for_whom_once",),
    ),
    Mutant(
        name="busy-process-keeps-the-file",
        file="worker/adapters/duckdb/file.py",
        old="        elif self._connection is not None and self._used_at - self._opened_at >= self._turn_s:\n",
        new="        elif self._connection is None:\n",
        tests=("tests/integration/test_warehouse_file.py::test_a_process_that_never_idles_gives_others_a_turn",),
    ),
    Mutant(
        name="lost-file-made-anew",
        file="worker/adapters/duckdb/file.py",
        old="        if self._openings and self._path",
        new="        if self._openings > 99 and self._path",
        tests=("tests/integration/test_warehouse_file.py::test_a_file_that_is_gone_is_not_made_anew",),
    ),
    Mutant(
        name="closed-warehouse-opened-again",
        file="worker/adapters/duckdb/file.py",
        old='            if self._closed.is_set():\n                raise Unavailable(f"the warehouse',
        new='            if self._uses > 99:\n                raise Unavailable(f"the warehouse',
        tests=("tests/integration/test_warehouse_file.py::test_a_closed_warehouse_is_not_opened_again",),
    ),
    Mutant(
        name="waits-for-process-0",
        file="worker/adapters/duckdb/file.py",
        old="    if not number:\n",
        new="    if found is None:\n",
        tests=("tests/integration/test_warehouse_file.py::test_a_process_that_cannot_be_seen_is_not_process_0",),
    ),
    Mutant(
        name="notes-of-a-wrong-type-stay-in-the-way",
        file="worker/adapters/redis/indexes.py",
        old='            self._damage.key("refused")\n',
        new="            return\n",
        tests=("tests/contract/test_redis_store_damage.py::test_notes_of_another_kind_do_not_stop_the_outbox",),
    ),
    Mutant(
        name="look-that-hung-counts-as-the-next-one",
        file=TIMERS,
        old="event.looked_at or now\n",
        new="now\n",
        tests=(
            "tests/unit/test_decide_time.py::test_after_a_look_that_hung_the_date_is_looked_at_again_at_once",
            "tests/unit/test_decide_time.py"
            "::test_a_look_that_began_before_the_cutoff_does_not_close_the_upgrade_window",
            f"{SWEEP}::test_rows_that_come_while_a_look_hangs_over_the_cutoff_upgrade_the_date",
        ),
    ),
    Mutant(
        name="half-a-commit-without-a-right",
        file="worker/adapters/redis/commit.lua",
        old="  if not redis.acl_check_cmd(unpack(call)) then\n",
        new="  if false then\n",
        tests=(
            "tests/contract/test_redis_rights.py"
            "::test_a_right_that_an_account_lost_leaves_no_half_commit_and_is_told_until_it_is_granted",
        ),
    ),
    Mutant(
        name="ready-without-a-right",
        file="worker/adapters/redis/store.py",
        old="                self._was_denied |= isinstance(fault, Denied)\n",
        new="",
        tests=(
            "tests/contract/test_redis_rights.py"
            "::test_a_right_that_an_account_lost_leaves_no_half_commit_and_is_told_until_it_is_granted",
        ),
    ),
    Mutant(
        name="instant-on-no-wall-clock",
        file="statemachine/invariants.py",
        old=" and YEARS[0] <= instant.year <= YEARS[1]\n",
        new="\n",
        tests=("tests/unit/test_record_codec.py::test_a_record_with_a_value_that_no_page_can_show_is_unsound",),
    ),
    Mutant(
        name="number-of-any-size",
        file="statemachine/invariants.py",
        old="all(-NUMBER_MAX <= number <= NUMBER_MAX for",
        new="all(number is not None for",
        tests=("tests/unit/test_record_codec.py::test_a_record_with_a_value_that_no_page_can_show_is_unsound",),
    ),
    Mutant(
        name="time-that-was-never-set",
        file="schemas/completion.py",
        old="    if instant < EPOCH:\n",
        new="    if instant < datetime.min.replace(tzinfo=UTC):\n",
        tests=("tests/unit/test_completion_message.py::test_a_wrong_field_is_refused_and_named",),
    ),
    Mutant(
        name="push-from-the-future",
        file="schemas/push.py",
        old='        return min(as_utc(datetime.fromisoformat(text if isinstance(text, str) else "")), received_at)\n',
        new='        return as_utc(datetime.fromisoformat(text if isinstance(text, str) else ""))\n',
        tests=("tests/unit/test_push.py::test_a_push_that_says_it_was_published_in_the_future_was_published_now",),
    ),
    Mutant(
        name="failed-replay-ends-the-looks",
        file="statemachine/decision.py",
        old="return look_at if awaited_tables(record, policy) and look_at < record.upgrade_cutoff_at else None",
        new="return None",
        tests=(
            "tests/unit/test_decide_time.py"
            "::test_a_failed_replay_of_a_degraded_date_leaves_its_looks_for_rows_as_they_were",
        ),
    ),
    Mutant(
        name="parameters-masked-by-name-alone",
        file="worker/errors.py",
        old='    if "://" in text:\n',
        new='    if "://" in text and "key" in text:\n',
        tests=(
            "tests/unit/test_settings.py"
            "::test_every_parameter_of_an_address_that_is_not_known_as_harmless_is_masked[jwt]",
        ),
    ),
    Mutant(
        name="redis-address-with-any-parameter",
        file="worker/settings/checks.py",
        old="        if name not in _REDIS_PARAMETERS:\n",
        new="        if False:\n",
        tests=("tests/unit/test_settings.py::test_a_wrong_value_is_named",),
    ),
    Mutant(
        name="each-date-waits-for-the-file-anew",
        file="worker/adapters/duckdb/file.py",
        old="                        self._gave_up_at = now\n",
        new="                        told = True\n",
        tests=(
            "tests/integration/test_warehouse_file.py::test_after_a_wait_in_vain_the_next_call_does_not_wait_again",
        ),
    ),
    Mutant(
        name="failed-upgrade-again-and-again",
        file="statemachine/decision.py",
        old="    if record.result is not None and record.trigger is Trigger.UPGRADE:\n        return None\n",
        new="",
        tests=(f"{TIME}::test_an_upgrade_that_fails_is_not_tried_again_and_again",),
    ),
    Mutant(
        name="second-opinion-forgives-any-failure",
        file="tests/second_opinion/judge.py",
        old="            if re.search(entry.says, said):\n",
        new="            if True:\n",
        tests=("tests/second_opinion/test_judge.py::test_a_listed_test_that_fails_in_another_way_fails_the_run",),
    ),
    Mutant(
        name="second-opinion-keeps-needless-entries",
        file="tests/second_opinion/judge.py",
        old='            report.outcome = "failed"\n',
        new='            report.outcome = "passed"\n',
        tests=("tests/second_opinion/test_judge.py::test_a_listed_test_that_passes_fails_the_run",),
    ),
    Mutant(
        name="second-opinion-overlooks-missing-rows",
        file="tests/support/second_opinion.py",
        old="    if len(ours) != len(theirs):\n",
        new="    if False:\n",
        tests=("tests/second_opinion/test_judge.py::test_a_difference_is_told_by_row_and_column",),
    ),
    Mutant(
        name="judge-reads-no-generation-again",
        file="tests/chaos/invariants_of_results.py",
        old='                read["digest"] == kept.get("digest"), f"',
        new='                True, f"',
        tests=(f"{JUDGE}::test_a_forged_history_is_found_guilty_of_its_crime",),
    ),
    Mutant(
        name="judge-counts-no-rows-of-superseded-generations",
        file="tests/chaos/invariants_of_results.py",
        old='        finding.demand(count == row["row_count"], f"{row[\'build_id\']}: {count} of',
        new="        finding.demand(True, f\"{row['build_id']}: {count} of",
        tests=(f"{JUDGE}::test_a_forged_history_is_found_guilty_of_its_crime",),
    ),
    Mutant(
        name="judge-takes-a-refused-statement-for-a-publication",
        file="tests/chaos/evidence.py",
        old=' and line["changed"] > 0',
        new="",
        tests=(f"{JUDGE}::test_an_honest_history_is_acquitted_and_every_invariant_looked_at_something",),
    ),
    Mutant(
        name="judge-believes-the-ledger-alone",
        file="tests/chaos/invariants_of_results.py",
        old="        finding.demand(made == listed, ",
        new="        finding.demand(True, ",
        tests=(f"{JUDGE}::test_a_forged_history_is_found_guilty_of_its_crime",),
    ),
    Mutant(
        name="judge-lets-claims-go-back",
        file="tests/chaos/invariants_of_results.py",
        old="            rises = list(claim) >= earlier[0] and generation >= earlier[1]\n",
        new="            rises = True\n",
        tests=(f"{JUDGE}::test_a_forged_history_is_found_guilty_of_its_crime",),
    ),
    Mutant(
        name="simulated-rows-of-anybody",
        file="tests/simulation/checker.py",
        old='        self.demand(staged.build_id == name and by_owner, "',
        new='        self.demand(True, "',
        tests=(
            "tests/simulation/test_simulated_ledger.py"
            "::test_the_judge_notices_a_publication_that_shows_the_rows_of_another_process",
        ),
    ),
    Mutant(
        name="simulated-generations-may-change",
        file="tests/simulation/checker.py",
        old='            self.demand(kept == made, "',
        new='            self.demand(True, "',
        tests=(f"{SIMULATION}::test_the_judge_notices_sabotage[rows_shared]",),
    ),
    Mutant(
        name="older-version-of-any-format",
        file="tests/upgrade/stage.py",
        old='    if not _git(root, "ls-tree", "--name-only", commit, FORMAT):\n',
        new="    if False:\n",
        tests=(f"{ROLLING}::test_a_revision_whose_warehouse_is_refused_is_no_older_version",),
    ),
    Mutant(
        name="publish-ignores-newer-claims",
        file="worker/features/templates/dml/publish.sql",
        old="""      OR newer.claimed_generation > @generation
      OR newer.claimed_generation = @generation AND newer.claimed_attempt > @attempt
""",
        new="",
        tests=(f"{WAREHOUSE_CONTRACT}::test_of_two_first_claims_in_rows_of_their_own_one_publishes",),
    ),
    Mutant(
        name="publish-ignores-newer-attempts",
        file="worker/features/templates/dml/publish.sql",
        old="      OR newer.claimed_generation = @generation AND newer.claimed_attempt > @attempt\n",
        new="",
        tests=(f"{WAREHOUSE_CONTRACT}::test_of_two_first_claims_in_rows_of_their_own_one_publishes",),
    ),
    Mutant(
        name="publish-ignores-newer-generations",
        file="worker/features/templates/dml/publish.sql",
        old="      OR newer.claimed_generation > @generation\n",
        new="",
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_publication_loses_to_a_newer_claim_in_a_row_of_its_own",),
    ),
    Mutant(
        name="publish-ignores-published-generations",
        file="worker/features/templates/dml/publish.sql",
        old="      newer.generation >= @generation\n      OR newer.claimed_generation > @generation\n",
        new="      newer.claimed_generation > @generation\n",
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_generation_that_is_published_in_another_row_is_not_published_again",),
    ),
    Mutant(
        name="publish-forgets-the-same-generation",
        file="worker/features/templates/dml/publish.sql",
        old="      newer.generation >= @generation\n",
        new="      newer.generation > @generation\n",
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_generation_that_is_published_in_another_row_is_not_published_again",),
    ),
    Mutant(
        name="publish-ignores-claimant",
        file="worker/features/templates/dml/publish.sql",
        old="  AND ledger.claimed_by = @claimant\n",
        new="",
        tests=(f"{WAREHOUSE_CONTRACT}::test_the_claim_of_another_claimant_publishes_nothing",),
    ),
    Mutant(
        name="publish-ignores-attempt",
        file="worker/features/templates/dml/publish.sql",
        old="  AND ledger.claimed_attempt = @attempt\n",
        new="",
        tests=(f"{WAREHOUSE_CONTRACT}::test_only_the_ledger_row_with_the_claim_is_pointed_at_the_rows",),
    ),
    Mutant(
        name="publish-ignores-row-count",
        file="worker/features/templates/dml/publish.sql",
        old="  AND @row_count = (",
        new="  AND @row_count <> -1 AND 0 <= (",
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_publication_whose_rows_are_not_there_changes_nothing",),
    ),
    Mutant(
        name="publish-counts-rows-left-out",
        file="worker/features/templates/dml/publish.sql",
        old=" AND made.left_out_reason IS NULL\n",
        new="\n",
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_publication_shows_its_rows_and_its_bookkeeping",),
    ),
    Mutant(
        name="publish-counts-rows-of-any-build",
        file="worker/features/templates/dml/publish.sql",
        old=" AND made.build_id = @build_id AND",
        new=" AND",
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_publication_whose_rows_are_not_there_changes_nothing",),
    ),
    Mutant(
        name="publish-points-at-another-build",
        file="worker/features/templates/dml/publish.sql",
        old="  build_id = @build_id,\n",
        new="  build_id = CONCAT(@build_id, '-other'),\n",
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_publication_shows_its_rows_and_its_bookkeeping",),
    ),
    Mutant(
        name="publish-forgets-what-was-published",
        file="worker/features/templates/dml/publish.sql",
        old="    ledger.publications,\n",
        new="    [],\n",
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_newer_generation_is_what_consumers_read_and_the_one_before_is_kept",),
    ),
    Mutant(
        name="claim-takes-a-newer-claim-back",
        file="worker/features/templates/dml/claim.sql",
        old="  ledger.claimed_generation < @generation\n  OR",
        new="  ledger.claimed_generation <> @generation\n  OR",
        tests=(f"{WAREHOUSE_CONTRACT}::test_an_older_claim_changes_no_ledger_row",),
    ),
    Mutant(
        name="claim-ignores-attempts",
        file="worker/features/templates/dml/claim.sql",
        old=" AND ledger.claimed_attempt < @attempt\n",
        new="\n",
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_claim_can_be_repeated",),
    ),
    Mutant(
        name="claim-takes-a-published-generation",
        file="worker/features/templates/dml/claim.sql",
        old="WHEN MATCHED AND ledger.generation < @generation AND (",
        new="WHEN MATCHED AND (",
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_committed_generation_is_final",),
    ),
    Mutant(
        name="view-without-the-ledger",
        file="worker/features/templates/ddl/published.sql",
        old=" AND made.build_id = published.build_id\n",
        new="\n",
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_newer_generation_is_what_consumers_read_and_the_one_before_is_kept",),
    ),
    Mutant(
        name="view-shows-rows-left-out",
        file="worker/features/templates/ddl/published.sql",
        old="\nWHERE made.left_out_reason IS NULL\n",
        new="\n",
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_publication_shows_its_rows_and_its_bookkeeping",),
    ),
    Mutant(
        name="view-doubles-rows-with-the-ledger",
        file="worker/features/templates/parts/published.sql",
        old="  SELECT DISTINCT analysis_date, build_id\n",
        new="  SELECT analysis_date, build_id\n",
        tests=(f"{WAREHOUSE_CONTRACT}::test_two_ledger_rows_of_one_date_do_no_harm",),
    ),
    Mutant(
        name="quality-of-every-attempt",
        file="worker/features/templates/ddl/quality.sql",
        old=" AND made.build_id = published.build_id\n",
        new="\n",
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_newer_generation_is_what_consumers_read_and_the_one_before_is_kept",),
    ),
    Mutant(
        name="dependencies-of-every-attempt",
        file="worker/features/templates/ddl/dependency.sql",
        old=" AND made.build_id = published.build_id\n",
        new="\n",
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_newer_generation_is_what_consumers_read_and_the_one_before_is_kept",),
    ),
    Mutant(
        name="quality-told-twice",
        file="worker/features/templates/ddl/quality.sql",
        old="SELECT DISTINCT\n",
        new="SELECT\n",
        tests=(f"{WAREHOUSE_CONTRACT}::test_a_build_whose_worth_was_written_twice_is_told_once",),
    ),
    Mutant(
        name="rows-of-a-build-stored-twice",
        file="worker/features/plan.py",
        old=" AND stored.build_id = @build_id\\n)",
        new=" AND stored.build_id = @build_id AND FALSE\\n)",
        tests=(f"{WAREHOUSE_CONTRACT}::test_staging_an_attempt_again_changes_nothing",),
    ),
    Mutant(
        name="publications-in-any-order",
        file="worker/features/templates/sql/publications.sql",
        old="  told.generation AS generation,\n",
        new="  told.generation,\n",
        tests=(f"{WAREHOUSE_CONTRACT}::test_the_publications_of_a_date_are_listed_oldest_first",),
    ),
    Mutant(
        name="published-by-is-exclusive",
        file=GENERATIONS,
        old="published.committed_at <= wanted.published_by",
        new="published.committed_at < wanted.published_by",
        tests=(f"{GENERATIONS_CONTRACT}::test_a_generation_is_published_from_its_own_instant_on",),
    ),
    Mutant(
        name="cleaned-generation-is-empty",
        file=GENERATIONS,
        old="    if not chosen[-1].row_count:\n",
        new="    if False:\n",
        tests=(f"{GENERATIONS_CONTRACT}::test_a_generation_that_was_cleaned_away_says_so_and_is_never_an_empty_one",),
    ),
    Mutant(
        name="phase5-trusts-the-first-look",
        file="worker/phase5.py",
        old="        find_generation(source, night, wanted)\n    except Refused",
        new="        pass\n    except Refused",
        tests=(
            f"{GENERATIONS_CONTRACT}::test_a_generation_that_is_cleaned_away_while_it_is_read_is_not_told_as_empty",
        ),
    ),
    Mutant(
        name="older-generation-with-rows-left-out",
        file="worker/features/templates/sql/published_rows.sql",
        old=" AND left_out_reason IS NULL",
        new="",
        tests=(f"{WAREHOUSE_CONTRACT}::test_features_are_exported",),
    ),
    Mutant(
        name="diff-forgets-sources",
        file="worker/features/templates/sql/diff.sql",
        old="  WHERE differs OR before_source <> after_source\n",
        new="  WHERE differs\n",
        tests=(f"{GENERATIONS_CONTRACT}::test_a_diff_counts_rows_and_cells_by_column_and_source",),
    ),
    Mutant(
        name="largest-change-in-plain-numbers",
        file="worker/features/diff.py",
        old='line["size"] / line["typical"]',
        new='line["size"]',
        tests=(f"{GENERATIONS_CONTRACT}::test_the_short_form_names_the_three_largest_changes_each_beside_its_column",),
    ),
    Mutant(
        name="vacuum-forgets-a-claim-that-stands",
        file=UNPUBLISHED,
        old="    WHERE ledger.generation < ledger.claimed_generation AND staged.processed_at >= ledger.claimed_at\n",
        new="    WHERE FALSE\n",
        tests=(f"{GENERATIONS_CONTRACT}::test_a_claim_that_stands_keeps_its_rows_however_old_and_can_still_publish",),
    ),
    Mutant(
        name="vacuum-keeps-every-attempt-of-a-claimed-generation",
        file=UNPUBLISHED,
        old=" AND staged.processed_at >= ledger.claimed_at",
        new="",
        tests=(
            f"{GENERATIONS_CONTRACT}::test_a_claim_that_stands_keeps_its_rows_however_old_and_can_still_publish",
            f"{GENERATIONS_CONTRACT}::test_a_generation_that_was_closed_keeps_no_rows",
        ),
    ),
    Mutant(
        name="vacuum-forgets-what-is-published",
        file=UNPUBLISHED,
        old="UNNEST(ledger.publications) AS published\n",
        new="UNNEST(ledger.publications) AS published WHERE FALSE\n",
        tests=(f"{GENERATIONS_CONTRACT}::test_rows_that_were_never_published_go_after_a_day_and_nothing_else",),
    ),
    Mutant(
        name="vacuum-trusts-the-list-of-publications-alone",
        file=UNPUBLISHED,
        old="WHERE build_id IS NOT NULL)",
        new="WHERE FALSE)",
        tests=(f"{GENERATIONS_CONTRACT}::test_what_is_published_stays_where_the_list_of_publications_was_lost",),
    ),
    Mutant(
        name="vacuum-deletes-the-rows-of-a-lost-ledger",
        file=UNPUBLISHED,
        old="made.analysis_date IN (SELECT analysis_date FROM {{ tables.ledger }})",
        new="TRUE",
        tests=(f"{GENERATIONS_CONTRACT}::test_the_rows_of_a_date_stay_where_the_ledger_was_lost",),
    ),
    Mutant(
        name="generation-compared-with-itself",
        file=GENERATIONS,
        old="if published.generation < newest.generation]",
        new="if published is not newest]",
        tests=(
            f"{GENERATIONS_CONTRACT}::"
            "test_a_generation_is_compared_with_an_older_one_where_the_history_tells_its_worth_twice",
        ),
    ),
    Mutant(
        name="instant-beyond-the-calendar",
        file=GENERATIONS,
        old="    except OverflowError as exc:\n",
        new="    except ZeroDivisionError as exc:\n",
        tests=("tests/integration/test_generation_commands.py::test_an_instant_beyond_the_calendar_is_refused",),
    ),
    Mutant(
        name="vacuum-counts-from-the-publication",
        file=SUPERSEDED,
        old="newer.committed_at < @superseded_before",
        new="older.committed_at < @superseded_before",
        tests=(f"{GENERATIONS_CONTRACT}::test_a_superseded_generation_stays_so_many_days_after_it_was_superseded",),
    ),
    Mutant(
        name="vacuum-by-default",
        file="worker/builds/vacuum.py",
        old="    if keep_days:\n",
        new="    if True:\n",
        tests=(f"{GENERATIONS_CONTRACT}::test_by_default_superseded_generations_stay",),
    ),
    Mutant(
        name="failed-vacuum-fails-the-loop",
        file="worker/builds/vacuum.py",
        old="            return AGAIN_AFTER\n",
        new="            raise\n",
        tests=(
            "tests/unit/test_vacuum.py::test_a_warehouse_that_refuses_is_asked_again_an_hour_later_and_fails_no_pass",
        ),
    ),
    Mutant(
        name="changes-asked-for-a-first-generation",
        file="worker/builds/builder.py",
        old="self.changes_of(outcome.request.key) if record.published_generation else None",
        new="self.changes_of(outcome.request.key)",
        tests=(f"{CHANGES}::test_an_upgrade_tells_what_it_changed_and_a_first_generation_asks_nothing",),
    ),
    Mutant(
        name="changes-not-told",
        file=BUILDS,
        old="changes=event.changes",
        new="changes=None",
        tests=(f"{CHANGES}::test_an_upgrade_tells_what_it_changed_and_a_first_generation_asks_nothing",),
    ),
    Mutant(
        name="unknown-changes-fail-the-report",
        file="worker/builds/generations.py",
        old="        except Exception as exc:",
        new="        except ZeroDivisionError as exc:",
        tests=(
            f"{CHANGES}::test_a_fault_of_the_question_fails_no_publication",
            f"{CHANGES}::test_a_warehouse_that_does_not_answer_holds_up_no_message",
        ),
    ),
    Mutant(
        name="doubted-run-is-held",
        file="statemachine/completions.py",
        old="State.DEGRADED if replaces_doubted(record, arrived):\n",
        new="State.DEGRADED if False:\n",
        tests=(f"{DOUBTS}::test_the_next_run_of_a_doubted_processor_upgrades_whatever_happens_to_other_reruns[hold]",),
    ),
    Mutant(
        name="doubted-run-during-the-build-is-forgotten",
        file="statemachine/evidence.py",
        old="bool(unused) or any(replaces_doubted(record, completion) for completion in record.completions.values())",
        new="bool(unused)",
        tests=(f"{DOUBTS}::test_a_run_that_arrives_while_the_doubted_build_runs_is_built_next",),
    ),
    Mutant(
        name="warnings-make-processors-doubted",
        file="statemachine/evidence.py",
        old=" if finding.severity is FindingSeverity.CRITICAL)",
        new=")",
        tests=(f"{DOUBTS}::test_only_a_critical_finding_makes_a_processor_doubted[warning]",),
    ),
    Mutant(
        name="confirmed-rows-count-as-a-new-run",
        file="statemachine/evidence.py",
        old="arrived.identity != used if used is not None else arrived.completed_at > _started_at(result)",
        new="arrived.identity != used",
        tests=(f"{DOUBTS}::test_an_event_that_confirms_doubted_rows_is_no_new_run",),
    ),
    Mutant(
        name="foreign-commit-keeps-the-runs-of-the-claim",
        file=BUILDS,
        old="relied_on=relied_on, claimed_runs=NO_RUNS",
        new="relied_on=relied_on",
        tests=(f"{DOUBTS}::test_a_foreign_commit_forgets_the_runs_of_the_claim",),
    ),
    Mutant(
        name="limited-build-is-probed",
        file="statemachine/evidence.py",
        old=" if result is not None and not is_limited(record, result) else {}",
        new=" if result is not None else {}",
        tests=(f"{DOUBTS}::test_rows_that_a_person_did_not_want_start_no_build[limit0]",),
    ),
    Mutant(
        name="limit-outlives-its-generation",
        file="statemachine/decision.py",
        old="        as_of=None,\n",
        new="",
        tests=(f"{DOUBTS}::test_a_replay_as_of_an_instant_keeps_the_instant_until_the_next_generation",),
    ),
    Mutant(
        name="findings-unbounded",
        file="worker/features/findings.py",
        old="    if len(ranked) <= FINDINGS_MAX:\n",
        new="    if ranked:\n",
        tests=(f"{FINDINGS}::test_many_findings_are_cut_and_the_last_says_how_many_are_left_out",),
    ),
    Mutant(
        name="processor-of-a-critical-finding-is-cut",
        file="worker/features/findings.py",
        old="(*first.values(), *range(len(ranked)))",
        new="range(len(ranked))",
        tests=(f"{FINDINGS}::test_a_processor_with_a_critical_finding_is_never_cut",),
    ),
    Mutant(
        name="findings-lost-with-the-record",
        file=FENCE,
        old='        findings=read_findings(row.get("findings")),\n',
        new="",
        tests=(f"{FINDINGS}::test_a_store_that_was_lost_gets_the_findings_back_from_the_ledger",),
    ),
    Mutant(
        name="damaged-findings-stop-every-date",
        file=FENCE,
        old="    except ValidationError as exc:\n",
        new="    except ZeroDivisionError as exc:\n",
        tests=(f"{FINDINGS}::test_a_damaged_text_is_a_note_and_stops_no_other_date[nonsense]",),
    ),
    Mutant(
        name="refusing-level-publishes",
        file="worker/features/findings.py",
        old='gate_message = "; ".join(filter(None, (report.gate_message, judgement.refusal)))',
        new="gate_message = report.gate_message",
        tests=(f"{FINDINGS}::test_a_level_that_refuses_closes_the_gate_with_the_sentence_of_the_finding",),
    ),
    Mutant(
        name="retracted-table-is-compared-with-its-claim",
        file="worker/builds/builder.py",
        old=" and name not in ignored\n",
        new="\n",
        tests=(f"{FINDINGS}::test_the_rows_of_a_table_that_no_build_may_read_are_not_compared_with_a_claim",),
    ),
    Mutant(
        name="replay-forgets-its-instant",
        file="worker/builds/builder.py",
        old="as_of=record.as_of,",
        new="as_of=None,",
        tests=(f"{FINDINGS}::test_a_replay_as_of_an_instant_is_built_as_of_the_instant[as_of1]",),
    ),
    Mutant(
        name="critical-night-becomes-the-norm",
        file=SQL,
        old='"critical"',
        new='"fatal"',
        tests=(
            f"{WAREHOUSE_CONTRACT}::test_a_night_with_a_critical_finding_is_compared_with_by_none",
            f"{PROFILE_OF_A_BUILD}::test_a_night_that_cannot_be_believed_is_compared_with_by_none",
        ),
    ),
    Mutant(
        name="fallback-counts-as-the-distribution",
        file="worker/features/templates/sql/profile.sql",
        old="{{ side }}.sources[ORDINAL(@block[ORDINAL(place)])] = 'phase4'",
        new="{{ side }}.sources[ORDINAL(@block[ORDINAL(place)])] <> 'missing'",
        tests=(f"{PROFILE_OF_A_BUILD}::test_values_from_phase_3_are_another_distribution",),
    ),
    Mutant(
        name="statistics-stop-the-build",
        file="worker/builds/steps.py",
        old="isinstance(answer, PipelineError) and (answer is counts or",
        new="isinstance(answer, PipelineError) and (answer is not None or",
        tests=(f"{PROFILE_OF_A_BUILD}::test_statistics_that_cannot_be_read_stop_no_build",),
    ),
    Mutant(
        name="moved-over-a-gap-of-nights",
        file="worker/features/profile_reading.py",
        old='row["compared_date"] == analysis_date - timedelta(days=1)',
        new="True",
        tests=(f"{PROFILE_OF_A_BUILD}::test_a_night_that_cannot_be_believed_is_compared_with_by_none",),
    ),
    Mutant(
        name="two-columns-swapped-unseen",
        file=PROFILE_FINDINGS,
        old="            measure=lowest - profile.correlation,\n",
        new="            measure=0.0,\n",
        tests=(f"{PROFILE_FINDINGS_TESTS}::test_one_feature_that_cannot_be_believed",),
    ),
    Mutant(
        name="usual-share-is-a-finding",
        file=PROFILE_FINDINGS,
        old="        measure=share - max(shares),\n        observed=",
        new="        measure=share,\n        observed=",
        tests=(f"{PROFILE_FINDINGS_TESTS}::test_what_a_feature_usually_does_is_no_finding",),
    ),
    Mutant(
        name="compared-with-too-few-nights",
        file=PROFILE_FINDINGS,
        old="    return usual if len(usual) >= policy.nights_min else []\n",
        new="    return usual\n",
        tests=(f"{PROFILE_FINDINGS_TESTS}::test_a_distribution_is_not_compared_with_too_few_nights",),
    ),
    Mutant(
        name="unread-table-counts-as-empty",
        file="ops/reports/facts.py",
        old="            return Evidence.UNKNOWN",
        new="            return Evidence.EMPTY",
        tests=("tests/unit/test_triage.py::test_what_was_not_read_and_not_reported_is_not_called_empty",),
    ),
    Mutant(
        name="amber-check-is-no-incident",
        file="ops/reports/triage.py",
        old="    return UNRELIABLE if any(done.status is CheckStatus.RED for done in checks) else NOTED",
        new="    return None",
        tests=(
            "tests/unit/test_triage.py::"
            "test_an_incident_is_never_none_beside_a_check_that_is_not_green[too_many_NULLs]",
        ),
    ),
    Mutant(
        name="unusable-table-counts-as-empty",
        file="ops/reports/sources.py",
        old="        if table in usable.without.tables:",
        new="        if not table:",
        tests=("tests/integration/test_reports.py::test_a_table_whose_file_is_gone_is_named_and_hides_no_other_table",),
    ),
    Mutant(
        name="record-of-an-incident-is-overwritten",
        file="ops/reports/incident_record.py",
        old='"w" if overwrite else "x"',
        new='"w"',
        tests=(
            "tests/integration/test_reports.py::"
            "test_the_record_of_an_incident_holds_what_is_known_and_what_people_have_to_add",
        ),
    ),
    Mutant(
        name="never-judged-is-told-as-no-findings",
        file="worker/finding_text.py",
        old="    if findings is None:\n        return NOT_JUDGED\n    groups",
        new="    if findings is None:\n        return NO_FINDINGS\n    groups",
        tests=(
            "tests/unit/test_finding_text.py::test_never_judged_is_not_the_same_as_no_findings",
            "tests/unit/test_explain.py::"
            "test_the_headline_names_a_warning_behind_the_figures_and_says_what_no_check_judged",
        ),
    ),
    Mutant(
        name="null-findings-are-read-as-none-found",
        file=FENCE,
        old="    if text is None:\n        return None\n",
        new="    if text is None:\n        return ()\n",
        tests=("tests/unit/test_findings_of_a_build.py::test_the_column_gives_back_what_was_written",),
    ),
    Mutant(
        name="the-headline-trusts-critical-findings",
        file="worker/date_text.py",
        old="    return worst(result.findings) == FindingSeverity.CRITICAL\n",
        new="    return False\n",
        tests=("tests/unit/test_explain.py::test_the_headline_leads_with_a_critical_finding",),
    ),
    Mutant(
        name="a-command-line-is-translated-into-another-zone",
        file="worker/date_text.py",
        old='        if found["option"]:\n',
        new='        if found["option"] and False:\n',
        tests=("tests/unit/test_screens.py::test_stored_instants_are_told_on_the_wall_clock",),
    ),
    Mutant(
        name="chance-counts-nights-on-which-the-processor-had-come",
        file=OUTLOOK,
        old=" and night.came.get(processor, inf) > late_s]",
        new="]",
        tests=(
            f"{OUTLOOK_TESTS}::test_a_chance_rests_on_the_nights_on_which_the_processor_had_not_come_either",
            f"{OUTLOOK_TESTS}::test_of_the_cases_called_seventy_per_cent_sixty_to_eighty_came",
        ),
    ),
    Mutant(
        name="chance-forgets-nights-without-arrival",
        file=OUTLOOK,
        old="    lateness = sorted(night.came.get(processor, inf) for night in chosen)",
        new="    lateness = sorted(night.came[processor] for night in chosen if processor in night.came)",
        tests=(
            f"{OUTLOOK_TESTS}::test_a_chance_rests_on_the_nights_on_which_the_processor_had_not_come_either",
            f"{OUTLOOK_TESTS}::test_no_processor_is_called_too_often_or_too_rarely",
        ),
    ),
    Mutant(
        name="chance-from-a-handful-of-nights",
        file=OUTLOOK,
        old="NIGHTS_MIN = 10",
        new="NIGHTS_MIN = 3",
        tests=(
            f"{OUTLOOK_TESTS}::test_after_the_deadline_the_chance_by_the_deadline_is_gone_and_only_later_nights_count",
        ),
    ),
    Mutant(
        name="failed-report-counts-as-an-arrival",
        file=OUTLOOK,
        old="        earliest = night.failed if arrival.status == CompletionStatus.FAILED else night.came",
        new="        earliest = night.came",
        tests=(f"{OUTLOOK_TESTS}::test_the_first_report_that_counts_is_the_arrival",),
    ),
    Mutant(
        name="nights-opened-late-are-comparable",
        file=OUTLOOK,
        old="    return is_over and abs(night.deadline_at - usual_at) <= SHIFTED_MAX",
        new="    return is_over",
        tests=(
            f"{OUTLOOK_TESTS}::"
            "test_nights_that_were_opened_late_are_not_over_or_lie_outside_the_span_are_not_comparable",
        ),
    ),
    Mutant(
        name="score-with-a-table-takes-phase-3",
        file="worker/foresight/scores.py",
        old="    return replace(block, phase4_cells=most, phase3_cells=0)",
        new="    return replace(block, phase3_cells=most - block.phase4_cells)",
        tests=(f"{OUTLOOK_NIGHT}::test_the_score_with_a_table_is_what_a_build_earns_once_the_table_is_there",),
    ),
    Mutant(
        name="dry-run-begins-beside-the-build-at-the-deadline",
        file="worker/foresight/reading.py",
        old="        quiet = record.state in _QUIET_STATES or abs(now - record.deadline_at) <= QUIET",
        new="        quiet = False",
        tests=(f"{OUTLOOK_NIGHT}::test_no_dry_run_begins_beside_the_build_at_the_deadline",),
    ),
    Mutant(
        name="scores-of-an-older-record-are-shown",
        file="worker/foresight/reading.py",
        old="            key=lambda record: (record.analysis_date, record.version),",
        new="            key=lambda record: record.analysis_date,",
        tests=(f"{OUTLOOK_NIGHT}::test_many_callers_cost_one_dry_run_until_the_record_changes_or_minutes_pass",),
    ),
    Mutant(
        name="nights-with-other-bins-are-drawn-together",
        file="worker/features/distributions.py",
        old=" if night.bin_edges == profile.bin_edges]",
        new="]",
        tests=("tests/unit/test_distributions.py::test_a_shift_needs_nights_with_the_same_bins",),
    ),
    Mutant(
        name="a-backtest-lets-leases-expire",
        file=BACKTEST,
        old="        elif self.record.wake_at is not None:",
        new="        if self.record.wake_at is not None:",
        tests=(f"{PLAYED_SEASONS}[fall_back_at_once]",),
    ),
    Mutant(
        name="a-backtest-reads-tables-at-the-end-of-a-build",
        file=BACKTEST,
        old="_Build(filled=self._filled(now),",
        new="_Build(filled=self._filled(ends_at),",
        tests=(f"{PLAYED_SEASONS}[fall_back_at_once]",),
    ),
    Mutant(
        name="a-backtest-publishes-below-the-gate",
        file=BACKTEST,
        old="        if report.gate_passed:",
        new="        if report is not None:",
        tests=(f"{BACKTEST_TESTS}::test_a_night_below_the_gate_fails_and_is_no_publication",),
    ),
    Mutant(
        name="a-backtest-takes-an-announced-table-for-a-filled-one",
        file=BACKTEST,
        old="            case CompletionStatus.SUCCESS if rows != 0:",
        new="            case CompletionStatus.SUCCESS:",
        tests=(f"{BACKTEST_TESTS}::test_a_table_holds_rows_from_the_first_run_whose_rows_are_known",),
    ),
    Mutant(
        name="a-backtest-scores-by-records-of-other-rules",
        file="worker/foresight/estimated_builds.py",
        old="if known is None or (optional ^ self.pipeline.optional_processors) - filled:",
        new="if known is None:",
        tests=(
            f"{BACKTEST_TESTS}::"
            "test_an_absent_optional_processor_costs_no_point_whatever_was_recorded_without_the_rule",
        ),
    ),
    Mutant(
        name="a-backtest-guesses-nights-of-a-backfill",
        file=BACKTEST,
        old="    return NotPlayed.AFTER_THE_NIGHT if reports[0].received_at >= over_at else None",
        new="    return None",
        tests=(f"{BACKTEST_TESTS}::test_every_expected_night_is_played_or_left_out_with_a_reason",),
    ),
)
