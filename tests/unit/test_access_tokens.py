"""Access tokens: only those that the issuer made for us, now, with an algorithm of the list, speak for anybody."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import OctKey, OKPKey
from tests.support.issuers import AUDIENCE, Issuer, Key, ec_key, rsa_key, unsigned

from tokenweir.adapters.accesstokens import (
    MOST_KEYS,
    RETRY_SECONDS,
    USABLE_SECONDS,
    AccessTokenError,
    Bearer,
    Expected,
    IssuerKeys,
    TokenVerifier,
    fetch_keys,
)
from tokenweir.errors import RegistryError

NOW = int(time.time())
RSA, EC, OTHER = rsa_key(), ec_key(), ec_key()


class Clock:
    """A clock that never steps, in seconds."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """Return an issuer whose key is on P-256."""
    with Issuer(EC) as made:
        yield made


def verifier(issuer: Issuer, clock: Clock | None = None, *algorithms: str) -> TokenVerifier:
    """Return what checks the issuer's tokens."""
    expected = Expected(issuer.url, AUDIENCE, algorithms or ("RS256", "ES256"), 30, 3600)
    keys = IssuerKeys(fetch_keys(issuer.jwks_url, None), clock or Clock())
    return TokenVerifier(expected, keys, lambda: int(time.time()))


@pytest.mark.parametrize("key", [RSA, EC])
def test_a_sound_token_speaks_for_its_subject(key: Key) -> None:
    """With RSA and with elliptic curves; bound or not; with several audiences."""
    with Issuer(key) as issuer:
        check = verifier(issuer)
        assert check.verify(issuer.token("alice")) == Bearer("alice", None)
        assert check.verify(issuer.token("alice", aud=["other", AUDIENCE])) == Bearer("alice", None)
        assert check.verify(issuer.token("alice", cnf={"x5t#S256": "abc"})) == Bearer("alice", "abc")
        assert check.verify(issuer.token("alice", {"typ": "JWT"})) == Bearer("alice", None)
        assert issuer.requests == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW - 31},
        {"exp": None},
        {"exp": "soon"},
        {"iat": None},
        {"iat": NOW + 86_400},
        {"iat": NOW - 4000},
        {"nbf": NOW + 86_400},
        {"iss": "https://login.example.org"},
        {"iss": None},
        {"aud": "another"},
        {"aud": []},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 201},
        {"cnf": {"jkt": "abc"}},
        {"cnf": "abc"},
        {"padding": "x" * 9000},
    ],
)
def test_tokens_that_say_something_else_do_not_count(issuer: Issuer, changes: dict[str, Any]) -> None:
    """Expired, too early, too long, of another issuer, for another audience, for nobody, bound otherwise, too big."""
    if changes.get("exp") == NOW - 31:
        changes = changes | {"iat": NOW - 600}
    with pytest.raises(AccessTokenError) as caught:
        verifier(issuer).verify(issuer.token("alice", **changes))
    assert caught.value.kind == "invalid"


def test_clocks_may_differ_a_little(issuer: Issuer) -> None:
    """Thirty seconds, as configured."""
    now = int(time.time())
    assert verifier(issuer).verify(issuer.token("alice", exp=now - 20, iat=now - 600)).subject == "alice"
    assert verifier(issuer).verify(issuer.token("alice", iat=now + 20)).subject == "alice"


@pytest.mark.parametrize(
    "header", [{"kid": None}, {"kid": "other"}, {"kid": 7}, {"typ": "id+jwt"}, {"typ": "dpop+jwt"}, {"alg": "ES512"}]
)
def test_headers_that_say_something_else_do_not_count(issuer: Issuer, header: dict[str, Any]) -> None:
    """No key id, an unknown one, a token of another kind, an algorithm that is not on the list."""
    token = issuer.token("alice")
    if "alg" in header:
        from joserfc.jwk import ECKey  # noqa: PLC0415 - only this case needs another curve.

        token = issuer.token("alice", header, key=ECKey.generate_key("P-521"))
    elif "kid" in header and header["kid"] == 7:
        token = _with_header(issuer, {"alg": "ES256", "kid": 7})
    else:
        token = issuer.token("alice", header)
    with pytest.raises(AccessTokenError):
        verifier(issuer).verify(token)


