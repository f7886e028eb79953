"""The HTTP API: who may gets values, and everybody else the same words, whatever the reason."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.issuers import Authority, Issuer
from tests.support.reversing import GRANTS, REASON, TICKET, Reversing
from tests.support.serving import Serving

from tokenweir.adapters.auditlog import AuditLog
from tokenweir.adapters.keychanges import retire, rotate
from tokenweir.adapters.keydestruction import destroy
from tokenweir.api.documents import Problem
from tokenweir.api.limits import MOST_CALLERS, Buckets
from tokenweir.api.problems import PROBLEMS, problem
from tokenweir.api.server import check_exposure, open_service
from tokenweir.app.workspace import open_workspace
from tokenweir.config.loader import load_config_text
from tokenweir.errors import FindingsError, RefusedError

ADA = "0000000101"
REFUSED = {"type": "urn:tokenweir:problem:refused", "title": "The request is refused", "status": 403}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """Return an issuer of access tokens."""
    with Issuer() as made:
        yield made


@pytest.fixture
def scene(tmp_path: Path) -> Reversing:
    """Return a directory for the API."""
    return Reversing.make(tmp_path)


@pytest.fixture
def api(scene: Reversing, issuer: Issuer) -> Iterator[Serving]:
    """Return a running API in which Alice has accepted the statement."""
    with Serving(scene, issuer) as running:
        running.accept("alice-sub")
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Return a running API for tests that leave nothing behind."""
    directory = tmp_path_factory.mktemp("shared")
    with Issuer() as made, Serving(Reversing.make(directory), made) as running:
        running.accept("alice-sub")
        yield running


def code(response: httpx2.Response) -> str:
    """Return the code of a problem, after checking that it is one."""
    assert response.headers["content-type"] == "application/problem+json"
    found = Problem.model_validate_json(response.content)
    assert found.status == response.status_code
    return found.type.rpartition(":")[2]


def test_values_come_with_a_record_before_them(api: Serving) -> None:
    """The answer has the values in order and the id of a record that is in the log."""
    tokens = [api.scene.token(f"{number:010}") for number in (101, 7)]
    answer = api.ask("alice-sub", *tokens)
    assert answer.status_code == 200
    document = answer.json()
    assert document["values"] == [ADA, "0000000007"]
    record = api.scene.records()[-1]
    assert (record["kind"], record["id"], record["channel"]) == ("answer", document["id"], "api")
    assert record["by"] == {"oidc": "alice-sub"}
    assert answer.headers["cache-control"] == "no-store"


def test_a_destroyed_epoch_is_refused_without_a_restart(scene: Reversing, issuer: Issuer) -> None:
    """The process still has the root in its memory; the file says that it must not be used, or cannot be read."""
    keyset, kek = scene.directory / "keys/keyset.json", scene.directory / "keys/kek.key"
    old = scene.token(ADA)
    rotate(keyset, kek, "crm", datetime.now(UTC))
    retire(keyset, "crm", datetime.now(UTC))
    new = scene.token(ADA)
    with Serving(scene, issuer) as api:
        api.accept("alice-sub")
        assert api.ask("alice-sub", old, epoch=1).json()["values"] == [ADA]
        destroy(keyset, "crm", 1, datetime.now(UTC))

        assert code(api.ask("alice-sub", old, epoch=1)) == "refused"
        assert scene.records()[-1]["cause"] == "key"
        assert api.ask("alice-sub", new, epoch=2).json()["values"] == [ADA]
        assert api.ask("alice-sub", new).json()["values"] == [ADA], "one epoch is left, which needs no name"
        keyset.rename(keyset.with_name("elsewhere.json"))
        assert code(api.ask("alice-sub", new, epoch=2)) == "refused"


def test_a_field_stands_for_entry_and_key_domain(api: Serving) -> None:
    """As on the command line; what is not a field with one kind of token is a place without a grant."""
    token = api.scene.token(ADA)
    where: dict[str, Any] = {"entry": None, "domain": None, "stream": "interactions", "field": "customer_id"}
    assert api.ask("alice-sub", token, **where, audience="crm").json()["values"] == [ADA]
    assert code(api.ask("alice-sub", token, **where)) == "refused"
    assert code(api.ask("alice-sub", token, **where | {"field": "nothing"})) == "refused"
    for half in ({"domain": None}, {"stream": "interactions"}, {"entry": None, "domain": None}, {"audience": "crm"}):
        assert code(api.ask("alice-sub", token, **half)) == "invalid-request"


