"""What Terraform makes is what a worker expects: names, retention, dead letters, tables, Redis, alerts.

No provider can be reached from here, so `validate` and `plan` are left to whoever applies it.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from google.pubsub_v1.types import Subscription

from ops.generate.manifests import PROJECT, docs_address, tables, views
from tests.support.manifests import IMAGE, environment, render, settings_of, workloads
from tests.support.terraform import FOLDER, blocks, default, local, resource, resources, terraform, text
from worker.adapters.pubsub.unary import subscription_faults
from worker.pipelines.shipped import SHIPPED
from worker.pipelines.sql_checks import declared_columns
from worker.settings import Settings

DAY_S = 24 * 3600


def setting(name: str) -> Any:
    return SHIPPED.settings.get(name, Settings.model_fields[name].default)


def subscription(name: str) -> Any:
    return resource("google_pubsub_subscription", name)


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def test_the_files_are_formatted() -> None:
    done = terraform("fmt", "-check", "-diff")

    assert done.returncode == 0, done.stdout


def test_whatever_a_file_refers_to_is_declared_and_every_variable_is_used() -> None:
    declared = {label for label, _body in blocks("resource")} | {f"data.{label}" for label, _body in blocks("data")}
    names = re.findall(r"\b((?:data\.)?google_\w+\.\w+)\b", re.sub(r"#.*", "", text()))
    variables = {name for name, _body in blocks("variable")}

    assert set(names) - declared == set()
    assert set(re.findall(r"\bvar\.(\w+)", text())) == variables
    assert all(body["description"] for _name, body in blocks("variable"))
    for name in set(re.findall(r"\blocal\.(\w+)", text())):
        assert local(name) is not None


def test_what_needs_an_api_waits_until_it_is_switched_on() -> None:
    """In a new project the first apply would make both at the same time, and be refused."""
    first = ("google_service_account", "google_project_iam_custom_role", "google_artifact_registry_repository")
    others = ("google_bigquery_dataset", "google_pubsub_topic", "google_redis_instance", "google_secret_manager_secret")
    later = ("google_cloud_scheduler_job", "google_monitoring_alert_policy")

    for kind in (*first, *others, *later):
        for name, body in resources(kind).items():
            assert "google_project_service.api" in str(body.get("depends_on")), f"{kind}.{name}"
    assert "google_project_service.api" in str(dict(blocks("data"))["google_project.this"].get("depends_on"))


def test_the_api_that_a_resource_or_a_lookup_goes_through_is_switched_on() -> None:
    """By the prefix of a type; an API that is off refuses the first apply."""
    through = {
        "google_artifact_registry_": "artifactregistry",
        "google_bigquery_": "bigquery",
        "google_cloud_run_": "run",
        "google_cloud_scheduler_": "cloudscheduler",
        "google_monitoring_": "monitoring",
        "google_project_iam_custom_role": "iam",
        "google_project_iam_member": "cloudresourcemanager",
        "google_project.": "cloudresourcemanager",
        "google_pubsub_": "pubsub",
        "google_redis_": "redis",
        "google_secret_manager_": "secretmanager",
        "google_service_account": "iam",
    }
    switched_on = set(re.findall(r"(\w+)\.googleapis\.com", str(resource("google_project_service", "api")["for_each"])))
    made = [label for kind in ("resource", "data") for label, _body in blocks(kind)]
    needed = {label: [api for prefix, api in through.items() if label.startswith(prefix)] for label in made}
    needed.pop("google_project_service.api")

    assert [] == [label for label, apis in needed.items() if not apis]
    assert switched_on == {api for apis in needed.values() for api in apis}


def test_topics_and_subscriptions_bear_the_names_that_a_worker_uses_unless_told_otherwise() -> None:
    assert local("topics") == {
        "completions": setting("topic"),
        "success": setting("success_topic"),
        "failure": setting("failure_topic"),
        "dead_letter": setting("dead_letter_topic"),
    }
    assert subscription("worker")["name"] == setting("subscription")
    assert subscription("dead_letter")["name"] == f"{setting('dead_letter_topic')}-parked"


def test_every_topic_keeps_what_it_was_told_and_somebody_listens_to_each() -> None:
    topic = resource("google_pubsub_topic", "topic")
    heard = {
        re.findall(r'topic\["(\w+)"\]', body["topic"])[0] for body in resources("google_pubsub_subscription").values()
    }

    assert seconds(topic["message_retention_duration"]) == 31 * DAY_S
    assert heard == set(local("topics"))
    # A subscription that nobody reads all summer must be there in autumn.
    assert all(body["expiration_policy"] == [{"ttl": ""}] for body in resources("google_pubsub_subscription").values())


def test_the_workers_subscription_can_be_turned_back_and_gives_up_slowly() -> None:
    worker = subscription("worker")
    policy = worker["dead_letter_policy"][0]

    assert (worker["ack_deadline_seconds"], worker["retain_acked_messages"]) == (60, True)
    assert seconds(worker["message_retention_duration"]) == 7 * DAY_S
    assert worker["retry_policy"] == [{"minimum_backoff": "10s", "maximum_backoff": "600s"}]
    assert 5 <= policy["max_delivery_attempts"] <= 100
    assert (worker["enable_message_ordering"], worker["enable_exactly_once_delivery"]) == (False, False)
    assert "filter" not in worker


def test_the_doctor_has_nothing_to_say_about_what_terraform_makes() -> None:
    topics = {name: f"projects/p/topics/{topic}" for name, topic in local("topics").items()}

    def made(name: str) -> Subscription:
        body = subscription(name)
        policy = body.get("dead_letter_policy", [{}])[0].get("dead_letter_topic", "")
        return Subscription(
            topic=topics[re.findall(r'"(\w+)"', body["topic"])[0]],
            retain_acked_messages=body.get("retain_acked_messages", False),
            dead_letter_policy={"dead_letter_topic": topics["dead_letter"] if '"dead_letter"' in policy else policy},
        )

    worker = list(subscription_faults("worker", made("worker"), topics["completions"], topics["dead_letter"]))
    parked = list(subscription_faults("parked", made("dead_letter"), topics["dead_letter"], None))

    assert (worker, parked) == ([], [])


def test_dead_letters_wait_for_people_without_being_given_up_again() -> None:
    parked = subscription("dead_letter")

    assert seconds(parked["message_retention_duration"]) == 31 * DAY_S
    assert parked.keys() & {"retry_policy", "dead_letter_policy"} == set()


def test_redis_forgets_nothing_by_itself_and_is_not_alone() -> None:
    store = resource("google_redis_instance", "store")

    assert store["redis_configs"] == {"maxmemory-policy": "noeviction"}
    assert (store["tier"], store["auth_enabled"]) == ("STANDARD_HA", True)
    assert store["transit_encryption_mode"] == "SERVER_AUTHENTICATION"
    assert store["persistence_config"] == [{"persistence_mode": "RDB", "rdb_snapshot_period": "ONE_HOUR"}]
    assert float(store["redis_version"].removeprefix("REDIS_").replace("_", ".")) >= 7.0
    assert store["lifecycle"] == [{"prevent_destroy": True}]


def test_the_network_policy_opens_the_range_that_redis_gets() -> None:
    [policy] = [m for m in render("k8s/overlays/gke") if m["metadata"]["name"] == "egress-redis"]

    assert policy["spec"]["egress"][0]["to"] == [{"ipBlock": {"cidr": default("redis_range")}}]


def test_tables_are_made_from_the_ddl_and_kept() -> None:
    table = resource("google_bigquery_table", "own")

    assert json.loads((FOLDER / "tables.json").read_text("utf-8")) == tables()
    assert local("tables") == '${jsondecode(file("${path.module}/tables.json"))}'
    assert table["for_each"] == "${local.tables}"
    assert (table["schema"], table["clustering"]) == ("${jsonencode(each.value.schema)}", "${each.value.clustering}")
    assert table["time_partitioning"] == [{"type": "DAY", "field": "${each.value.partition}"}]
    assert table["deletion_protection"] is True


def test_views_are_made_from_the_ddl_after_the_tables_that_they_read() -> None:
    view = resource("google_bigquery_table", "view")
    read = {name for made in views().values() for name in re.findall(r"(?:FROM|JOIN) (\S+)", made["query"])} - {"("}

    assert json.loads((FOLDER / "views.json").read_text("utf-8")) == views()
    assert local("views") == '${jsondecode(file("${path.module}/views.json"))}'
    assert (view["for_each"], view["depends_on"]) == ("${local.views}", ["${google_bigquery_table.own}"])
    # A view that names no project is refused by the API.
    [asked] = view["view"]
    assert asked["query"] == '${replace(each.value.query, "`project`", "`${var.project}`")}'
    assert asked["use_legacy_sql"] is False
    assert {f"{PROJECT}.nba_predictions.{name}" for name in tables()} >= read
    assert read


def test_every_table_and_view_that_a_worker_uses_is_made_with_its_columns() -> None:
    """The ledger's list of publications is an array of records."""
    made = {f"nba_predictions.{name}": body["schema"] for name, body in tables().items()}
    ledger = {column["name"]: column for column in made[SHIPPED.tables.ledger]}

    assert set(made) == set(SHIPPED.tables.stored)
    assert {f"nba_predictions.{name}" for name in views()} == set(SHIPPED.tables.views)
    for table, columns in made.items():
        assert [column["name"] for column in columns] == list(declared_columns(SHIPPED.ddl_of(table)))
    assert ledger["publications"] == {
        "name": "publications",
        "type": "RECORD",
        "mode": "REPEATED",
        "fields": [
            {"name": "generation", "type": "INT64", "mode": "NULLABLE"},
            {"name": "build_id", "type": "STRING", "mode": "NULLABLE"},
            {"name": "committed_at", "type": "TIMESTAMP", "mode": "NULLABLE"},
        ],
    }


