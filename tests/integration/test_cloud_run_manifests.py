"""The Cloud Run manifests start workers that answer their probes, and let in only whom the Terraform lets in."""

import json
from typing import Any

import pytest

from tests.support.manifests import IMAGE, Workload, answers, environment, render, settings_of, workloads
from worker.adapters.redis.client import connect
from worker.app import TICK_SILENCE_MAX_S
from worker.resources import ProcessKind
from worker.settings import Settings

KINDS = {
    "pull": ("run.googleapis.com/v1", "WorkerPool", ["run"]),
    "push": ("serving.knative.dev/v1", "Service", ["serve"]),
}


def ours(name: str) -> Workload:
    (workload,) = workloads(render(f"cloudrun/{name}"))
    return workload


@pytest.fixture
def push(monkeypatch: pytest.MonkeyPatch) -> Settings:
    return settings_of(environment(ours("push"), ()), monkeypatch)


def template(workload: Workload) -> Any:
    return workload.manifest["spec"]["template"]


@pytest.mark.parametrize("name", KINDS)
def test_the_image_runs_the_right_command_under_the_workers_account(name: str) -> None:
    workload = ours(name)
    version, kind, arguments = KINDS[name]

    assert (workload.manifest["apiVersion"], workload.manifest["kind"]) == (version, kind)
    assert workload.container["image"] == f"{IMAGE['newName']}:{IMAGE['newTag']}"
    assert workload.container["args"] == arguments
    assert workload.pod["serviceAccountName"] == "mlfs-worker@nba-props-platform.iam.gserviceaccount.com"


@pytest.mark.parametrize("name", KINDS)
def test_the_probes_meet_an_answer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    workload = ours(name)
    settings = settings_of(environment(workload, ()), monkeypatch)
    probes = [workload.container[f"{kind}Probe"] for kind in ("startup", "liveness")]

    assert settings.http_host == "0.0.0.0"  # noqa: S104 -- probes come from outside the container
    kind = ProcessKind.PUSH if name == "push" else ProcessKind.PULL
    for probe in probes:
        asked = probe["httpGet"]
        assert answers(settings, asked["port"], asked["path"], kind) == 200
    assert probes[1]["periodSeconds"] * probes[1]["failureThreshold"] <= TICK_SILENCE_MAX_S


@pytest.mark.parametrize("name", KINDS)
def test_secrets_come_pinned_from_secret_manager_and_the_redis_authority_is_where_the_url_says(name: str) -> None:
    workload = ours(name)
    from_secrets = [one["valueFrom"]["secretKeyRef"] for one in workload.container["env"] if "valueFrom" in one]
    (volume,) = workload.pod["volumes"]
    (mount,) = workload.container["volumeMounts"]
    client = connect(environment(workload, ())["MLFS_REDIS_URL"])
    options = client.connection_pool.connection_kwargs
    client.close()

    assert from_secrets == [{"name": "mlfs-redis-url", "key": "1"}]
    assert volume["secret"] == {"secretName": "mlfs-redis-ca", "items": [{"key": "1", "path": "ca.pem"}]}
    assert options["ssl_ca_certs"] == f"{mount['mountPath']}/ca.pem"


@pytest.mark.parametrize("name", KINDS)
def test_redis_is_reached_through_the_network_and_google_beside_it(name: str) -> None:
    annotations = template(ours(name))["metadata"]["annotations"]

    assert annotations["run.googleapis.com/vpc-access-egress"] == "private-ranges-only"
    assert json.loads(annotations["run.googleapis.com/network-interfaces"])[0].keys() == {"network", "subnetwork"}


def test_the_pull_pool_is_scaled_by_hand_and_never_to_none() -> None:
    annotations = ours("pull").manifest["metadata"]["annotations"]

    assert annotations["run.googleapis.com/scalingMode"] == "manual"
    assert int(annotations["run.googleapis.com/manualInstanceCount"]) in {1, 2}


def test_the_service_is_internal_and_answers_within_its_time(push: Settings) -> None:
    workload = ours("push")
    spec, annotations = template(workload)["spec"], template(workload)["metadata"]["annotations"]
    service = workload.manifest["metadata"]["annotations"]

    assert service["run.googleapis.com/ingress"] == "internal"
    assert (spec["containerConcurrency"], spec["timeoutSeconds"]) == (10, 150)
    assert annotations["run.googleapis.com/execution-environment"] == "gen2"
    assert push.request_wait_s < spec["timeoutSeconds"]
    # Request-based billing takes the processor away between requests, so nothing may run there.
    assert (annotations["run.googleapis.com/cpu-throttling"], push.serve_loops) == ("true", False)


def test_the_service_starts_and_believes_cloud_runs_check_only_where_that_check_is_made(
    push: Settings,
) -> None:
    service = ours("push").manifest["metadata"]["annotations"]
    audiences = {push.push_audience, push.tick_audience, *push.api_audiences}

    assert push.serving_faults() == []
    assert push.behind_cloud_run_iam
    assert "run.googleapis.com/invoker-iam-disabled" not in service
    assert set(json.loads(service["run.googleapis.com/custom-audiences"])) == audiences
    assert len(audiences) == 3
    assert "MLFS_BEHIND_CLOUD_RUN_IAM" not in environment(ours("pull"), ())