def test_refusals_are_one_thing(api: Serving) -> None:
    """Unknown caller, entry, key domain, epoch; irreversible; not granted; exhausted: the same but for a random id."""
    token = api.scene.token(ADA)
    for number in range(5):
        assert api.ask("alice-sub", token).status_code == 200, number
    answers = [
        api.ask("eve-sub", token),
        api.ask("lea-sub", token),
        api.ask("alice-sub", token, domain="ads"),
        api.ask("alice-sub", token, domain="nowhere"),
        api.ask("alice-sub", token, entry="device"),
        api.ask("alice-sub", token, entry="nothing"),
        api.ask("alice-sub", token, entry="email"),
        api.ask("alice-sub", token, epoch=9),
        api.ask("alice-sub", token),
        api.ask("alice-sub", "not a token at all"),
    ]
    for answer in answers:
        body = answer.json()
        assert len(body.pop("request")) == 24
        assert (answer.status_code, body) == (403, REFUSED)
    shapes = {tuple((name, value) for name, value in answer.headers.items() if name != "date") for answer in answers}
    assert len(shapes) == 1
    causes = [record["cause"] for record in api.scene.records() if record["kind"] == "refuse"]
    assert causes == [
        "principal", "not_granted", "not_granted", "not_granted", "not_granted", "not_granted", "irreversible", "key",
        "budget", "budget",
    ]  # fmt: skip


def test_no_refusal_is_quick(scene: Reversing, issuer: Issuer) -> None:
    """Whatever it is for, it leaves no earlier than the floor."""
    with Serving(scene, issuer, limits={"floor_ms": 400}) as api:
        token = scene.token(ADA)
        answers: list[Callable[[], httpx2.Response]] = [
            lambda: api.ask("eve-sub", token),
            lambda: api.ask("alice-sub", token, entry="nothing"),
            lambda: api.ask("alice-sub", token, domain="ads"),
            lambda: api.client.post("/v1/detokenize"),
            lambda: api.client.get("/v1/nothing"),
        ]
        for ask in answers:
            began = time.monotonic()
            assert ask().status_code in {401, 403}
            assert time.monotonic() - began >= 0.4


def test_the_floor_is_waited_for_exactly() -> None:
    """The gate sleeps what is left to the next multiple, whatever the application took."""
    import asyncio  # noqa: PLC0415 - only here the gate runs by itself.

    from tokenweir.adapters.accesstokens import AccessTokenError  # noqa: PLC0415 - as above.
    from tokenweir.api.gate import Gate, GateLimits  # noqa: PLC0415 - as above.

    now, works = [0.0], [0.0]

    class Nobody:
        def identify(self, _shown: object) -> object:
            now[0] += works[0]
            raise AccessTokenError("invalid")

    async def run() -> float:
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        async def send(_message: object) -> None:
            pass

        buckets = Buckets(1000, lambda: now[0])
        limits = GateLimits(1000, 10, 0.05, buckets, buckets)
        gate = Gate(None, Nobody(), limits, lambda _outcome: None, lambda: now[0])  # type: ignore[arg-type]
        original = asyncio.sleep
        asyncio.sleep = sleep  # type: ignore[assignment]  # for the gate alone
        try:
            await gate({"type": "http", "headers": [], "client": ("c", 1), "method": "GET"}, receive, send)
        finally:
            asyncio.sleep = original
        return slept[0]

    for took, left in ((0.0, 0.05), (0.01, 0.04), (0.049, 0.001), (0.06, 0.04)):
        now[0], works[0] = 0.0, took
        assert asyncio.run(run()) == pytest.approx(left)


