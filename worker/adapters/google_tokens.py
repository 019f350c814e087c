"""Google's OIDC identity tokens: Pub/Sub push, Cloud Scheduler, Workflows, `gcloud auth print-identity-token`.

Google's own library checks signature, times and audience; issuer and verified e-mail are checked here. Its helper would
fetch the certificates for every token: they are kept for an hour at most, and fetched early when a token names a key
that is not among them (Google changes its keys). While they cannot be fetched nobody is let in and nobody is told that
the token is bad.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any, TypeGuard, cast

import structlog
from google.auth import exceptions, jwt
from google.auth.transport import requests
from google.oauth2 import id_token
from requests import Session

from worker.adapters.direct import session_to
from worker.errors import Unauthenticated, Unavailable
from worker.ports import Clock

log = structlog.get_logger(__name__)

ISSUERS = frozenset({"accounts.google.com", "https://accounts.google.com"})
# Google's tokens are about 1 KiB long.
TOKEN_CHARS_MAX = 8 * 1024
CLOCK_SKEW_S = 10
# The end of the year 9999.
SECONDS_MAX = 253_402_300_799
# What Cloud Run puts in the place of a signature that it has checked.
SIGNATURE_REMOVED = ".SIGNATURE_REMOVED_BY_GOOGLE"
FETCH_TIMEOUT_S = 3.0
CERTIFICATES_KEPT_S = 3600.0
# Unknown keys and an endpoint that is down must not make this process hammer it.
REFETCH_PAUSE_S = 30.0
FAILURE_PAUSE_S = 5.0
OK = 200


@dataclass(frozen=True, slots=True)
class _Held:
    """Certificates as fetched: the JSON body, the key ids in it, and when."""

    body: bytes
    key_ids: frozenset[str]
    fetched_at: float


@dataclass(frozen=True, slots=True)
class _Answer:
    """What Google's helper wants of a transport."""

    data: bytes
    status: int = OK


class Certificates:
    """The issuer's certificates, cached; several threads may ask."""

    def __init__(self, url: str, stopwatch: Callable[[], float] = monotonic) -> None:
        self._url = url
        self._stopwatch = stopwatch
        self._fetch = requests.Request(session_to(url, Session()))
        self._lock = threading.Lock()
        self._held: _Held | None = None
        self._failed_at: float | None = None

    def holding(self, key_id: str) -> bytes:
        """Give the certificates, fetched again if they are old or do not have this key.

        Raises:
            Unavailable: They cannot be fetched.
        """
        held = self._fresh()
        if held is not None and key_id in held.key_ids:
            return held.body
        with self._lock:
            held, now = self._fresh(), self._stopwatch()
            if held is not None and (key_id in held.key_ids or now - held.fetched_at < REFETCH_PAUSE_S):
                return held.body
            if self._failed_at is not None and now - self._failed_at < FAILURE_PAUSE_S:
                raise Unavailable(f"the certificates of the token's issuer could not be read from {self._url}")
            try:
                self._held = self._fetched()
            except Unavailable as exc:
                self._failed_at = self._stopwatch()
                log.warning("certificates_not_read", url=self._url, error=str(exc))
                raise
            return self._held.body

    def _fresh(self) -> _Held | None:
        held = self._held
        return held if held is not None and self._stopwatch() - held.fetched_at < CERTIFICATES_KEPT_S else None

    def _fetched(self) -> _Held:
        started = self._stopwatch()
        try:
            answer = self._fetch(self._url, method="GET", timeout=FETCH_TIMEOUT_S)
        except exceptions.TransportError as exc:
            raise Unavailable(f"the certificates of the token's issuer cannot be read from {self._url}: {exc}") from exc
        if answer.status != OK:
            raise Unavailable(f"{self._url} answers {answer.status} instead of certificates")
        try:
            by_key_id = json.loads(answer.data)
        except ValueError as exc:
            raise Unavailable(f"{self._url} answers no JSON") from exc
        pem = isinstance(by_key_id, dict) and by_key_id and all(isinstance(one, str) for one in by_key_id.values())
        if not pem:
            raise Unavailable(f"{self._url} answers JSON, but not certificates by key id")
        return _Held(body=answer.data, key_ids=frozenset(by_key_id), fetched_at=started)


