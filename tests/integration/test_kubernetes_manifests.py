"""Every overlay renders, is what Kubernetes' own schemas allow, and starts a worker that it can probe."""

import re
import tomllib
from collections.abc import Mapping
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.manifests import (
    IMAGE,
    OPS,
    ROOT,
    Manifest,
    answers,
    environment,
    pods,
    render,
    settings_of,
    workloads,
)
from worker.adapters.redis.client import connect
from worker.resources import ProcessKind

OVERLAYS = ("gke", "keda", "prometheus-operator", "dev")
PRODUCTION = OVERLAYS[:3]
KUBERNETES = ("1.31", "1.35")
GOOGLE, OPERATOR = "monitoring.googleapis.com/v1", "monitoring.coreos.com/v1"
CUSTOM = {
    (GOOGLE, "PodMonitoring"),
    (GOOGLE, "Rules"),
    (OPERATOR, "PodMonitor"),
    (OPERATOR, "PrometheusRule"),
    ("keda.sh/v1alpha1", "ScaledObject"),
}


def overlay(name: str) -> list[Manifest]:
    return list(render(f"k8s/overlays/{name}"))


def one(manifests: list[Manifest], kind: str, name: str = "") -> Any:
    (found,) = [m for m in manifests if m["kind"] == kind and name in {"", m["metadata"]["name"]}]
    return found


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_schemas_of_kubernetes_accept_every_manifest(name: str) -> None:
    for manifest in overlay(name):
        if (manifest["apiVersion"], manifest["kind"]) in CUSTOM:
            continue
        for version in KUBERNETES:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_notice_what_is_wrong() -> None:
    deployment = one(overlay("gke"), "Deployment")

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**deployment, "spec": {**deployment["spec"], "replica": 2}}, "1.31", strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_settings_of_every_workload_are_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = overlay(name)
    for workload in workloads(manifests):
        with monkeypatch.context() as patch:
            settings = settings_of(environment(workload, manifests), patch)

        in_cloud = name in PRODUCTION
        assert settings.warehouse.startswith("bigquery://") is in_cloud, workload.name
        assert (settings.pubsub == "google") is in_cloud, workload.name


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_probe_and_scrape_meets_an_answer_of_the_worker(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = overlay(name)
    (worker,) = [one for one in workloads(manifests) if one.container["args"] == ["run"]]
    settings = settings_of(environment(worker, manifests), monkeypatch)
    probes = [worker.container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]

    asked = [answers(settings, worker.ports[probe["port"]], probe["path"], ProcessKind.PULL) for probe in probes]

    assert [probe["path"] for probe in probes] == ["/livez", "/livez", "/readyz"]
    # No stream is open here, and readiness says so.
    assert asked == [200, 200, 503]
    assert settings.http_host == "0.0.0.0"  # noqa: S104 -- the kubelet asks at the pod's address
    assert answers(settings, worker.ports["admin"], "/metrics", ProcessKind.PULL) == 200
    assert answers(settings, worker.ports["http"], "/metrics", ProcessKind.PULL) == 404


@pytest.mark.parametrize(("name", "kind"), [("gke", "PodMonitoring"), ("prometheus-operator", "PodMonitor")])
def test_the_scraper_finds_the_workers_and_is_let_in(name: str, kind: str) -> None:
    manifests = overlay(name)
    template = one(manifests, "Deployment")["spec"]["template"]
    spec = one(manifests, kind)["spec"]
    (endpoint,) = spec.get("endpoints") or spec["podMetricsEndpoints"]
    ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    (rule,) = one(manifests, "NetworkPolicy", "ingress-monitoring")["spec"]["ingress"]

    assert spec["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert endpoint["path"] == "/metrics"
    assert [port["port"] for port in rule["ports"]] == [ports[endpoint["port"]]]


@pytest.mark.parametrize(
    ("name", "version", "kind"), [("gke", GOOGLE, "Rules"), ("prometheus-operator", OPERATOR, "PrometheusRule")]
)
def test_the_alert_rules_are_those_that_promtool_tests(name: str, version: str, kind: str) -> None:
    shipped = [m for m in overlay(name) if m["kind"] == kind]
    sources = [yaml.safe_load((OPS / "prometheus" / f"{file}.yml").read_text("utf-8")) for file in ("alerts", "rules")]

    assert {m["apiVersion"] for m in shipped} == {version}
    assert sorted((m["spec"] for m in shipped), key=str) == sorted(sources, key=str)


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_pod_may_do_more_than_it_needs(name: str) -> None:
    found = [pod for manifest in overlay(name) for pod in pods(manifest)]
    for pod in found:
        context = pod["securityContext"]
        assert (context["runAsNonRoot"], context["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
    assert len(found) == 2


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_a_worker_writes_lies_on_a_volume(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = overlay(name)
    for workload in workloads(manifests):
        writable = [mount["mountPath"] for mount in workload.container["volumeMounts"] if not mount.get("readOnly")]
        with monkeypatch.context() as patch:
            folder = str(settings_of(environment(workload, manifests), patch).data_dir)

        assert any(f"{folder}/".startswith(f"{path}/") for path in writable), workload.name


@pytest.mark.parametrize("name", PRODUCTION)
def test_a_rollout_or_a_drained_node_leaves_a_worker(name: str) -> None:
    manifests = overlay(name)
    spec = one(manifests, "Deployment")["spec"]
    budget = one(manifests, "PodDisruptionBudget")["spec"]

    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert spec.get("replicas") == (None if name == "keda" else 2)
    assert budget["minAvailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 30
    assert {one["topologyKey"] for one in spec["template"]["spec"]["topologySpreadConstraints"]} == {
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    }


def allowed(manifests: list[Manifest], direction: str) -> dict[str, set[int]]:
    """Ports that policies open, by policy."""
    policies = [m for m in manifests if m["kind"] == "NetworkPolicy"]
    return {
        m["metadata"]["name"]: {port["port"] for rule in m["spec"][direction] for port in rule["ports"]}
        for m in policies
        if m["spec"].get(direction)
    }


def test_only_what_is_named_goes_in_and_out() -> None:
    gke = overlay("gke")
    denied = one(gke, "NetworkPolicy", "default-deny")["spec"]

    assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert allowed(gke, "egress") == {
        "egress-dns": {53},
        "egress-node-dns": {53},
        "egress-google-apis": {443},
        "egress-redis": {6378, 6379},
        "egress-metadata": {80, 8080, 987, 988},
    }
    assert allowed(gke, "ingress") == {"ingress-monitoring": {9090}}
    assert all(rule.get("to") for m in gke if m["kind"] == "NetworkPolicy" for rule in m["spec"].get("egress", []))


def test_redis_is_reached_over_tls_at_an_address_that_the_policy_opens() -> None:
    manifests = overlay("gke")
    (worker,) = [one for one in workloads(manifests) if one.container["args"] == ["run"]]
    client = connect(environment(worker, manifests)["MLFS_REDIS_URL"])
    options = client.connection_pool.connection_kwargs
    (mount,) = [one for one in worker.container["volumeMounts"] if one["name"] == "redis-ca"]
    client.close()

    assert options["ssl_ca_certs"] == f"{mount['mountPath']}/ca.pem"
    assert options["port"] in allowed(manifests, "egress")["egress-redis"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_image_is_named_in_one_place(name: str) -> None:
    used = {workload.container["image"] for workload in workloads(overlay(name))}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

    assert used == ({"mlfs:dev"} if name == "dev" else {f"{IMAGE['newName']}:{version}"})
    named = [
        str(file.relative_to(OPS))
        for file in sorted(OPS.rglob("*.yaml"))
        if re.search(r"newTag: \d", file.read_text("utf-8"))
    ]
    assert named == ["k8s/image/kustomization.yaml"]


def test_the_stand_in_ticks_around_every_deadline() -> None:
    spec: Mapping[str, Any] = one(overlay("gke"), "CronJob")["spec"]
    (container,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    wait_s = int(container["args"][-1])

    assert (spec["timeZone"], spec["concurrencyPolicy"]) == ("America/New_York", "Forbid")
    assert container["args"][:2] == ["tick", "--wait"]
    # A build may outlast the wait by one job; the pod outlives both.
    assert wait_s < spec["jobTemplate"]["spec"]["activeDeadlineSeconds"]


def test_at_night_the_clock_wakes_the_workers() -> None:
    spec = one(overlay("keda"), "ScaledObject")["spec"]

    assert spec["scaleTargetRef"]["name"] == one(overlay("keda"), "Deployment")["metadata"]["name"]
    assert spec["minReplicaCount"] == 0
    assert spec["triggers"] == [
        {
            "type": "cron",
            "metadata": {
                "timezone": "America/New_York",
                "start": "45 22 * * *",
                "end": "0 1 * * *",
                "desiredReplicas": "2",
            },
        }
    ]
