"""What stands on this machine for what a container has: a program for an image, a folder for a volume, a free port."""

import os
import re
import shutil
import socket
import sys
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.compose_runner.compose import Mount, Service
from worker.errors import Unavailable

ROOT = Path(__file__).parents[3]
PROBE_TIMEOUT_S = 4.0
# No proxy stands between this machine and itself.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

GOOGLE = "gcr.io/google.com/cloudsdktool/google-cloud-cli"
GRAFANA = "grafana/grafana"
DOOR = "alpine/socat"
LEFT_OUT: Mapping[str, str] = {
    DOOR: "only containers need a door to this machine's loopback",
    GRAFANA: "no package registry has a Grafana server; its queries are checked by the tests",
}
# Programs that an image starts by itself, under Debian's names.
PROGRAMS: Mapping[str, str] = {"prom/prometheus": "prometheus", "prom/alertmanager": "prometheus-alertmanager"}
DEBIAN: Mapping[str, str] = {
    "redis-server": "redis-server",
    "redis-cli": "redis-tools",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
}


@dataclass(frozen=True, slots=True)
class Local:
    """Translates a service of the compose file.

    Attributes:
        folder: Where volumes and copies of mounted files lie.
        ports: The port here for each port of the compose file.
        scrape_s: Seconds between two scrapes instead of those of the shipped file; None leaves it as it is.
    """

    folder: Path
    ports: Mapping[int, int]
    scrape_s: int | None = None
    notes: list[str] = field(default_factory=list)

    def command(self, service: Service) -> list[str]:
        """Give the command that stands for the service's.

        Raises:
            Unavailable: The program is not installed, or nothing is known to stand for the image.
        """
        words = [self.here(service, word) for word in service.command]
        if service.is_ours:
            return [sys.executable, "-m", "ops", *words]
        image = _repository(service.image)
        if image == GOOGLE:
            return self._pubsub(words)
        if image == "redis":
            return [program(words[0]), *words[1:]]
        if image in PROGRAMS:
            return [program(PROGRAMS[image]), *words]
        raise Unavailable(f"{service.name}: nothing on this machine is known to stand for {image}")

    def _pubsub(self, words: list[str]) -> list[str]:
        (address,) = [word.removeprefix("--host-port=") for word in words if word.startswith("--host-port=")]
        found = find_emulator()
        if isinstance(found, Path):
            host, port = address.split(":")
            self.notes.append("Pub/Sub is Google's emulator")
            return [str(found), f"--host={host}", f"--port={port}"]
        self.notes.append(f"Pub/Sub is this project's own server: {found}")
        return [sys.executable, "-m", "tests.support.compose_runner.pubsub", address]

    def environment(self, service: Service) -> dict[str, str]:
        """Give the environment: this machine's without settings of ours, and the service's."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFS_", "OTEL_"))}
        clean.pop("PUBSUB_EMULATOR_HOST", None)
        return clean | {name: self.here(service, text) for name, text in service.environment.items()}

    def probe(self, service: Service) -> list[str] | Callable[[], bool] | None:
        """Give the health check: a command, or a call where the container would fetch an address by curl or wget."""
        if service.healthcheck is None:
            return None
        words = [self.here(service, word) for word in service.healthcheck]
        if words[0] in {"curl", "wget"}:
            address = words[-1]
            # The project's own Pub/Sub server speaks gRPC only, the emulator plain HTTP as well.
            by_port = _repository(service.image) == GOOGLE and not isinstance(find_emulator(), Path)
            return lambda: (listens if by_port else answers)(address)
        return [sys.executable if words[0] == "python" else program(words[0]), *words[1:]]

    def here(self, service: Service, text: str) -> str:
        """Put this machine's paths and ports in the place of the container's."""
        for mount in sorted(service.mounts, key=lambda one: len(one.target), reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(mount.target)}(?![\w.])", str(self.path_of(service, mount)), text)
        return self._with_ports(text)

    def _with_ports(self, text: str) -> str:
        return re.sub(r"\b\d{4,5}\b", lambda found: str(self.ports.get(int(found[0]), found[0])), text)

    def path_of(self, service: Service, mount: Mount) -> Path:
        """Where a volume, or the copy of a mounted file or folder, lies."""
        if mount.is_bind:
            return self.folder / service.name / Path(mount.source).name
        return self.folder / "volumes" / mount.source

    def lay_out(self, service: Service) -> None:
        """Make the service's volumes, and copy what is mounted from the project, with this machine's ports in it."""
        for mount in service.mounts:
            target = self.path_of(service, mount)
            source = ROOT / mount.source
            if not mount.is_bind:
                target.mkdir(parents=True, exist_ok=True)
            elif source.is_dir():
                for file in (one for one in source.rglob("*") if one.is_file()):
                    self._copy(file, target / file.relative_to(source))
            else:
                self._copy(source, target)

    def _copy(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        text = self._with_ports(source.read_text(encoding="utf-8"))
        if self.scrape_s is not None:
            text = re.sub(r"\b(scrape|evaluation)_interval: \w+", rf"\1_interval: {self.scrape_s}s", text)
        target.write_text(text, encoding="utf-8")


def _repository(image: str) -> str:
    return image.rpartition(":")[0]


def left_out(service: Service) -> str | None:
    """Say why a service is not run here; None where it is."""
    return LEFT_OUT.get(_repository(service.image))


def program(name: str) -> str:
    """Find a program.

    Raises:
        Unavailable: It is not installed; says how to.
    """
    found = shutil.which(name) or (shutil.which("alertmanager") if name == "prometheus-alertmanager" else None)
    if found is None:
        raise Unavailable(f"{name} is not installed (Debian: apt-get install {DEBIAN.get(name, name)})")
    return found


def find_emulator() -> Path | str:
    """Give the start script of Google's Pub/Sub emulator, or why there is none."""
    home = os.environ.get("PUBSUB_EMULATOR_HOME")
    if home is None:
        gcloud = shutil.which("gcloud")
        if gcloud is None:
            return "no PUBSUB_EMULATOR_HOME and no gcloud on the path"
        home = str(Path(gcloud).resolve().parents[1] / "platform" / "pubsub-emulator")
    script = Path(home) / "bin" / "cloud-pubsub-emulator"
    if not script.exists():
        return f"the Cloud SDK here has no Pub/Sub emulator ({script})"
    return script if shutil.which("java") else "Google's Pub/Sub emulator needs Java, which is not on the path"


def answers(address: str) -> bool:
    """Whether an address answers with a success now."""
    try:
        with _DIRECT.open(address, timeout=PROBE_TIMEOUT_S):
            return True
    except OSError:
        return False


def listens(address: str) -> bool:
    """Whether the port of an address is open."""
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname, parts.port), timeout=PROBE_TIMEOUT_S):
            return True
    except OSError:
        return False


def fetch(address: str) -> bytes:
    """Read an address of this machine.

    Raises:
        OSError: It does not answer with a success.
    """
    with _DIRECT.open(address, timeout=PROBE_TIMEOUT_S) as answer:
        body: bytes = answer.read()
    return body
