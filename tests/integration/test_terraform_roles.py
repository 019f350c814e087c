"""Who may do what on Google's side is the role table, all of it and nothing else; the table is what a worker needs."""

import re
from pathlib import Path

import pytest
import yaml

from ops.generate.manifests import tables, views
from tests.support.manifests import OPS
from tests.support.terraform import (
    blocks,
    evaluated_grants,
    local,
    resource,
    resources,
    role_table,
    rows,
    text,
)
from worker.pipelines.shipped import SHIPPED, UPSTREAM

STORED = [table.partition(".")[2] for table in SHIPPED.tables.stored]
VIEWS = [view.partition(".")[2] for view in SHIPPED.tables.views]
FEATURE, QUALITY = "ml_feature_store_v2", "ml_feature_store_v2_quality_metrics"
BELOW = ("ml_feature_store_v2_generations", "ml_feature_store_v2_quality_history", "ml_feature_store_v2_ledger")

# Written down a second time, on purpose: a row that is added, dropped or widened must be meant.
EXPECTED = {
    ("worker", "roles/bigquery.jobUser", "project", "-"),
    *(
        ("worker", "roles/bigquery.dataViewer", "dataset", name)
        for name in ("nba_precompute", "nba_analytics", "nba_raw")
    ),
    *(("worker", "custom/mlfsTableWriter", "table", name) for name in STORED),
    *(("worker", "roles/bigquery.dataViewer", "table", name) for name in VIEWS),
    ("worker", "custom/mlfsCostReader", "project", "-"),
    *(("worker", "roles/pubsub.subscriber", "subscription", name) for name in ("worker", "dead_letter")),
    *(
        ("worker", "roles/pubsub.publisher", "topic", name)
        for name in ("success", "failure", "dead_letter", "completions")
    ),
    *(
        ("worker", "roles/pubsub.viewer", "topic", name)
        for name in ("success", "failure", "dead_letter", "completions")
    ),
    *(("worker", "roles/pubsub.viewer", "subscription", name) for name in ("worker", "dead_letter")),
    ("worker", "roles/monitoring.metricWriter", "project", "-"),
    ("worker", "roles/logging.logWriter", "project", "-"),
    ("worker", "roles/cloudtrace.agent", "project", "-"),
    *(("worker", "roles/secretmanager.secretAccessor", "secret", name) for name in ("mlfs-redis-url", "mlfs-redis-ca")),
    ("pubsub_agent", "roles/pubsub.publisher", "topic", "dead_letter"),
    ("pubsub_agent", "roles/pubsub.subscriber", "subscription", "worker"),
    ("pubsub_agent", "roles/iam.serviceAccountTokenCreator", "service_account", "pusher"),
    ("pusher", "roles/run.invoker", "run_service", "mlfs-push"),
    ("scheduler", "roles/run.invoker", "run_service", "mlfs-push"),
    ("upstream", "roles/pubsub.publisher", "topic", "completions"),
    ("phase5", "roles/pubsub.subscriber", "subscription", "phase5"),
    *(("phase5", "roles/bigquery.dataViewer", "table", name) for name in (FEATURE, QUALITY, *BELOW)),
    ("gke_pod", "roles/iam.workloadIdentityUser", "service_account", "worker"),
    ("deployer", "roles/run.developer", "project", "-"),
    ("deployer", "roles/artifactregistry.writer", "repository", "mlfs"),
    ("deployer", "roles/iam.serviceAccountUser", "service_account", "worker"),
}

IAM = {
    "project": "google_project_iam_member",
    "dataset": "google_bigquery_dataset_iam_member",
    "table": "google_bigquery_table_iam_member",
    "topic": "google_pubsub_topic_iam_member",
    "subscription": "google_pubsub_subscription_iam_member",
    "secret": "google_secret_manager_secret_iam_member",
    "service_account": "google_service_account_iam_member",
    "repository": "google_artifact_registry_repository_iam_member",
    "run_service": "google_cloud_run_v2_service_iam_member",
}


def test_the_role_table_is_what_was_decided() -> None:
    assert sorted(rows()) == sorted(EXPECTED)


def test_every_row_says_why() -> None:
    assert all(len(row["why"]) > 3 for row in role_table()["roles"])


def test_terraform_works_the_table_out_to_exactly_its_rows(tmp_path: Path) -> None:
    assert sorted(evaluated_grants(tmp_path)) == sorted(rows())


def test_each_kind_of_resource_has_one_block_that_grants_its_rows_and_nothing_else_grants() -> None:
    granting = [label for label, _body in blocks("resource") if re.search(r"_iam_(member|binding|policy)\.", label)]

    assert sorted(granting) == sorted(f"{kind}.grant" for kind in IAM.values())
    assert {row[2] for row in rows()} == set(IAM)
    for kind, iam in IAM.items():
        body = resource(iam, "grant")
        assert f'if grant.kind == "{kind}"' in body["for_each"]
        assert (body["role"], body["member"]) == ("${each.value.role}", "${each.value.member}")


def test_nobody_gets_a_basic_role_a_key_or_a_stranger_in() -> None:
    granted = {role for _principal, role, _kind, _name in rows()}

    assert granted & {"roles/owner", "roles/editor", "roles/viewer"} == set()
    assert not [role for role in granted if re.search(r"[aA]dmin|[oO]wner", role)]
    assert not re.search(
        r"allUsers|allAuthenticatedUsers|google_service_account_key|roles/(owner|editor|viewer)", text()
    )


def test_nobody_may_rewrite_the_dataset_of_predictions() -> None:
    assert [row for row in rows() if row[2] == "dataset" and row[3] == "nba_predictions"] == []
    assert not [row for row in rows() if row[2] == "project" and row[1].startswith("roles/bigquery.data")]


def test_the_worker_reads_and_writes_what_it_needs_to() -> None:
    read = {name for principal, role, kind, name in rows() if (principal, kind) == ("worker", "dataset")}

    assert read == {table.partition(".")[0] for table in UPSTREAM}
    assert {row[3] for row in rows() if row[:2] == ("worker", "custom/mlfsTableWriter")} == set(STORED)


@pytest.mark.parametrize("principal", ["worker", "phase5"])
def test_who_reads_a_view_may_read_the_tables_below_it(principal: str) -> None:
    """BigQuery asks for both, unless a view is authorized."""
    readable = {row[3] for row in rows() if row[0] == principal and row[2] == "table"}

    for name in readable & set(VIEWS):
        below = set(re.findall(r"nba_predictions\.(\w+)", views()[name]["query"]))
        assert below
        assert below <= readable
    assert readable & set(VIEWS)


def test_every_name_in_the_table_is_one_that_terraform_makes_or_finds() -> None:
    made = {
        "table": {*tables(), *views()},
        "topic": set(local("topics")),
        "subscription": set(local("subscriptions")),
        "secret": set(re.findall(r"mlfs-redis-\w+", resource("google_secret_manager_secret", "redis")["for_each"])),
        "service_account": set(local("accounts")),
        "repository": {resource("google_artifact_registry_repository", "mlfs")["repository_id"]},
        "run_service": {
            yaml.safe_load((OPS / "cloudrun/push/service.yaml").read_text("utf-8"))["metadata"]["name"],
        },
    }
    datasets = {table.partition(".")[0] for table in UPSTREAM} | {
        body["dataset_id"] for body in resources("google_bigquery_dataset").values()
    }

    assert {row[0] for row in rows()} == set(local("principals"))
    for _principal, _role, kind, name in rows():
        assert name in made.get(kind, {"-"} if kind == "project" else datasets)
