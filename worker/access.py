"""Access control by verified e-mail address: roles, and an access rule for each group of routes."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import NoReturn

from worker.errors import Forbidden, Unauthenticated, Unavailable
from worker.ports import TokenVerifier

# Name of a caller without a token, on a listener bound to loopback.
LOCAL_CALLER = "local"


class Role(IntEnum):
    """Role of a caller; each role includes the lower roles."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def label(self) -> str:
        """Name in messages and settings."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An admitted caller."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    """Access rule of a group of routes.

    Attributes:
        name: `push`, `tick` or `api`, for metrics.
        audiences: Accepted audiences of a token; with an empty tuple no token is accepted.
        role_of: Returns the role of an e-mail address, None for an unknown address.
        trusts_loopback: Callers need no token: the listener is bound to loopback and the trust is not switched off.
        setting: Name of the setting with the audiences.
    """

    name: str
    audiences: tuple[str, ...]
    role_of: Callable[[str], Role | None]
    trusts_loopback: bool
    setting: str


def role_in(viewers: Collection[str], operators: Collection[str], admins: Collection[str], email: str) -> Role | None:
    """Return the highest role of an e-mail address; an entry is an address, or `@domain` for a whole domain."""
    local, at, domain = email.rpartition("@")
    if not local or not domain:
        return None
    names = {email, at + domain}
    for role, members in ((Role.ADMIN, admins), (Role.OPERATOR, operators), (Role.VIEWER, viewers)):
        if names & set(members):
            return role
    return None


class AccessControl:
    """Verifies bearer tokens and checks roles."""

    def __init__(self, verifier: TokenVerifier, count_refused: Callable[[str, str], None]) -> None:
        """Store the collaborators.

        Args:
            verifier: Verifies tokens.
            count_refused: Called with the name of the access rule and the reason of each refusal.
        """
        self._verifier = verifier
        self._count_refused = count_refused

    def admit(self, rule: AccessRule, authorization: str | None) -> Caller:
        """Return the caller named by the bearer token.

        Args:
            rule: Access rule of the requested route.
            authorization: The `Authorization` header, None without a header.

        Raises:
            Unauthenticated: The token is missing or invalid.
            Forbidden: The address of a valid token has no role, or the access rule has no audience.
            Unavailable: The issuer's certificates cannot be read.
        """
        try:
            return self._admitted(rule, authorization)
        except (Unauthenticated, Forbidden) as exc:
            self._count_refused(rule.name, exc.because)
            raise
        except Unavailable:
            self._count_refused(rule.name, "unavailable")
            raise

    def _admitted(self, rule: AccessRule, authorization: str | None) -> Caller:
        if not rule.audiences:
            if rule.trusts_loopback:
                return Caller(name=LOCAL_CALLER, role=Role.ADMIN)
            raise Forbidden("not_configured", f"no caller is admitted until {rule.setting} names an audience")
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("missing", "send a Google identity token: Authorization: Bearer TOKEN")
        email = self._verifier.verify(token.strip(), rule.audiences)
        role = rule.role_of(email)
        if role is None:
            raise Forbidden("stranger", f"{email} has no role here")
        return Caller(name=email, role=role)

    def require(self, rule: AccessRule, caller: Caller, least: Role) -> None:
        """Check that the role of a caller includes *least*.

        Raises:
            Forbidden: The role is too low; the message names the necessary role.
        """
        if caller.role < least:
            self.refuse(rule, "role", f"{caller.name} is {caller.role.label} here; this takes {least.label}")

    def refuse(self, rule: AccessRule, because: str, detail: str) -> NoReturn:
        """Count the refusal and raise `Forbidden`.

        Raises:
            Forbidden: Always.
        """
        self._count_refused(rule.name, because)
        raise Forbidden(because, detail)
