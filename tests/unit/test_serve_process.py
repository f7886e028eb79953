"""``tokenweir serve`` as a process: probes, metrics, a clean end, and no plaintext anywhere outside of the answers."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.support.canaries import Canary, leaked
from tests.support.issuers import AUDIENCE, Issuer
from tests.support.reversing import REASON, TICKET, Reversing

ADA = "0000000101"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """Return an issuer of access tokens."""
    with Issuer() as made:
        yield made


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Process:
    """A running ``tokenweir serve`` and everything that it says."""

    def __init__(self, scene: Reversing, issuer: Issuer) -> None:
        self.port, self.admin = free_port(), free_port()
        oidc = {"issuer": issuer.url, "audience": AUDIENCE, "jwks_url": issuer.jwks_url}
        section = {"port": self.port, "oidc": oidc, "admin": {"port": self.admin}, "limits": {"floor_ms": 10}}
        scene.config.write_text(scene.config.read_text() + f"serve: {json.dumps(section)}\n")
        self._said = scene.directory / "said.log"
        with self._said.open("wb") as said:
            words = [sys.executable, "-m", "tokenweir", "serve", "--config", str(scene.config)]
            self.process = subprocess.Popen(words, stdout=said, stderr=said, cwd=scene.directory)

    def wait(self) -> None:
        """Wait until it is ready."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx2.get(f"http://127.0.0.1:{self.admin}/readyz", trust_env=False).status_code == 200:
                    return
            except httpx2.HTTPError:
                pass
            time.sleep(0.1)
        raise AssertionError(self.said().decode())

    def said(self) -> bytes:
        """Return everything on its standard output and error."""
        return self._said.read_bytes()

    def probe(self, path: str) -> httpx2.Response:
        """Ask the admin port."""
        return httpx2.get(f"http://127.0.0.1:{self.admin}{path}", trust_env=False, timeout=30)