def test_what_a_caller_must_do_is_said(api: Serving) -> None:
    """The form of reason and ticket, a statement to accept, a second person; and no more."""
    token = api.scene.token(ADA)
    for change, fault in (({"reason": "for ada@example.com"}, "reason"), ({"ticket": "7777"}, "ticket")):
        answer = api.ask("alice-sub", token, **change)
        assert (code(answer), answer.json()["fault"]) == ("unfit", fault)
    answer = api.ask("alice-sub", *[token] * 101)
    assert (code(answer), answer.json()["fault"]) == ("unfit", "tokens")
    answer = api.ask("frank-sub", token)
    assert (code(answer), answer.json()["statement"]) == ("statement-required", "confidentiality")
    api.accept("frank-sub")
    answer = api.ask("frank-sub", token)
    assert code(answer) == "approval-required"
    case = answer.json()["case"]
    for subject in ("frank-sub", "alice-sub", "eve-sub"):
        assert code(api.client.post(f"/v1/cases/{case}/approval", headers=api.headers(subject))) == "refused"
        assert api.client.get("/v1/cases", headers=api.headers(subject)).json() == {"cases": []}
    lea = api.headers("lea-sub")
    shown = api.client.get("/v1/cases", headers=lea).json()["cases"]
    assert (shown[0]["case"], shown[0]["principal"], shown[0]["tokens"]) == (case, "frank", 1)
    assert api.client.post(f"/v1/cases/{case}/approval", headers=lea).status_code == 204
    assert api.ask("frank-sub", token).json()["values"] == [ADA]
    assert code(api.ask("frank-sub", token)) == "approval-required"
    other = api.client.get("/v1/cases", headers=lea).json()["cases"][0]["case"]
    assert api.client.post(f"/v1/cases/{other}/rejection", headers=lea).status_code == 204
    assert api.client.get("/v1/cases", headers=lea).json() == {"cases": []}


def test_statements_are_for_those_whom_the_file_knows(api: Serving) -> None:
    """Nobody else reads one, and only its current text can be accepted."""
    path = "/v1/statements/confidentiality"
    assert code(api.client.get(path, headers=api.headers("eve-sub"))) == "refused"
    assert code(api.client.get("/v1/statements/other", headers=api.headers("alice-sub"))) == "refused"
    body = {"digest": "0" * 64}
    assert code(api.client.post(f"{path}/acceptance", json=body, headers=api.headers("alice-sub"))) == "refused"


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"", "application/json", "invalid-request"),
        (b"{", "application/json", "invalid-request"),
        (b"[]", "application/json", "invalid-request"),
        (b'{"tokens": ["canary-value"]}', "application/json", "invalid-request"),
        (b'{"canary-key": 1}', "application/json", "invalid-request"),
        (b"\xff\xfe", "application/json", "invalid-request"),
        (b"[" * 20_000, "application/json", "invalid-request"),
        (b"tokens=1", "application/x-www-form-urlencoded", "unsupported-media-type"),
        (b"x" * 70_000, "application/json", "too-large"),
    ],
)
def test_bodies_that_are_not_wanted(shared: Serving, body: bytes, kind: str, expected: str) -> None:
    """A problem of a closed list, with nothing of what was sent."""
    headers = shared.headers("alice-sub") | {"content-type": kind}
    answer = shared.client.post("/v1/detokenize", content=body, headers=headers)
    assert code(answer) == expected
    assert b"canary" not in answer.content


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": []},
        {"tokens": [""]},
        {"tokens": [7]},
        {"tokens": "7445866440"},
        {"tokens": ["7" * 5000]},
        {"epoch": 0},
        {"epoch": "1"},
        {"epoch": True},
        {"entry": "Customer"},
        {"entry": "x" * 65},
        {"domain": "canary value"},
        {"reason": ""},
        {"reason": "x" * 201},
        {"ticket": 7},
        {"more": 1},
    ],
)
def test_requests_of_another_form(shared: Serving, change: dict[str, Any]) -> None:
    """Refused before anything is decided or recorded."""
    before = len(shared.scene.records())
    answer = shared.ask("alice-sub", **{"tokens": ["7445866440"]} | change)
    assert code(answer) == "invalid-request"
    assert "fault" not in answer.json()
    assert len(shared.scene.records()) == before


def test_a_body_without_an_announced_length_is_cut(shared: Serving) -> None:
    """A stream of chunks ends at the limit."""

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    headers = shared.headers("alice-sub") | {"content-type": "application/json"}
    assert code(shared.client.post("/v1/detokenize", content=chunks(), headers=headers)) == "too-large"


