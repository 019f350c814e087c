"""Settings of HTTP: listeners, callers with access, and the time limit of a request."""

import re
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode

from worker.access import AccessRule, Role, role_in
from worker.settings import checks

Names = Annotated[frozenset[str], NoDecode]
GOOGLE_CERTIFICATES = "https://www.googleapis.com/oauth2/v1/certs"
_MEMBER = re.compile(r"[^@\s]*@[^@\s]+")


def is_loopback(host: str) -> bool:
    """Return True if only this machine reaches a listener on *host*."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class AccessSettings(BaseSettings):
    """HTTP fields of `worker.settings.model.Settings`."""

    http_host: str = Field(default="127.0.0.1", description="Address of the HTTP listener.")
    http_port: int = Field(default=8080, ge=0, le=65535, description="Port of the HTTP listener; 0 takes a free port.")
    admin_host: str = Field(default="127.0.0.1", description="Address of the second listener, if `admin_port` is set.")
    admin_port: int | None = Field(
        default=None, ge=0, le=65535, description="Moves dates, replays and metrics to a second listener."
    )
    push_audience: str = Field(default="", description="Audience of the push subscription's tokens.")
    push_service_account: str = Field(default="", description="E-mail of the account that signs pushes.")
    tick_audience: str = Field(default="", description="Audience of the scheduler's tokens for /tick.")
    tick_service_account: str = Field(default="", description="E-mail of the account that calls /tick.")
    api_audiences: Names = Field(default=frozenset(), description="Audiences accepted by /process and /dates.")
    viewers: Names = Field(default=frozenset(), description="May read: e-mails or @domains, comma separated.")
    operators: Names = Field(default=frozenset(), description="May also process, replay and cancel.")
    admins: Names = Field(default=frozenset(), description="May also take over a running build.")
    trust_loopback: bool = Field(default=True, description="No token needed on a loopback listener without audience.")
    oidc_certs_url: str = Field(default=GOOGLE_CERTIFICATES, description="Address of the token issuer's certificates.")
    behind_cloud_run_iam: bool = Field(
        default=False, description="Accept tokens without signature: Cloud Run has verified the token."
    )
    serve_loops: bool = Field(default=False, description="`mlfs serve` works between requests, too.")
    request_wait_s: float = Field(
        default=120.0, ge=1, le=540, description="A request waits for builds at most this long."
    )

    @field_validator("api_audiences", "viewers", "operators", "admins", mode="before")
    @classmethod
    def _read_names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return frozenset(part.strip() for part in value.split(",") if part.strip())

    @field_validator("viewers", "operators", "admins")
    @classmethod
    def _members(cls, value: frozenset[str]) -> frozenset[str]:
        wrong = sorted(one for one in value if not _MEMBER.fullmatch(one))
        if wrong:
            raise ValueError(f"{wrong[0]!r} is neither an e-mail address nor an @domain")
        return frozenset(one.lower() for one in value)

    @field_validator("push_service_account", "tick_service_account")
    @classmethod
    def _account(cls, value: str) -> str:
        if value and not (_MEMBER.fullmatch(value) and value[0] != "@"):
            raise ValueError(f"{value!r} is no e-mail address")
        return value.lower()

    _hosts = field_validator("http_host", "admin_host")(checks.listener_host)

    @field_validator("oidc_certs_url")
    @classmethod
    def _certificates_url(cls, value: str) -> str:
        parts = urlsplit(checks.http_url(value))
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise ValueError("must begin with https://; plain http is for loopback only")
        return value

    def serving_faults(self) -> list[str]:
        """Return the settings that would let any caller reach `mlfs serve`; empty if the start is safe."""
        faults = []
        for group in ("push", "tick"):
            audience, account = getattr(self, f"{group}_audience"), getattr(self, f"{group}_service_account")
            prefix = f"MLFS_{group.upper()}"
            if audience and not account:
                faults.append(f"{prefix}_SERVICE_ACCOUNT: needed; name the account with tokens for {audience}")
            needed = group == "push" or not self.serve_loops
            if needed and not audience and not self._trusted(self.http_host):
                faults.append(f"{prefix}_AUDIENCE: needed, because any program could call {self.http_host}")
        return faults

    def push_rule(self) -> AccessRule:
        """Return the access rule of `/pubsub/push`."""
        return self._machine_rule("push", self.push_audience, self.push_service_account)

    def tick_rule(self) -> AccessRule:
        """Return the access rule of `/tick`."""
        return self._machine_rule("tick", self.tick_audience, self.tick_service_account)

    def _machine_rule(self, name: str, audience: str, account: str) -> AccessRule:
        return AccessRule(
            name=name,
            audiences=(audience,) if audience else (),
            role_of=lambda email: Role.OPERATOR if account and email == account else None,
            trusts_loopback=self._trusted(self.http_host),
            setting=f"MLFS_{name.upper()}_AUDIENCE",
        )

    def api_rule(self) -> AccessRule:
        """Return the access rule of the API and the pages."""
        host = self.http_host if self.admin_port is None else self.admin_host
        return AccessRule(
            name="api",
            audiences=tuple(sorted(self.api_audiences)),
            role_of=lambda email: role_in(self.viewers, self.operators, self.admins, email),
            trusts_loopback=self._trusted(host),
            setting="MLFS_API_AUDIENCES",
        )

    def _trusted(self, host: str) -> bool:
        return self.trust_loopback and is_loopback(host)
