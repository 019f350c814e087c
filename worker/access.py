"""Who may do what: roles by verified e-mail address, and one door per group of routes. Pure but for the verifier."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import NoReturn

from worker.errors import Forbidden, Unauthenticated, Unavailable
from worker.ports import TokenVerifier

# Who acts where no token is asked for.
LOCAL_CALLER = "local"


class Role(IntEnum):
    """What a caller may do; each role includes the ones below it."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def label(self) -> str:
        """Name for people and settings."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who was let in."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    """One group of routes and who may come in.

    Attributes:
        name: `push`, `tick` or `api`, for metrics.
        audiences: Audiences that a token may be for; empty lets no token in.
        role_of: The role of an e-mail address, None for a stranger.
        trusts_loopback: Callers need no token: the listener is bound to loopback and nobody switched this off.
        setting: Where the operator configures this door.
    """

    name: str
    audiences: tuple[str, ...]
    role_of: Callable[[str], Role | None]
    trusts_loopback: bool
    setting: str


def role_in(viewers: Collection[str], operators: Collection[str], admins: Collection[str], email: str) -> Role | None:
    """Give the highest role of an e-mail address; entries are addresses, or `@domain` for all of a domain."""
    local, at, domain = email.rpartition("@")
    if not local or not domain:
        return None
    names = {email, at + domain}
    for role, members in ((Role.ADMIN, admins), (Role.OPERATOR, operators), (Role.VIEWER, viewers)):
        if names & set(members):
            return role
    return None


class AccessControl:
    """Lets callers in by their bearer token."""

    def __init__(self, verifier: TokenVerifier, count_refused: Callable[[str, str], None]) -> None:
        """Wire it.

        Args:
            verifier: Reads tokens.
            count_refused: Called with the door's name and the reason of each refusal.
        """
        self._verifier = verifier
        self._count_refused = count_refused

    def admit(self, door: AccessRule, authorization: str | None) -> Caller:
        """Say who calls.

        Args:
            door: Where they knock.
            authorization: The `Authorization` header, None without one.

        Raises:
            Unauthenticated: No token, or one that proves nothing.
            Forbidden: A good token of somebody who has no business here, or a door that nobody configured.
            Unavailable: The issuer's certificates cannot be read.
        """
        try:
            return self._admitted(door, authorization)
        except (Unauthenticated, Forbidden) as exc:
            self._count_refused(door.name, exc.because)
            raise
        except Unavailable:
            self._count_refused(door.name, "unavailable")
            raise

    def _admitted(self, door: AccessRule, authorization: str | None) -> Caller:
        if not door.audiences:
            if door.trusts_loopback:
                return Caller(name=LOCAL_CALLER, role=Role.ADMIN)
            raise Forbidden("not_configured", f"nobody may come in here until {door.setting} names an audience")
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("missing", "send a Google identity token: Authorization: Bearer TOKEN")
        email = self._verifier.verify(token.strip(), door.audiences)
        role = door.role_of(email)
        if role is None:
            raise Forbidden("stranger", f"{email} has no role here")
        return Caller(name=email, role=role)

    def require(self, door: AccessRule, caller: Caller, least: Role) -> None:
        """Check that a caller's role is enough.

        Raises:
            Forbidden: It is not; says which one is.
        """
        if caller.role < least:
            self.refuse(door, "role", f"{caller.name} is {caller.role.label} here; this takes {least.label}")

    def refuse(self, door: AccessRule, because: str, detail: str) -> NoReturn:
        """Count a caller that is sent away, and send it away.

        Raises:
            Forbidden: Always.
        """
        self._count_refused(door.name, because)
        raise Forbidden(because, detail)
