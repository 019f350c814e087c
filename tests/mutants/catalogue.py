"""Faults that somebody could put into the product, each with the test that must notice.

A guarantee that no test misses when it is taken away is not guarded. `make mutants` takes them away one by one.
"""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

COMMIT = "worker/adapters/lua/commit.lua"
BUILDS = "statemachine/builds.py"
TIMERS = "statemachine/timers.py"
ASKED = "statemachine/interventions.py"
REDIS = "worker/adapters/redis_store.py"
FENCE = "worker/adapters/warehouse_fence.py"
BIGQUERY = "worker/adapters/warehouse_bigquery.py"
BIGQUERY_JOBS = "worker/adapters/warehouse_bigquery_jobs.py"
BIGQUERY_SQL = "worker/adapters/warehouse_bigquery_sql.py"
FEATURES_SQL = "worker/features/templates/sql/features.sql"
SQL = "worker/features/sql.py"
DEFINITION_FILES = "worker/pipeline_files.py"

STORE_CONTRACT = "tests/contract/test_state_store_contract.py"
SAMPLE_NIGHTS = "tests/integration/test_build_sample_nights.py"
WAREHOUSE_CONTRACT = "tests/contract/test_warehouse_contract.py"
BIGQUERY_FAULTS = "tests/faults/test_bigquery_faults.py"
PULLING = "tests/integration/test_pulling.py"
OIDC = "worker/adapters/oidc_tokens.py"
PAGE = "tests/unit/test_status_page.py"
OIDC_TESTS = "tests/unit/test_oidc_tokens.py"
INTERVENTIONS = "tests/unit/test_interventions.py"
REPLICATION = "tests/contract/test_redis_replication.py"


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
        old="if redis.call('EXISTS', KEYS[6]) == 1 then",
        new="if false then",
        tests=(f"{STORE_CONTRACT}::test_an_operation_sent_twice_is_stored_once[valkey]",),
    ),
    Mutant(
        name="repeat-waits-for-no-replica",
        file=COMMIT,
        old="  redis.call('PEXPIRE', KEYS[6], ARGV[9])\n",
        new="",
        tests=(f"{REPLICATION}::test_a_commit_repeated_on_a_new_connection_waits_for_the_replica_too[valkey]",),
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
        old="    if claimed > key.token:",
        new="    if claimed > key.token and wanted == 'nothing':",
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
        old='    if claimed == key.token and row["claimed_by"] != claimant:',
        new="    if claimed == key.token and not claimant:",
        tests=(f"{WAREHOUSE_CONTRACT}::test_of_two_claimants_of_one_token_the_first_has_it",),
    ),
    Mutant(
        name="bigquery-fence-ignores-claimant",
        file=BIGQUERY_SQL,
        old=" AND claimed_attempt = @attempt AND claimed_by = @claimant))",
        new=" AND claimed_attempt = @attempt))",
        tests=(f"{BIGQUERY_FAULTS}::test_a_claim_never_takes_another_workers_claim_for_its_own",),
    ),
    Mutant(
        name="bigquery-publishes-past-the-fence",
        file=BIGQUERY_SQL,
        old="        _update_ledger(tables.ledger, committed),\n        _stop_if_fenced(),\n",
        new="        _update_ledger(tables.ledger, committed),\n",
        tests=(f"{BIGQUERY_FAULTS}::test_a_published_attempt_is_not_another_claimants",),
    ),
    Mutant(
        name="bigquery-trusts-a-job-it-attached-to",
        file=BIGQUERY,
        old="                if not self._run(step, key, script, job_id).attached:\n",
        new="                if self._run(step, key, script, job_id):\n",
        tests=(f"{BIGQUERY_FAULTS}::test_a_repeated_claim_that_was_overtaken_is_fenced_although_its_job_succeeded",),
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
        old='            return give_up(record, kind, Reason.GIVING_UP, failure, "nobody")\n',
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
        new="",
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
        old="        try:\n            with self._tracing.publishing(message) as traced:\n",
        new="        self._store.remove_from_outbox(entry.entry_id)\n"
        "        try:\n            with self._tracing.publishing(message) as traced:\n",
        tests=("tests/unit/test_relay.py::test_what_is_not_confirmed_stays_and_holds_back_only_its_own_date",),
    ),
    Mutant(
        name="redrive-removes-unconfirmed",
        file="worker/redrive.py",
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
        old="    if probe is None:\n        return unchanged(record, kind, Reason.NEEDS_PROBE)\n    kept =",
        new="    probe = probe or {}\n    kept =",
        tests=("tests/unit/test_decide.py::test_nothing_falls_back_before_somebody_has_looked_into_the_tables",),
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
        file="worker/builder.py",
        old="            self._follow(committed)\n",
        new="            pass\n",
        tests=(
            "tests/unit/test_builder.py::test_a_publication_that_nobody_reported_is_told_before_another_generation_is_built",
            "tests/unit/test_builder.py::test_a_date_that_the_store_lost_is_taken_over_from_the_ledger_and_not_built_again",
        ),
    ),
    Mutant(
        name="sweep-looks-at-the-head-only",
        file="worker/deadlines.py",
        old="        self._skip = self._skip + BATCH_MAX if len(due) == BATCH_MAX else 0\n",
        new="        self._skip = 0\n",
        tests=("tests/unit/test_deadlines.py::test_dates_that_wait_for_a_build_hide_no_deadline",),
    ),
    Mutant(
        name="cancels-without-closing-the-ledger",
        file=ASKED,
        old="    if record.attempt:\n        # What it has built",
        new="    if record.attempt < 0:\n        # What it has built",
        tests=("tests/unit/test_decide_published.py::test_a_cancel_of_a_date_that_was_tried_closes_the_ledger_first",),
    ),
    Mutant(
        name="gate-ignored",
        file="worker/building.py",
        old="    if not report.gate_passed:",
        new="    if not report.row_count:",
        tests=("tests/unit/test_builder.py::test_a_build_below_the_gate_is_not_published",),
    ),
    Mutant(
        name="replay-not-audited",
        file="worker/builder.py",
        old="                self._audit_replay(record)",
        new="                pass",
        tests=("tests/unit/test_replay_audit.py::test_the_row_is_there_before_the_replay_publishes",),
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
        name="refused-publish-is-not-counted",
        file="worker/builder.py",
        old='return committed, "adopted" if adopted else "fenced"',
        new='return committed, "adopted"',
        tests=("tests/faults/test_readers_see_whole_dates.py::test_a_stale_workers_publish_is_refused_and_counted",),
    ),
    Mutant(
        name="drift-is-not-looked-for-at-the-start",
        file="worker/app.py",
        old="        self._supervisor.run_loop(self._schema_loop)\n",
        new="",
        tests=("tests/acceptance/test_worker_process.py::test_a_worker_over_drifted_tables_shows_them_and_stays_up",),
    ),
    Mutant(
        name="gives-back-what-an-absent-store-did-not-take",
        file="worker/adapters/pubsub_pull.py",
        old="            elif verdict is Verdict.RETRY:\n",
        new="            else:\n",
        tests=(f"{PULLING}::test_a_short_absence_of_the_store_gives_no_message_back",),
    ),
    Mutant(
        name="believes-a-silent-stream",
        file="worker/adapters/pubsub_watchdog.py",
        old="is_proof = answer is Answer.MESSAGE or (",
        new="is_proof = (",
        tests=(f"{PULLING}::test_a_silent_stream_is_replaced_and_its_message_handled_within_two_minutes",),
    ),
    Mutant(
        name="replaces-a-stream-while-the-bus-is-away",
        file="worker/adapters/pubsub_watchdog.py",
        old="            if is_alive or not is_proof:\n",
        new="            if is_alive:\n",
        tests=(f"{PULLING}::test_a_bus_that_is_away_is_waited_for",),
    ),
    Mutant(
        name="a-message-found-by-asking-is-only-acknowledged",
        file="worker/adapters/pubsub_pull.py",
        old="probe.settle(found, stored=self._is_stored(found.delivery))",
        new="probe.settle(found, stored=True)",
        tests=(f"{PULLING}::test_a_process_that_new_streams_do_not_cure_ends_and_says_why",),
    ),
    Mutant(
        name="a-stop-waits-for-no-acknowledgement",
        file="worker/adapters/pubsub_stream.py",
        old="            await_callbacks_on_shutdown=True,\n",
        new="            await_callbacks_on_shutdown=False,\n",
        tests=(f"{PULLING}::test_a_stop_waits_for_what_is_in_hand_and_its_acknowledgement",),
    ),
    Mutant(
        name="intervention-without-audit",
        file="worker/audit.py",
        old="        self._log_replay(row)\n",
        new="",
        tests=(
            f"{INTERVENTIONS}::test_without_an_audit_row_nothing_happens",
            f"{INTERVENTIONS}::test_the_audit_says_who_why_and_on_what",
        ),
    ),
    Mutant(
        name="request-repeated-under-its-key",
        file="worker/idempotency.py",
        old="        if known is not None:\n",
        new="        if known is None and self._log is None:\n",
        tests=(f"{INTERVENTIONS}::test_a_request_sent_again_under_its_key_takes_effect_once",),
    ),
    Mutant(
        name="push-acks-unstored",
        file="worker/http/machines.py",
        old="        if verdict is not Verdict.ACK:",
        new="        if verdict is None:",
        tests=("tests/unit/test_push.py::test_without_the_store_it_is_to_come_again",),
    ),
    Mutant(
        name="token-for-any-audience",
        file=OIDC,
        old="                audience=list(audiences),",
        new="                audience=None,",
        tests=(f"{OIDC_TESTS}::test_a_wrong_claim_is_refused",),
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
        file="worker/http/gate.py",
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
        file="worker/metrics.py",
        old="        self._begin_nights_at_zero()\n",
        new="",
        tests=("tests/unit/test_metrics.py::test_what_alert_rules_watch_and_what_a_usual_night_counts_begins_at_zero",),
    ),
    Mutant(
        name="quality-hidden-while-built-again",
        file="worker/date_metrics.py",
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
        name="retraction-without-its-row",
        file="worker/retractions.py",
        old="            if not _is_among(retraction, audited):\n",
        new="            if not audited and not record.retractions:\n",
        tests=(
            "tests/unit/test_retraction_audit.py"
            "::test_the_row_of_a_retraction_that_only_the_store_has_comes_before_the_build",
        ),
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
        name="weights-of-a-row-by-hand",
        file=SQL,
        old="        weight = self.parts_of_a_block() // cells\n",
        new="        weight = 12 // cells\n",
        tests=("tests/integration/test_added_to_the_definition.py::test_a_feature_is_one_entry",),
    ),
    Mutant(
        name="unusable-table-is-read",
        file=SQL,
        old="        is_gone = table in self._without.tables\n",
        new="        is_gone = False\n",
        tests=("tests/contract/test_sql_oracle.py::test_what_is_unusable_counts_as_empty_in_both_engines",),
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
        file="worker/expression_types.py",
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
        file="worker/features/pipeline_checks.py",
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
)
