"""Access tokens of OpenID Connect: the issuer's keys, cached within limits, and what a token must say to count.

The rules are those of RFC 8725 (best practices for JWTs) and RFC 9068: algorithms from a list and never from the token
alone, public keys only, issuer and audience exactly, a life that ends and is not long. A token that is bound to a
client certificate (RFC 8705, ``cnf``) counts only together with it.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from tokenweir.adapters.jsonhttp import JsonClient
from tokenweir.errors import RegistryError, TokenweirError

LONGEST_TOKEN: Final = 8192
MOST_KEYS: Final = 32
FRESH_SECONDS: Final = 300
"""How long keys count without being asked for again."""
RETRY_SECONDS: Final = 10
"""A key id that is not known makes the keys be asked for at most this often."""
USABLE_SECONDS: Final = 3600
"""How long keys count while the issuer does not answer; then nothing is accepted."""
_SMALLEST_RSA_BITS: Final = 2048
_TYPES: Final = frozenset({"at+jwt", "application/at+jwt", "jwt"})

Key = RSAKey | ECKey | OKPKey
Fetch = Callable[[], object]


class AccessTokenError(TokenweirError):
    """A token does not count (``invalid``), or it cannot be known whether it does (``unavailable``)."""

    def __init__(self, kind: Literal["invalid", "unavailable"]) -> None:
        super().__init__("the access token does not count" if kind == "invalid" else "the issuer's keys are not known")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whom a token speaks for, and the SHA-256 (base64url) of the certificate it is bound to, if it is."""

    subject: str
    certificate: str | None


def fetch_keys(url: str, ca_file: Path | None) -> Fetch:
    """Return the function that asks for a key set, with limits on time and size.

    Raises:
        RegistryError: the certificates to trust cannot be read, or the address is none.
    """
    parts = urlsplit(url)
    client = JsonClient(f"{parts.scheme}://{parts.netloc}", ca_file=ca_file)
    return lambda: client.call("GET", parts.path or "/")


class IssuerKeys:
    """The issuer's public keys by their ids.

    Args:
        fetch: Asks the issuer for its key set (RFC 7517).
        monotonic: Seconds of a clock that never steps.
    """

    def __init__(self, fetch: Fetch, monotonic: Callable[[], float]) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._fetching = threading.Lock()
        self._keys: dict[str, Key] = {}
        self._fetched: float | None = None
        self._tried: float | None = None

    def key(self, key_id: str) -> Key:
        """Return a key.

        Raises:
            AccessTokenError: ``invalid`` if the issuer has no such key, ``unavailable`` if that cannot be known.
        """
        with self._lock:
            now = self._monotonic()
            fresh = self._fetched is not None and now - self._fetched < FRESH_SECONDS
            due = self._tried is None or now - self._tried >= RETRY_SECONDS
            # Taken here already, so that whoever comes next and has no keys at all waits for this answer.
            asks = due and not (fresh and key_id in self._keys) and self._fetching.acquire(blocking=False)
            if asks:
                self._tried = now
            waits = self._fetched is None
        if asks:
            # Apart from the other lock: who shows a known key does not wait for what somebody else made up.
            try:
                self._refresh(now)
            finally:
                self._fetching.release()
        elif waits:
            with self._fetching:
                pass
        with self._lock:
            if self._fetched is None or self._monotonic() - self._fetched >= USABLE_SECONDS:
                raise AccessTokenError("unavailable")
            if key_id not in self._keys:
                raise AccessTokenError("invalid")
            return self._keys[key_id]

    def _refresh(self, now: float) -> None:
        """Ask the issuer; without an answer what is known stays."""
        try:
            keys = _usable_keys(self._fetch())
        except (RegistryError, AccessTokenError):
            return
        with self._lock:
            self._keys, self._fetched = keys, now


def _usable_keys(document: object) -> dict[str, Key]:
    """Return the public signature keys of a key set; private and symmetric ones, and short RSA keys, do not count.

    Raises:
        AccessTokenError: it is no key set.
    """
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise AccessTokenError("unavailable")
    keys: dict[str, Key] = {}
    for each in listed:
        if not isinstance(each, dict) or not isinstance(each.get("kid"), str) or each.get("use", "sig") != "sig":
            continue
        if each.get("kty") == "RSA" and len(str(each.get("n", ""))) * 6 < _SMALLEST_RSA_BITS:
            continue  # RFC 7518, section 3.3. A base64url character of the modulus holds six bits.
        try:
            key = JWKRegistry.import_key(each)
        except (JoseError, ValueError, TypeError, LookupError, AttributeError):
            continue
        if isinstance(key, RSAKey | ECKey | OKPKey) and not key.is_private:
            keys[each["kid"]] = key
    return keys


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must say."""

    issuer: str
    audience: str
    algorithms: Sequence[str]
    skew_seconds: int
    longest_seconds: int


class TokenVerifier:
    """Says whom an access token speaks for.

    Args:
        expected: What it must say.
        keys: The issuer's keys.
        now: Seconds since 1970.
    """

    def __init__(self, expected: Expected, keys: IssuerKeys, now: Callable[[], int]) -> None:
        self._expected = expected
        self._keys = keys
        self._now = now
        self._claims = jwt.JWTClaimsRegistry(
            now=now,
            leeway=expected.skew_seconds,
            iss={"essential": True, "value": expected.issuer},
            aud={"essential": True, "value": expected.audience},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )

    def verify(self, text: str) -> Bearer:
        """Return whom a token speaks for.

        Raises:
            AccessTokenError: it does not count, or that cannot be known. Nothing of the token is in the error.
        """
        header = _header(text)
        algorithm, key_id = header.get("alg"), header.get("kid")
        sound = algorithm in self._expected.algorithms and isinstance(key_id, str) and "crit" not in header
        if not sound or str(header.get("typ", "JWT")).lower() not in _TYPES:
            raise AccessTokenError("invalid")
        key = self._keys.key(str(key_id))
        try:
            claims = jwt.decode(text, key, algorithms=[str(algorithm)]).claims
            self._claims.validate(claims)
        except (JoseError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise AccessTokenError("invalid") from None
        subject, issued, expires = claims["sub"], claims["iat"], claims["exp"]
        numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (issued, expires))
        if not isinstance(subject, str) or not 0 < len(subject) <= 200 or not numbers:
            raise AccessTokenError("invalid")
        if expires - issued > self._expected.longest_seconds:
            raise AccessTokenError("invalid")
        return Bearer(subject, _bound_certificate(claims))


def _header(text: str) -> dict[str, Any]:
    """Return the header of a token, which nothing has vouched for yet."""
    parts = text.split(".")
    if len(text) > LONGEST_TOKEN or len(parts) != 3 or not text.isascii():
        raise AccessTokenError("invalid")
    try:
        header = json.loads(base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        raise AccessTokenError("invalid") from None
    if not isinstance(header, dict):
        raise AccessTokenError("invalid")
    return header


def _bound_certificate(claims: Mapping[str, Any]) -> str | None:
    """Return the certificate that a token is bound to (RFC 8705, section 3.1); a binding of another kind is refused."""
    confirmation = claims.get("cnf")
    if confirmation is None:
        return None
    thumbprint = confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None
    if not isinstance(thumbprint, str):
        raise AccessTokenError("invalid")
    return thumbprint