class GoogleTokens:
    """The `TokenVerifier` port for tokens of Google's issuer."""

    def __init__(self, certificates: Certificates, clock: Clock, *, behind_cloud_run_iam: bool = False) -> None:
        """Use an issuer's certificates.

        Args:
            certificates: Of the issuer.
            clock: This machine's.
            behind_cloud_run_iam: Cloud Run has verified every token that reaches this process, and has removed its
                signature; such a token is then believed. Wrong where anybody may invoke the service.
        """
        self._certificates = certificates
        self._clock = clock
        self._behind_cloud_run_iam = behind_cloud_run_iam

    def verify(self, token: str, audiences: Sequence[str]) -> str:
        """Check signature, times, audience, issuer and e-mail; give the e-mail."""
        if not audiences:
            raise ValueError("a token without an expected audience proves nothing")
        if len(token) > TOKEN_CHARS_MAX:
            raise Unauthenticated("malformed", "the token is too long")
        if token.endswith(SIGNATURE_REMOVED):
            return self._email(self._verified_before(token, audiences))
        certificates = self._certificates.holding(_key_id(token))
        try:
            claims = id_token.verify_token(
                token,
                cast("Any", lambda _url, **_options: _Answer(certificates)),
                audience=list(audiences),
                clock_skew_in_seconds=CLOCK_SKEW_S,
            )
        except Exception as exc:
            # Whatever a forged token makes the parser stumble over: it is not let in.
            raise Unauthenticated("refused", f"the token is refused: {_short(exc, audiences)}") from exc
        return self._email(claims)

    def _verified_before(self, token: str, audiences: Sequence[str]) -> Mapping[str, Any]:
        """Read a token whose signature Cloud Run's own check has removed."""
        if not self._behind_cloud_run_iam:
            raise Unauthenticated(
                "unsigned", "Cloud Run's IAM check has removed the token's signature; see MLFS_BEHIND_CLOUD_RUN_IAM"
            )
        try:
            claims: Mapping[str, Any] = jwt.decode(token, verify=False)
        except Exception as exc:
            raise Unauthenticated("malformed", "the token is no JSON web token") from exc
        expires = claims.get("exp")
        if claims.get("aud") not in audiences or not _is_instant(expires):
            raise Unauthenticated("refused", "the token is for another audience, or never ends")
        if expires + CLOCK_SKEW_S < self._clock.now().timestamp():
            raise Unauthenticated("refused", "the token has expired")
        return claims

    def _email(self, claims: Mapping[str, Any]) -> str:
        if claims.get("iss") not in ISSUERS:
            raise Unauthenticated("issuer", "the token is not of Google's issuer")
        if not all(_is_instant(claims[name]) for name in ("iat", "exp") if name in claims):
            raise Unauthenticated("refused", "the token is refused: iat and exp must be numbers of seconds")
        not_before = claims.get("nbf")
        if not_before is not None and not self._begun(not_before):
            raise Unauthenticated("refused", "the token is not valid yet")
        email = claims.get("email")
        if not isinstance(email, str) or not email:
            raise Unauthenticated("email", "the token names no e-mail address; ask for one that includes it")
        if claims.get("email_verified") is not True:
            raise Unauthenticated("email", "the token's e-mail address is not verified")
        return email.lower()

    def _begun(self, not_before: object) -> bool:
        latest = (self._clock.now() + timedelta(seconds=CLOCK_SKEW_S)).timestamp()
        return _is_instant(not_before) and not_before <= latest


def _is_instant(value: object) -> TypeGuard[float]:
    """Return whether a claim is a number of seconds since 1970; NaN and infinity are neither before nor after now."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= SECONDS_MAX


def _key_id(token: str) -> str:
    """Read which key is said to have signed; nothing is believed yet."""
    try:
        key_id = jwt.decode_header(token).get("kid")
    except Exception as exc:
        raise Unauthenticated("malformed", "the token is no signed JSON web token") from exc
    if not isinstance(key_id, str) or not key_id:
        raise Unauthenticated("malformed", "the token names no key")
    return key_id


def _short(error: Exception, audiences: Sequence[str]) -> str:
    """Return why the library refuses, without the token, and without the audiences: a stranger must not learn them."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if not isinstance(error, exceptions.InvalidValue):
        return "it cannot be verified"
    if "audience" in text:
        log.warning("token_for_another_audience", error=text, accepted=sorted(audiences))
        return "it is for another audience"
    return text[:100]