def test_google_watches_what_a_dead_worker_cannot() -> None:
    watched = {name: (one["metric"], one["subscription"]) for name, one in local("backlog").items()}
    worker, parked = (f"${{google_pubsub_subscription.{name}.name}}" for name in ("worker", "dead_letter"))

    assert watched == {
        "oldest_unacked": ("oldest_unacked_message_age", worker),
        "undelivered": ("num_undelivered_messages", worker),
        "forwarded": ("dead_letter_message_count", worker),
        "parked": ("num_undelivered_messages", parked),
    }
    assert set(resources("google_monitoring_alert_policy")) == {"backlog", "redis_memory"}


def test_every_alert_leads_to_a_section_of_the_runbook() -> None:
    runbook = (FOLDER.parents[1] / "docs/runbook.md").read_text("utf-8")
    sections = {name.lower() for name in re.findall(r"^### (\w+)$", runbook, re.MULTILINE)}

    assert json.loads((FOLDER / "docs.json").read_text("utf-8")) == {"docs_url": docs_address()}
    assert local("docs_url") == '${jsondecode(file("${path.module}/docs.json")).docs_url}'
    linked = re.findall(r"(\S*)/runbook\.md#(\w+)", text())
    assert {address for address, _ in linked} == {"${local.docs_url}"}
    assert {section for _, section in linked} <= sections


