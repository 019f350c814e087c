"""Google's OIDC identity tokens: Pub/Sub push, Cloud Scheduler, Workflows, `gcloud auth print-identity-token`.

Google's library checks signature, times and audience of a token. This module checks issuer and verified e-mail.

The HTTP session keeps the certificates of the issuer for an hour. A token with an unknown key causes an early fetch,
because Google changes the keys. If the certificates cannot be fetched, the request gets 503. A 401 would blame the
token. A crash loses only the cached certificates.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from email.utils import formatdate
from math import inf
from time import monotonic
from typing import Any, TypeGuard

import structlog
from cachecontrol import CacheControlAdapter, CacheController
from cachecontrol.cache import DictCache
from cachecontrol.heuristics import ExpiresAfter
from google.auth import exceptions, jwt
from requests import RequestException, Response, Session

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
# Cloud Run replaces the signature of a verified token with this text.
SIGNATURE_REMOVED = ".SIGNATURE_REMOVED_BY_GOOGLE"
FETCH_TIMEOUT_S = 3.0
CERTIFICATES_KEPT_S = 3600
# Pauses before an early fetch and after a failed fetch: forged tokens must not flood the issuer.
REFETCH_PAUSE_S = 30.0
FAILURE_PAUSE_S = 5.0
OK = 200


class _KeptForAnHour(ExpiresAfter):
    """Lifetime of the cached certificates, whatever the issuer's headers about caching state."""

    def update_headers(self, response: Any) -> dict[str, str]:  # noqa: ANN401 - of urllib3
        """Return the headers to replace. With Vary or a wrong Date, each token would cause a fetch."""
        return {**super().update_headers(response), "date": formatdate(usegmt=True), "vary": ""}


class Certificates:
    """Certificates of an issuer by key id, cached by the HTTP session. Thread-safe."""

    def __init__(self, url: str, stopwatch: Callable[[], float] = monotonic) -> None:
        self._url = CacheController.cache_url(url)
        self._stopwatch = stopwatch
        self._cache = DictCache()
        self._session = session_to(url, Session())
        self._session.mount(
            url, CacheControlAdapter(self._cache, heuristic=_KeptForAnHour(seconds=CERTIFICATES_KEPT_S))
        )
        # Early fetches have a separate lock and a separate pause: a token with a known key never waits for them.
        self._locks = {early: threading.Lock() for early in (False, True)}
        self._failed_at = dict.fromkeys((False, True), -inf)
        self._fetched_at = -inf

    def holding(self, key_id: str) -> Mapping[str, str]:
        """Return the certificates; fetch early if the cached certificates lack this key.

        Raises:
            Unavailable: The certificates cannot be fetched.
        """
        certificates = self._read(early=False)
        return certificates if key_id in certificates else self._read(early=True)

    def _read(self, *, early: bool) -> Mapping[str, str]:
        with self._locks[early]:
            early = early and self._stopwatch() - self._fetched_at >= REFETCH_PAUSE_S
            if self._stopwatch() - self._failed_at[early] < FAILURE_PAUSE_S:
                raise Unavailable(f"the certificates of the token's issuer could not be read from {self._url}")
            try:
                return self._get({"Cache-Control": "no-cache"} if early else {})
            except Unavailable as exc:
                self._failed_at[early] = self._stopwatch()
                log.warning("certificates_not_read", url=self._url, error=str(exc))
                raise

    def _get(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        started, kept = self._stopwatch(), self._cache.get(self._url)
        try:
            answer = self._session.get(self._url, headers=headers, timeout=FETCH_TIMEOUT_S)
        except RequestException as exc:
            raise Unavailable(f"the certificates of the token's issuer cannot be read from {self._url}: {exc}") from exc
        certificates = _certificates_in(answer)
        if not certificates:
            # The cache may hold the bad answer now. Put the certificates back.
            self._cache.set(self._url, kept) if kept else self._cache.delete(self._url)
            raise Unavailable(f"{self._url} answers {answer.status_code} without certificates by key id")
        if not getattr(answer, "from_cache", False):
            self._fetched_at = started
        return certificates


class GoogleTokens:
    """The `TokenVerifier` port for tokens of Google's issuer."""

    def __init__(self, certificates: Certificates, clock: Clock, *, behind_cloud_run_iam: bool = False) -> None:
        """Prepare to verify tokens.

        Args:
            certificates: Certificates of the issuer.
            clock: Clock of this machine.
            behind_cloud_run_iam: Accept a token without signature: Cloud Run has verified every token that reaches this
                process, and has removed the signature. Wrong if Cloud Run admits unauthenticated calls.
        """
        self._certificates = certificates
        self._clock = clock
        self._behind_cloud_run_iam = behind_cloud_run_iam

    def verify(self, token: str, audiences: Sequence[str]) -> str:
        """Check signature, times, audience, issuer and e-mail; return the e-mail in lower case."""
        if not audiences:
            raise ValueError("a token without an expected audience proves nothing")
        if len(token) > TOKEN_CHARS_MAX:
            raise Unauthenticated("malformed", "the token is too long")
        if token.endswith(SIGNATURE_REMOVED):
            return self._email(self._verified_before(token, audiences))
        certificates = self._certificates.holding(_key_id(token))
        try:
            claims = jwt.decode(token, certs=certificates, audience=list(audiences), clock_skew_in_seconds=CLOCK_SKEW_S)
        except Exception as exc:
            # A forged token can raise any exception in the parser. Refuse the token.
            raise Unauthenticated("refused", f"the token is refused: {_short(exc, audiences)}") from exc
        return self._email(claims)

    def _verified_before(self, token: str, audiences: Sequence[str]) -> Mapping[str, Any]:
        """Check a token without signature, verified by Cloud Run before."""
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


def _certificates_in(answer: Response) -> Mapping[str, str]:
    """Return the certificates by key id; empty if the issuer answers anything else."""
    try:
        body = answer.json() if answer.status_code == OK else None
    except ValueError:
        return {}
    return body if isinstance(body, dict) and all(isinstance(text, str) for text in body.values()) else {}


def _is_instant(value: object) -> TypeGuard[float]:
    """Return whether a claim is a number of seconds since 1970. NaN and infinity cannot be compared with a time."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= SECONDS_MAX


def _key_id(token: str) -> str:
    """Return the key id in the header of a token. The header is not verified yet."""
    try:
        key_id = jwt.decode_header(token).get("kid")
    except Exception as exc:
        raise Unauthenticated("malformed", "the token is no signed JSON web token") from exc
    if not isinstance(key_id, str) or not key_id:
        raise Unauthenticated("malformed", "the token names no key")
    return key_id


def _short(error: Exception, audiences: Sequence[str]) -> str:
    """Return the library's reason without token and audiences, because a stranger must not learn the audiences."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if not isinstance(error, exceptions.InvalidValue):
        return "it cannot be verified"
    if "audience" in text:
        log.warning("token_for_another_audience", error=text, accepted=sorted(audiences))
        return "it is for another audience"
    return text[:100]