def _with_header(issuer: Issuer, header: dict[str, Any]) -> str:
    """Return a token whose header is replaced; its signature then is over something else."""
    import base64  # noqa: PLC0415 - only here a header is made by hand.
    import json  # noqa: PLC0415 - as above.

    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return ".".join([encoded, *issuer.token("alice").split(".")[1:]])


def _signed_with_the_public_key(issuer: Issuer) -> str:
    """Return a token with HS256 whose secret is the public key, which a verifier must not take it for."""
    import base64  # noqa: PLC0415 - only here a signature is made by hand.
    import hashlib  # noqa: PLC0415 - as above.
    import hmac  # noqa: PLC0415 - as above.

    head, body, _ = _with_header(issuer, {"alg": "HS256", "kid": "ec"}).split(".")
    digest = hmac.digest(EC.as_pem(private=False), f"{head}.{body}".encode(), hashlib.sha256)
    return f"{head}.{body}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def test_forged_tokens_do_not_count(issuer: Issuer) -> None:
    """Another key, no signature, the public key as a shared secret, changed claims, critical headers, and noise."""
    sound = issuer.token("alice")
    head, body, signature = sound.split(".")
    other = issuer.token("eve").split(".")[1]
    forged = [
        issuer.token("alice", key=OTHER),
        unsigned(issuer, "alice"),
        _signed_with_the_public_key(issuer),
        f"{head}.{other}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body}",
        f"{sound}.x",
        _with_header(issuer, {"alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": False}),
        _with_header(issuer, {"alg": ["ES256"], "kid": "ec"}),
        "",
        "..",
        "a.b.c",
        "W10.e30.x",
        "\xff.x.y",
        "[" * 5000,
    ]
    check = verifier(issuer)
    for token in forged:
        with pytest.raises(AccessTokenError) as caught:
            check.verify(token)
        assert caught.value.kind == "invalid"
        assert str(caught.value) == "the access token does not count"
        assert caught.value.__cause__ is None
    assert check.verify(sound).subject == "alice"


def test_only_the_algorithms_of_the_list_count(issuer: Issuer) -> None:
    """Also for a key that the issuer has."""
    with pytest.raises(AccessTokenError):
        verifier(issuer, None, "RS256").verify(issuer.token("alice"))
    with pytest.raises(AccessTokenError):
        verifier(issuer, None, "PS256").verify(issuer.token("alice"))


def test_keys_that_must_not_count_do_not(issuer: Issuer) -> None:
    """Private and symmetric keys in a key set, short RSA keys, keys for encryption, and what is no key."""
    with pytest.warns(SecurityWarning):
        short = rsa_key("short", 1024)
    secret = OctKey.import_key("a-shared-secret-of-32-characters", {"kid": "oct"})
    encryption = rsa_key("enc").as_dict(private=False) | {"use": "enc"}
    issuer.document = {
        "keys": [
            short.as_dict(private=False),
            secret.as_dict(private=True),
            EC.as_dict(private=True),
            encryption,
            {"kty": "EC", "kid": "broken"},
            {"kty": "none", "kid": "none"},
            "text",
            RSA.as_dict(private=False),
        ]
    }
    check = verifier(issuer)
    for token in (
        issuer.token("alice"),
        issuer.token("alice", {"kid": "short"}, short),
        jwt.encode({"alg": "HS256", "kid": "oct"}, issuer.claims("alice"), secret, algorithms=["HS256"]),
    ):
        with pytest.raises(AccessTokenError):
            check.verify(token)
    assert check.verify(issuer.token("alice", {"kid": "rsa"}, RSA)).subject == "alice"


