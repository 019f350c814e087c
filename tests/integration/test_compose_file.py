"""docker-compose.yml names only what exists: files, settings, commands, ports; and keeps what it runs from harm."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml

from ops.cli import app
from tests.support.compose_runner.compose import Service, ports_of, read_compose
from tests.support.compose_runner.local import LEFT_OUT, Local
from worker.settings import Settings, load

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
RAW: Mapping[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
SERVICES = {one.name: one for one in read_compose(COMPOSE)}
OURS = [one for one in SERVICES.values() if one.is_ours]


def words_of(folder: str) -> Iterator[tuple[str, Any]]:
    for file in sorted((ROOT / folder).rglob("*.yml")):
        yield file.name, yaml.safe_load(file.read_text(encoding="utf-8"))


def test_the_file_follows_the_schema_of_compose_files() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_mounted_file_exists() -> None:
    sources = [ROOT / mount.source for one in SERVICES.values() for mount in one.mounts if mount.is_bind]

    assert sources
    assert [] == [source for source in sources if not source.exists()]


def test_every_named_volume_is_declared() -> None:
    used = {mount.source for one in SERVICES.values() for mount in one.mounts if not mount.is_bind}

    assert used == set(RAW["volumes"])


@pytest.mark.parametrize("service", OURS, ids=lambda one: one.name)
def test_the_settings_of_a_service_are_accepted(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)

    described = load(dict(service.environment)).describe()

    assert service.environment == {name: described[name] for name in service.environment}
    assert {f"MLFS_{name.upper()}" for name in Settings.model_fields} >= set(service.environment)


@pytest.mark.parametrize("service", OURS, ids=lambda one: one.name)
def test_the_command_of_a_service_exists(service: Service) -> None:
    command: Any = typer.main.get_command(app)
    words = list(service.command)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]

    with command.make_context(service.name, words, resilient_parsing=False) as context:
        assert not context.args


@pytest.mark.parametrize("service", OURS, ids=lambda one: one.name)
def test_what_we_run_has_no_rights_and_a_read_only_root(service: Service) -> None:
    raw = RAW["services"][service.name]

    assert raw["read_only"] is True
    assert ["ALL"] == raw["cap_drop"]
    assert ["no-new-privileges:true"] == raw["security_opt"]
    assert ["/tmp"] == raw["tmpfs"]  # noqa: S108 - of the container
    assert not {"privileged", "cap_add", "user"} & set(raw)


def test_nothing_is_published_beyond_this_machine() -> None:
    published = [text for raw in RAW["services"].values() for text in raw.get("ports", ())]

    assert published
    assert [] == [text for text in published if not text.startswith("127.0.0.1:")]
    assert "MLFS_HTTP_HOST" not in SERVICES["worker"].environment


def test_every_image_is_pinned() -> None:
    images = [one.image for one in SERVICES.values() if not one.is_ours]

    assert [] == [image for image in images if image.rpartition(":")[2] in {"", "latest", image}]


def test_what_stays_has_a_health_check_and_what_ends_has_none() -> None:
    """The door answers only once the worker does, and nobody waits for it."""
    assert [] == [
        one.name for one in SERVICES.values() if one.name != "door" and one.is_job is (one.healthcheck is not None)
    ]


def test_redis_keeps_what_it_acknowledges() -> None:
    words = SERVICES["redis"].command
    options = dict(zip(words[1::2], words[2::2], strict=True))

    assert ("yes", "always", "noeviction") == tuple(
        options[name] for name in ("--appendonly", "--appendfsync", "--maxmemory-policy")
    )


def test_the_monitoring_files_point_at_the_services() -> None:
    """All share one network namespace, so the shipped files are right as they are."""
    prometheus = dict(words_of("ops/prometheus"))["prometheus.yml"]
    (target,) = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]
    (notified,) = prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    provisioned = list(words_of("ops/grafana/provisioning"))
    (source,) = [body["datasources"][0]["url"] for _, body in provisioned if "datasources" in body]
    (folder,) = [body["providers"][0]["options"]["path"] for _, body in provisioned if "providers" in body]

    assert f"127.0.0.1:{SERVICES['worker'].environment['MLFS_HTTP_PORT']}" == target
    assert f"--web.listen-address=:{notified.rpartition(':')[2]}" in SERVICES["alertmanager"].command
    assert f"--web.listen-address=:{urlsplit(source).port}" in SERVICES["prometheus"].command
    assert folder in {mount.target for mount in SERVICES["grafana"].mounts}
    assert {"service:door"} == {raw["network_mode"] for name, raw in RAW["services"].items() if name != "door"}


def test_a_command_is_translated_to_this_machines_folders_and_ports(tmp_path: Path) -> None:
    ports = {port: port + 20_000 for port in ports_of(list(SERVICES.values()))}
    local = Local(tmp_path, ports)
    worker, prometheus = SERVICES["worker"], SERVICES["prometheus"]

    told = local.environment(worker)

    assert {6379, 8080, 8085, 8088, 9090, 9093, 3000} == set(ports)
    assert f"duckdb://{tmp_path}/volumes/data/warehouse.duckdb" == told["MLFS_WAREHOUSE"]
    assert ("redis://127.0.0.1:26379/0", "emulator://127.0.0.1:28085") == (told["MLFS_REDIS_URL"], told["MLFS_PUBSUB"])
    assert f"--config.file={tmp_path}/prometheus/prometheus/prometheus.yml" == local.here(
        prometheus, prometheus.command[0]
    )


def test_the_copies_of_mounted_files_keep_everything_but_ports(tmp_path: Path) -> None:
    local = Local(tmp_path, {8080: 28080, 9093: 29093})
    local.lay_out(SERVICES["prometheus"])
    copied = (tmp_path / "prometheus" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    shipped = (ROOT / "ops/prometheus/prometheus.yml").read_text(encoding="utf-8")

    assert shipped == copied.replace("28080", "8080").replace("29093", "9093")
    assert shipped != copied


def test_only_what_cannot_run_here_is_left_out() -> None:
    left_out = [one.name for one in SERVICES.values() if one.image.rpartition(":")[0] in LEFT_OUT]

    assert ["door", "grafana"] == sorted(left_out)
