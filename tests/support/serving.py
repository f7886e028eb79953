"""The HTTP API in a thread of the test, on a real port, with a client for it."""

from __future__ import annotations

import json
import ssl
import threading
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import httpx2
from tests.support.issuers import AUDIENCE, Issuer
from tests.support.reversing import REASON, TICKET, Reversing

from tokenweir.api import server
from tokenweir.app.workspace import open_workspace


class Serving:
    """A running API over a directory of :class:`Reversing`.

    Args:
        scene: The directory.
        issuer: Whose access tokens count, or None.
        tls: The section ``serve.tls``.
        limits: The section ``serve.limits``.
        client_tls: The TLS of the client.
    """

    def __init__(
        self,
        scene: Reversing,
        issuer: Issuer | None,
        *,
        tls: dict[str, str] | None = None,
        limits: dict[str, int] | None = None,
        client_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.scene = scene
        self.issuer = issuer
        oidc = {} if issuer is None else {"issuer": issuer.url, "audience": AUDIENCE, "jwks_url": issuer.jwks_url}
        section = {
            "port": 0,
            "tls": tls or {},
            "oidc": oidc,
            "limits": {"floor_ms": 0, "requests_per_minute": 100_000, "unknown_per_minute": 100_000} | (limits or {}),
        }
        path = scene.directory / "tokenweir.yaml"
        others = [line for line in path.read_text().splitlines() if not line.startswith("serve:")]
        path.write_text("\n".join([*others, f"serve: {json.dumps(section)}", ""]))
        self._stack = ExitStack()
        self._clients: list[httpx2.Client] = []
        self._client_tls = client_tls
        workspace = open_workspace(config_path=path, policy_path=None, environ={})
        assert workspace.config is not None
        self.service = server.open_service(workspace, self._stack)
        context = server.tls_context(workspace.config)
        self.sock = server.listen("127.0.0.1", 0)
        self._stack.callback(self.sock.close)
        self._server = server.server(workspace.config, self.service.gate, context)
        self._thread = threading.Thread(target=self._server.run, args=([self.sock],), daemon=True)
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.sock.getsockname()[1]}"
        self.client = self.new_client(client_tls)

    def new_client(self, tls: ssl.SSLContext | None) -> httpx2.Client:
        """Return a client."""
        client = httpx2.Client(base_url=self.url, verify=tls if tls is not None else True, timeout=30, trust_env=False)
        self._clients.append(client)
        return client

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        self._server.should_exit = True
        self._thread.join(20)
        self._stack.close()

    def headers(self, subject: str) -> dict[str, str]:
        """Return the headers of a caller."""
        return {} if self.issuer is None else {"Authorization": f"Bearer {self.issuer.token(subject)}"}

    def ask(self, subject: str, *tokens: str, **changes: Any) -> httpx2.Response:  # noqa: ANN401 - members of the body.
        """Ask for the values of customer numbers."""
        body = {"entry": "customer", "domain": "crm", "tokens": list(tokens), "reason": REASON, "ticket": TICKET}
        body = {name: value for name, value in (body | changes).items() if value is not None}
        return self.client.post("/v1/detokenize", json=body, headers=self.headers(subject))

    def accept(self, subject: str) -> None:
        """Read and accept the statement."""
        headers = self.headers(subject)
        read = self.client.get("/v1/statements/confidentiality", headers=headers)
        deadline = time.monotonic() + 60
        while read.status_code == 503 and time.monotonic() < deadline:
            # On a busy machine the issuer may answer too late; its keys are asked for again after a while.
            time.sleep(0.5)
            read = self.client.get("/v1/statements/confidentiality", headers=headers)
        digest = read.json()["digest"]
        path = "/v1/statements/confidentiality/acceptance"
        assert self.client.post(path, json={"digest": digest}, headers=headers).status_code == 204
