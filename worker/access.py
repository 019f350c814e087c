"""Access control: roles by verified e-mail address, one access rule for each group of routes.

Pure except for the token verifier, and without state: a crash leaves no trace.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import NoReturn

from worker.errors import Forbidden, Unauthenticated, Unavailable
from worker.ports import TokenVerifier

# Name of the caller where no token is required.
LOCAL_CALLER = "local"


class Role(IntEnum):
    """Role of a caller; each role includes the rights of the lower roles."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def label(self) -> str:
        """Name of the role in messages and settings."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Admitted caller."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    """Access rule of one group of routes.

    Attributes:
        name: `push`, `tick` or `api`, for metrics.
        audiences: Accepted audiences of a token; empty accepts no token.
        role_of: Returns the role of an e-mail address, None for an unknown address.
        trusts_loopback: True if callers need no token: a loopback listener, and `MLFS_TRUST_LOOPBACK` is on.
        setting: Name of the setting with the audiences.
    """

    name: str
    audiences: tuple[str, ...]
    role_of: Callable[[str], Role | None]
    trusts_loopback: bool
    setting: str


def role_in(viewers: Collection[str], operators: Collection[str], admins: Collection[str], email: str) -> Role | None:
    """Return the highest role of an e-mail address; entries are addresses, or `@domain` for a whole domain."""
    local, at, domain = email.rpartition("@")
    if not local or not domain:
        return None
    names = {email, at + domain}
    for role, members in ((Role.ADMIN, admins), (Role.OPERATOR, operators), (Role.VIEWER, viewers)):
        if names & set(members):
            return role
    return None


class AccessControl:
    """Check of bearer tokens and roles."""

    def __init__(self, verifier: TokenVerifier, count_refused: Callable[[str, str], None]) -> None:
        """Store the collaborators.

        Args:
            verifier: Verifier of identity tokens.
            count_refused: Called at each refusal with the name of the access rule and the reason.
        """
        self._verifier = verifier
        self._count_refused = count_refused

    def admit(self, rule: AccessRule, authorization: str | None) -> Caller:
        """Return the caller of a request, or refuse and count the request.

        Args:
            rule: Access rule of the called route.
            authorization: The `Authorization` header, None if absent.

        Raises:
            Unauthenticated: The token is absent or invalid.
            Forbidden: The token is valid and the account has no role, or the access rule has no audience.
            Unavailable: Google's certificates cannot be fetched.
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
            raise Forbidden("not_configured", f"no account has access here until {rule.setting} names an audience")
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("missing", "send a Google identity token: Authorization: Bearer TOKEN")
        email = self._verifier.verify(token.strip(), rule.audiences)
        role = rule.role_of(email)
        if role is None:
            raise Forbidden("stranger", f"{email} has no role for these routes")
        return Caller(name=email, role=role)

    def require(self, rule: AccessRule, caller: Caller, least: Role) -> None:
        """Refuse a caller with a role below *least*.

        Raises:
            Forbidden: The role is too low; the message names the required role.
        """
        if caller.role < least:
            detail = f"{caller.name} has the role {caller.role.label}; the route requires the role {least.label}"
            self.refuse(rule, "role", detail)

    def refuse(self, rule: AccessRule, because: str, detail: str) -> NoReturn:
        """Count and refuse an admitted caller.

        Raises:
            Forbidden: Always.
        """
        self._count_refused(rule.name, because)
        raise Forbidden(because, detail)