def test_the_scheduler_calls_the_service_as_the_service_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    [workload] = workloads(render("cloudrun/push"))
    settings = settings_of(environment(workload, ()), monkeypatch)
    job = resource("google_cloud_scheduler_job", "tick")
    [target] = job["http_target"]
    [push] = subscription("worker")["dynamic"][0]["push_config"]["content"]
    mail = f"@{default('project')}.iam.gserviceaccount.com"

    assert (job["schedule"], job["time_zone"]) == ("* 22,23,0 * * *", "America/New_York")
    assert seconds(job["attempt_deadline"]) >= settings.request_wait_s
    assert (target["http_method"], target["uri"]) == ("POST", "${var.push_endpoint}/tick")
    assert push["push_endpoint"] == "${push_config.value}/pubsub/push"
    assert audience(target) == settings.tick_audience
    assert audience(push) == settings.push_audience
    assert (f"mlfs-pusher{mail}", f"mlfs-scheduler{mail}") == (
        settings.push_service_account,
        settings.tick_service_account,
    )


def audience(body: Mapping[str, Any]) -> str:
    return str(body["oidc_token"][0]["audience"]).replace("${var.audience}", default("audience"))


def test_the_settings_that_terraform_gives_are_settings_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict(blocks("output"))["settings"]["value"]
    known = {f"MLFS_{name.upper()}" for name in Settings.model_fields}
    warehouse = given["MLFS_WAREHOUSE"]
    for variable in ("project", "bigquery_location"):
        warehouse = warehouse.replace(f"${{var.{variable}}}", default(variable))
    settings = settings_of({"MLFS_WAREHOUSE": warehouse, "MLFS_PUBSUB": given["MLFS_PUBSUB"]}, monkeypatch)

    assert set(given) <= known
    assert settings.warehouse == "bigquery://nba-props-platform?location=US"


def test_images_are_pushed_where_the_manifests_look_for_them() -> None:
    value = dict(blocks("output"))["image"]["value"]
    repository = resource("google_artifact_registry_repository", "mlfs")["repository_id"]
    for part, known in (
        ("${var.region}", default("region")),
        ("${var.project}", default("project")),
        ("${google_artifact_registry_repository.mlfs.repository_id}", repository),
    ):
        value = value.replace(part, known)

    assert value == IMAGE["newName"]
