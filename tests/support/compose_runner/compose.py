"""docker-compose.yml, read as far as this project uses it. Pure, but for reading the file."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

# An address names its port after a colon; a setting or an option may give it alone.
_PORT = re.compile(r"(?:^|:)(\d{4,5})(?=$|[/,\"'\s])")


class Condition(StrEnum):
    """When a service that others depend on is far enough."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A volume: its source is a name, or a path that begins with a dot."""

    source: str
    target: str

    @property
    def is_bind(self) -> bool:
        """Whether files of the project are mounted."""
        return self.source.startswith(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service.

    Attributes:
        is_ours: It runs the image that the project's Dockerfile makes.
        is_job: It ends by itself; a service that stays says `restart`.
        healthcheck: The words of the check after `CMD`; None where there is none.
        depends_on: What it waits for, by service.
        published: (port on the host, port in the container).
    """

    name: str
    image: str
    is_ours: bool
    is_job: bool
    command: tuple[str, ...]
    environment: Mapping[str, str]
    healthcheck: tuple[str, ...] | None
    depends_on: Mapping[str, Condition]
    mounts: tuple[Mount, ...]
    published: tuple[tuple[int, int], ...]

    @property
    def texts(self) -> Iterable[str]:
        """Everything that may hold a path or a port."""
        yield from self.command
        yield from self.environment.values()
        yield from self.healthcheck or ()


def read_compose(path: Path) -> list[Service]:
    """Read the file; give the services so that each comes after those it waits for.

    Raises:
        OSError: There is no such file.
        KeyError, ValueError: The file uses a form that this reader does not know.
        graphlib.CycleError: Services wait for each other.
    """
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))["services"]
    services = {name: _service(name, fields) for name, fields in raw.items()}
    order = TopologicalSorter({name: list(one.depends_on) for name, one in services.items()}).static_order()
    return [services[name] for name in order]


def ports_of(services: Sequence[Service]) -> list[int]:
    """Give every port that the services listen on or speak to."""
    found = {int(port) for one in services for text in one.texts for port in _PORT.findall(text)}
    return sorted(found | {inside for one in services for _, inside in one.published})


def _service(name: str, fields: Mapping[str, Any]) -> Service:
    return Service(
        name=name,
        image=fields["image"],
        is_ours="build" in fields,
        is_job=fields.get("restart", "no") == "no",
        command=tuple(fields.get("command", ())),
        environment=dict(fields.get("environment", {})),
        healthcheck=_healthcheck(name, fields.get("healthcheck", {})),
        depends_on={other: Condition(how["condition"]) for other, how in fields.get("depends_on", {}).items()},
        mounts=tuple(_mount(text) for text in fields.get("volumes", ())),
        published=tuple(_published(text) for text in fields.get("ports", ())),
    )


def _healthcheck(name: str, fields: Mapping[str, Any]) -> tuple[str, ...] | None:
    if not fields or fields.get("disable"):
        return None
    kind, *words = fields["test"]
    if kind != "CMD":
        raise ValueError(f"{name}: a health check is CMD and a list of words, so that no shell is needed")
    return tuple(words)


def _mount(text: str) -> Mount:
    source, target, *_ = text.split(":")
    return Mount(source=source, target=target)


def _published(text: str) -> tuple[int, int]:
    _host, outside, inside = text.split(":")
    return int(outside), int(inside)