def test_paths_and_methods_that_are_not_there(shared: Serving) -> None:
    """Problems too; and without credentials it cannot be seen what is there."""
    headers = shared.headers("alice-sub")
    assert code(shared.client.get("/v1/nothing", headers=headers)) == "not-found"
    assert code(shared.client.get("/v1/detokenize", headers=headers)) == "method-not-allowed"
    assert code(shared.client.get("/docs", headers=headers)) == "not-found"
    assert code(shared.client.post("/v1/cases/NO-CASE/approval", headers=headers)) == "invalid-request"
    for path in ("/v1/detokenize", "/v1/openshared.json", "/nothing", "/metrics"):
        assert code(shared.client.get(path)) == "unauthorized"


def test_rates_are_limited(scene: Reversing, issuer: Issuer) -> None:
    """Each caller has its own; who is not recognised is limited by address."""
    with Serving(scene, issuer, limits={"requests_per_minute": 3, "unknown_per_minute": 2}) as api:
        answers = [api.client.get("/v1/cases", headers=api.headers("lea-sub")) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert int(answers[-1].headers["retry-after"]) in range(1, 21)
        assert api.client.get("/v1/cases", headers=api.headers("alice-sub")).status_code == 200
        assert [api.client.get("/v1/cases").status_code for _ in range(4)] == [401, 401, 429, 429]


def test_buckets() -> None:
    """A minute's requests at once, refilled steadily; many callers take bounded room."""
    now = [0.0]
    buckets = Buckets(60, lambda: now[0])
    assert [buckets.take("a") for _ in range(60)] == [0.0] * 60
    assert buckets.take("a") == pytest.approx(1.0)
    assert buckets.take("b") == 0.0
    now[0] += 1.5
    assert buckets.take("a") == 0.0
    assert buckets.take("a") == pytest.approx(0.5)
    for number in range(2 * MOST_CALLERS):
        buckets.take(str(number))
    assert len(buckets._buckets) == MOST_CALLERS


def test_only_so_many_are_worked_on_at_once(scene: Reversing, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is told to come again instead of waiting in a queue."""
    entered, release = threading.Event(), threading.Event()
    restore = AuditLog.transact

    def slow(self: AuditLog, decide: Any) -> Any:  # noqa: ANN401 - as the method.
        if threading.current_thread().name == "audit" and armed:
            entered.set()
            release.wait(20)
        return restore(self, decide)

    monkeypatch.setattr(AuditLog, "transact", slow)
    armed = False
    with Serving(scene, issuer, limits={"concurrent": 1}) as api, ThreadPoolExecutor(1) as pool:
        armed = True
        lea = api.headers("lea-sub")
        waiting = pool.submit(lambda: httpx2.get(f"{api.url}/v1/cases", headers=lea, timeout=30))
        assert entered.wait(10)
        answer = api.client.get("/v1/cases", headers=lea)
        release.set()
        assert (code(answer), answer.headers["retry-after"]) == ("unavailable", "1")
        assert waiting.result().status_code == 200


def _gone(scene: Reversing) -> None:
    scene.audit.rename(scene.directory / "elsewhere")


def _cut(scene: Reversing) -> None:
    path = scene.audit / "audit-000001.jsonl"
    path.write_bytes(path.read_bytes()[:-100])


def _unsound(scene: Reversing) -> None:
    scene.write_grants(GRANTS.replace("[support]", "[suport]"))


def _unreadable(scene: Reversing) -> None:
    (scene.directory / "grants.yaml").unlink()


@pytest.mark.parametrize("damage", [_gone, _cut, _unsound, _unreadable])
def test_without_a_record_or_grants_nothing_is_answered(api: Serving, damage: Callable[[Reversing], None]) -> None:
    """P7 over HTTP: 503, no value, and it is counted."""
    token = api.scene.token(ADA)
    damage(api.scene)
    answer = api.ask("alice-sub", token)
    assert code(answer) == "unavailable"
    assert ADA not in answer.text


def test_a_fault_shows_nothing(
    api: Serving, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An exception that nobody expected, with a value in its text: 500, and the text is nowhere."""

    def broken(*_arguments: object, **_words: object) -> object:
        raise RuntimeError("canary-value")

    monkeypatch.setattr("tokenweir.app.detokenize.decide", broken)
    answer = api.ask("alice-sub", "7445866440")
    assert (answer.status_code, code(answer)) == (500, "fault")
    said = capfd.readouterr()
    assert "canary" not in answer.text + said.out + said.err


def test_a_withdrawn_grant_ends_at_once(api: Serving) -> None:
    """With the edit of the file, in the running service."""
    token = api.scene.token(ADA)
    assert api.ask("alice-sub", token).status_code == 200
    api.scene.write_grants(GRANTS.replace("oidc: alice-sub", "oidc: alice-old"))
    assert code(api.ask("alice-sub", token)) == "refused"


ATTACKED = GRANTS.replace("requests: 5, values: 8}", "requests: 100000, values: 2500}")


@pytest.mark.timeout(900)
def test_an_attack_on_a_million_values_is_cut_at_the_budget(tmp_path: Path, issuer: Issuer) -> None:
    """Every token of a format of six digits is asked for, by eight at once: exactly the budget's values come out.

    The attacker goes on with smaller requests, other reasons, tickets and spellings of the place, and after a restart,
    and gets nothing more.
    """
    scene = Reversing.make(tmp_path, ATTACKED)
    policy = scene.directory / "policy.yaml"
    text = policy.read_text().replace("digits, length: 10", "digits, length: 6").replace("digits: 10", "digits: 6")
    policy.write_text(text)
    scene.config.write_text(
        scene.config.read_text().replace("{grants: grants.yaml}", "{grants: grants.yaml, tokens: 1000}")
    )
    obtained: dict[str, str] = {}
    statuses: list[int] = []
    with Serving(scene, issuer) as api:
        api.accept("alice-sub")
        headers = api.headers("alice-sub")

        def ask(start: int, size: int, **changes: Any) -> None:  # noqa: ANN401 - members of the body.
            tokens = [f"{number:06}" for number in range(start, start + size)]
            body = {
                "entry": "customer",
                "domain": "crm",
                "tokens": tokens,
                "reason": REASON,
                "ticket": TICKET,
            } | changes
            answer = api.client.post("/v1/detokenize", json=body, headers=headers)
            statuses.append(answer.status_code)
            if answer.status_code == 200:
                obtained.update(zip(tokens, answer.json()["values"], strict=True))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda start: ask(start, 1000), range(0, 1_000_000, 1000)))
            assert len(obtained) == 2000
            list(pool.map(lambda start: ask(start, 7), range(500_000, 500_700, 7)))
            list(pool.map(lambda start: ask(start, 1), range(600_000, 600_100)))
        for number, (reason, epoch) in enumerate(product(("Fraud", "Complaint"), (1, None))):
            ask(700_000, 1, reason=reason, ticket=f"CASE-{number}", epoch=epoch)
        assert len(obtained) == 2500
        assert set(statuses) == {200, 403}
    real = scene.keyset().tokenizer("crm", "customer", scene.policy().policy.tokens["customer"])
    assert all(real.detokenize(token) == value for token, value in obtained.items())
    with Serving(scene, issuer) as api:
        assert code(api.ask("alice-sub", "999999")) == "refused"
        assert api.ask("alice-sub", next(iter(obtained))).status_code == 200
    marks = {mark for record in scene.records() if record["kind"] == "answer" for mark in record["tokens"]}
    assert len(marks) == 2500
    assert scene.run("audit", "verify").exit_code == 0