def test_edwards_curves_can_be_allowed(issuer: Issuer) -> None:
    """Ed25519 (RFC 9864), where the list names it."""
    key = OKPKey.generate_key("Ed25519", {"kid": "ed"})
    issuer.document = {"keys": [key.as_dict(private=False)]}
    token = jwt.encode({"alg": "Ed25519", "kid": "ed"}, issuer.claims("alice"), key, algorithms=["Ed25519"])
    assert verifier(issuer, None, "Ed25519").verify(token).subject == "alice"
    with pytest.raises(AccessTokenError):
        verifier(issuer).verify(token)


def test_a_new_key_is_found_and_made_up_ones_do_not_flood_the_issuer(issuer: Issuer) -> None:
    """An unknown id asks again, at most every ten seconds."""
    clock = Clock()
    check = verifier(issuer, clock)
    check.verify(issuer.token("alice"))
    new = ec_key("new")
    issuer.document = {"keys": [new.as_dict(private=False)]}
    for number in range(50):
        with pytest.raises(AccessTokenError):
            check.verify(issuer.token("alice", {"kid": f"made-up-{number}"}))
    assert issuer.requests == 1
    clock.seconds += RETRY_SECONDS
    assert check.verify(issuer.token("alice", {"kid": "new"}, new)).subject == "alice"
    assert issuer.requests == 2
    with pytest.raises(AccessTokenError):  # A key that the issuer has withdrawn.
        check.verify(issuer.token("alice"))


def test_an_issuer_that_is_away_is_waited_for_and_not_for_ever(issuer: Issuer) -> None:
    """Known keys count for an hour; then nobody is recognised, and that is no verdict about the token."""
    clock = Clock()
    check = verifier(issuer, clock)
    assert check.verify(issuer.token("alice")).subject == "alice"
    issuer.down = True
    clock.seconds += USABLE_SECONDS - 1
    assert check.verify(issuer.token("alice")).subject == "alice"
    clock.seconds += 1
    with pytest.raises(AccessTokenError) as caught:
        check.verify(issuer.token("alice"))
    assert caught.value.kind == "unavailable"
    issuer.down = False
    clock.seconds += RETRY_SECONDS
    assert check.verify(issuer.token("alice")).subject == "alice"


def test_a_slow_issuer_holds_up_nobody_who_shows_a_known_key() -> None:
    """While a made-up key is asked for, known ones go on; before the first answer everybody waits for it."""
    asked, answer = threading.Event(), threading.Event()
    clock = Clock()
    document = {"keys": [EC.as_dict(private=False)]}

    def fetch() -> object:
        asked.set()
        assert answer.wait(20)
        return document

    keys = IssuerKeys(fetch, clock)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(keys.key, "ec") for _ in range(3)]
        assert asked.wait(10)
        answer.set()
        assert all(each.result(20).kid == "ec" for each in waiting)
        asked.clear()
        answer.clear()
        clock.seconds += RETRY_SECONDS
        made_up = pool.submit(keys.key, "made-up")
        assert asked.wait(10)
        assert keys.key("ec").kid == "ec"
        with pytest.raises(AccessTokenError):
            keys.key("made-up-too")
        answer.set()
        assert isinstance(made_up.exception(20), AccessTokenError)


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": [{}] * (MOST_KEYS + 1)}, "x" * 2_000_000])
def test_what_is_no_key_set_counts_as_no_answer(issuer: Issuer, document: object) -> None:
    """Too many keys, too long an answer, another form."""
    issuer.document = document
    with pytest.raises(AccessTokenError) as caught:
        verifier(issuer).verify(issuer.token("alice"))
    assert caught.value.kind == "unavailable"


def test_an_address_that_is_none_is_refused_at_the_start() -> None:
    """Before anybody asks."""
    with pytest.raises(RegistryError):
        fetch_keys("ftp://login.example.com/keys", None)