def test_the_whole_life_of_a_process(tmp_path: Path, issuer: Issuer) -> None:
    """It starts, answers, counts, tells of a lost log, and ends with 0 at SIGTERM; canaries are in the answers only."""
    scene = Reversing.make(tmp_path)
    token = scene.token(ADA)
    canaries = [Canary.of_text("value", ADA), Canary.of_text("token", token)]
    running = Process(scene, issuer)
    try:
        running.wait()
        headers = {"Authorization": f"Bearer {issuer.token('alice-sub')}"}
        with httpx2.Client(base_url=f"http://127.0.0.1:{running.port}", headers=headers, trust_env=False) as client:
            path = "/v1/statements/confidentiality"
            accepted = client.post(f"{path}/acceptance", json={"digest": client.get(path).json()["digest"]})
            assert accepted.status_code == 204
            body = {"entry": "customer", "domain": "crm", "tokens": [token, "x"], "reason": REASON, "ticket": TICKET}
            assert client.post("/v1/detokenize", json=body).json()["values"] == [ADA, None]
            answers = [
                client.post("/v1/detokenize", json=body | {"domain": "ads"}),
                client.post("/v1/detokenize", json=body | {token: ADA}),
                client.post(f"/v1/detokenize?token={token}&value={ADA}", content=ADA),
                client.get(f"/v1/{token}/{ADA}", headers={"X-Value": ADA, "Referer": f"http://x/{token}"}),
                client.get(f"/v1/cases?{token}", headers={"Authorization": f"Bearer {token}.{ADA}.x"}),
            ]
            assert [answer.status_code for answer in answers] == [403, 422, 415, 404, 401]
            raw = b"GET /" + token.encode() + b" HTTP/9.9\r\n" + ADA.encode() + b"\r\n\r\n"
            with socket.create_connection(("127.0.0.1", running.port)) as sock:
                sock.sendall(raw)
                answers_raw = sock.recv(4096)
            scene.audit.rename(tmp_path / "elsewhere")
            assert running.probe("/readyz").status_code == 503
            assert "[-]audit failed" in running.probe("/readyz?verbose").text
            assert client.post("/v1/detokenize", json=body).status_code == 503
            (tmp_path / "elsewhere").rename(scene.audit)
            assert client.post("/v1/detokenize", json=body).status_code == 200
        metrics = running.probe("/metrics").text
    finally:
        running.process.send_signal(signal.SIGTERM)
        code = running.process.wait(30)
    assert code == 0, running.said().decode()
    counted = dict(re.findall(r'^(tokenweir_(?:detokenize|audit)\w+\{\w+="\w+"\}) (\d+)', metrics, re.MULTILINE))
    assert counted['tokenweir_detokenize_requests_total{outcome="granted"}'] == "2"
    assert counted['tokenweir_detokenize_requests_total{outcome="not_granted"}'] == "1"
    assert counted['tokenweir_detokenize_requests_total{outcome="unauthenticated"}'] == "1"
    assert counted['tokenweir_detokenize_requests_total{outcome="failed"}'] == "1"
    assert counted['tokenweir_detokenize_tokens_total{outcome="answered"}'] == "2"
    assert counted['tokenweir_detokenize_tokens_total{outcome="invalid"}'] == "2"
    assert counted['tokenweir_audit_faults_total{kind="gone"}'] == "1"
    events = [json.loads(line)["event"] for line in running.said().splitlines()]
    assert {"admin_listening", "serve_started", "audit_failed", "serve_stopped"} <= set(events)
    kept = [path for name in ("audit", "state") for path in (tmp_path / name).rglob("*") if path.is_file()]
    everywhere = [running.said(), metrics.encode(), answers_raw, *(path.read_bytes() for path in kept)]
    everywhere += [answer.content for answer in answers]
    everywhere += [str(sorted(answer.headers.items())).encode() for answer in answers]
    assert leaked(canaries, b"\n".join(everywhere)) == []
    assert scene.run("audit", "verify").exit_code == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("serve:", "# serve:", "nobody could be recognised"),
        ('"oidc"', '"host": "0.0.0.0", "oidc"', "in the clear"),
        ("{grants: grants.yaml}", "{grants: none.yaml}", "No such file"),
    ],
)
def test_what_is_not_fit_does_not_start(tmp_path: Path, issuer: Issuer, old: str, new: str, said: str) -> None:
    """Exit code 3 or 1 with words, before a port is open."""
    scene = Reversing.make(tmp_path)
    oidc = {"issuer": issuer.url, "audience": AUDIENCE, "jwks_url": issuer.jwks_url}
    scene.config.write_text(scene.config.read_text() + f"serve: {json.dumps({'port': free_port(), 'oidc': oidc})}\n")
    scene.config.write_text(scene.config.read_text().replace(old, new))
    result = scene.run("serve")
    assert result.exit_code in {1, 3}
    assert said in result.stderr


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else works without FastAPI, uvicorn and joserfc."""
    scene = Reversing.make(tmp_path)
    restore = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "fastapi" else restore(name))
    result = scene.run("serve")
    assert result.exit_code == 3
    assert "fastapi is not installed: pip install 'tokenweir[serve]'" in result.stderr


def test_only_serve_imports_its_extra() -> None:
    """The command line and detokenize run in an interpreter that refuses to import the extra."""
    script = (
        "import sys\n"
        "for name in ('fastapi', 'starlette', 'uvicorn', 'joserfc'): sys.modules[name] = None\n"
        "from tokenweir.cli import app\n"
        "import tokenweir.app.detokenize, tokenweir.app.audit, tokenweir.cli.serve, tokenweir.cli.grants\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0


def test_a_port_that_is_taken_is_told(tmp_path: Path, issuer: Issuer) -> None:
    """Exit code 3, and nothing of a fault."""
    scene = Reversing.make(tmp_path)
    oidc = {"issuer": issuer.url, "audience": AUDIENCE, "jwks_url": issuer.jwks_url}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        section = {"port": taken.getsockname()[1], "oidc": oidc, "admin": {"port": 0}}
        scene.config.write_text(scene.config.read_text() + f"serve: {json.dumps(section)}\n")
        words = [sys.executable, "-m", "tokenweir", "serve", "--config", str(scene.config)]
        result = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert result.returncode == 3
    assert b"cannot be listened on" in result.stderr