@pytest.mark.parametrize("bound", [False, True])
def test_mutual_tls_with_access_tokens(tmp_path: Path, issuer: Issuer, *, bound: bool) -> None:
    """Both are needed; a token that is bound to a certificate counts only with that one (RFC 8705)."""
    scene = Reversing.make(tmp_path / "scene")
    authority = Authority(tmp_path)
    server, mine, theirs = (authority.issue(name) for name in ("server", "alice", "eve"))
    tls = {"certificate": str(server.certificate), "key": str(server.key), "client_ca": str(authority.file)}
    with Serving(scene, issuer, tls=tls, client_tls=authority.client(mine)) as api:
        confirmation = {"x5t#S256": mine.thumbprint} if bound else None
        headers = {"Authorization": f"Bearer {issuer.token('alice-sub', cnf=confirmation)}"}
        assert api.client.get("/v1/cases", headers=headers).status_code == 200
        other = api.new_client(authority.client(theirs))
        assert other.get("/v1/cases", headers=headers).status_code == (401 if bound else 200)
        assert api.client.get("/v1/cases").status_code == 401
        with pytest.raises(httpx2.HTTPError):
            api.new_client(authority.client()).get("/v1/cases", headers=headers)


def test_a_certificate_alone_says_who_calls(tmp_path: Path) -> None:
    """Its subject is the principal's; one of another authority does not connect, one that nobody knows is refused."""
    scene = Reversing.make(tmp_path / "scene")
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    server, alice, eve = (authority.issue(name) for name in ("server", "alice", "eve"))
    tls = {"certificate": str(server.certificate), "key": str(server.key), "client_ca": str(authority.file)}
    with Serving(scene, None, tls=tls, client_tls=authority.client(alice)) as api:
        api.accept("")
        assert api.ask("", scene.token(ADA)).json()["values"] == [ADA]
        assert scene.records()[-1]["by"] == {"certificate": "CN=alice,O=Example"}
        api.client = api.new_client(authority.client(eve))
        assert code(api.ask("", scene.token(ADA))) == "refused"
        forged = authority.client()
        mallory = other.issue("alice")
        forged.load_cert_chain(mallory.certificate, mallory.key)
        with pytest.raises(httpx2.HTTPError):
            api.new_client(forged).get("/v1/cases")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.load_cert_chain(alice.certificate, alice.key)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(api.sock.getsockname()) as raw, pytest.raises(OSError, match=r"."):
            old.wrap_socket(raw)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{}", "nobody could be recognised"),
        ("{tls: {certificate: a, key: b}}", "nobody could be recognised"),
        ("{host: 0.0.0.0, oidc: OIDC}", "in the clear"),
        ("{host: '::', oidc: OIDC}", "in the clear"),
        ("{host: api.example.com, oidc: OIDC}", "in the clear"),
    ],
)
def test_what_is_exposed_is_refused(section: str, said: str) -> None:
    """No caller that could be known, or values in the clear to another machine."""
    oidc = "{issuer: 'https://login.example.com', audience: a, jwks_url: 'https://login.example.com/keys'}"
    config = load_config_text(f"version: 1\nserve: {section.replace('OIDC', oidc)}\n", "c.yaml", {})
    with pytest.raises(RefusedError, match=said):
        check_exposure(config)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_alone_needs_no_tls(host: str) -> None:
    """A proxy on the same machine may end TLS."""
    oidc = "{issuer: 'https://login.example.com', audience: a, jwks_url: 'https://login.example.com/keys'}"
    check_exposure(load_config_text(f"version: 1\nserve: {{host: '{host}', oidc: {oidc}}}\n", "c.yaml", {}))


@pytest.mark.parametrize(
    ("url", "sound"),
    [
        ("https://login.example.com/keys", True),
        ("http://127.0.0.1:8080/keys", True),
        ("http://localhost", True),
        ("http://[::1]:1/keys", True),
        ("http://login.example.com/keys", False),
        ("http://localhost.example.com/keys", False),
        ("http://localhost:80@example.com/keys", False),
        ("http://127.0.0.1.example.com/", False),
    ],
)
def test_the_keys_of_the_issuer_come_with_tls(url: str, *, sound: bool) -> None:
    """Whoever could change them on the way could be anybody; without TLS they come from this machine only."""
    text = f"version: 1\nserve: {{oidc: {{issuer: 'https://login.example.com', audience: a, jwks_url: '{url}'}}}}\n"
    if sound:
        assert load_config_text(text, "c.yaml", {}).serve.oidc.jwks_url == url
        return
    with pytest.raises(FindingsError):
        load_config_text(text, "c.yaml", {})


def test_two_services_do_not_share_counters(api: Serving) -> None:
    """Counters of one state directory belong to one process; the second one does not start."""
    with ExitStack() as stack, pytest.raises(RefusedError, match="of its own"):
        open_service(open_workspace(config_path=api.scene.config, policy_path=None, environ={}), stack)


def test_every_problem_has_its_body() -> None:
    """The closed list of codes, each with a status and words."""
    for name, (status, title) in PROBLEMS.items():
        body = json.loads(bytes(problem(name).body))
        assert body == {"type": f"urn:tokenweir:problem:{name}", "title": title, "status": status}
