"""The admin port: probes for the orchestrator and metrics for Prometheus, apart from the data."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log

#: Named questions, each answered at once with yes or no. One that raises counts as no.
Checks = Mapping[str, Callable[[], bool]]

_TEXT: Final = "text/plain; charset=utf-8"
_REQUEST_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Probes:
    """The checks behind each probe.

    Attributes:
        live: Whether the process still moves; when this fails the orchestrator should restart it.
        ready: Whether it can do its work now.
        started: Whether it has once become ready to work.
    """

    live: Checks
    ready: Checks
    started: Checks


class AdminServer:
    """Serves ``/livez``, ``/readyz``, ``/startupz`` and ``/metrics`` from threads of its own.

    A probe answers 200 if all of its checks pass and 503 if not; with ``?verbose`` it names each of them.

    Args:
        host: Name or address to listen on, IPv4 or IPv6.
        port: The port; 0 for any free one.
        probes: What the probes ask.
        registry: The metrics to show.

    Raises:
        OSError: if the address cannot be listened on.
    """

    def __init__(self, host: str, port: int, probes: Probes, registry: CollectorRegistry) -> None:
        checks = {"/livez": probes.live, "/readyz": probes.ready, "/startupz": probes.started}
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        handler = type("AdminHandler", (_Handler,), {"checks": checks, "registry": registry})
        self._server = type("AdminHTTPServer", (_Server,), {"address_family": family})(address[:2], handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="admin", daemon=True)

    @property
    def port(self) -> int:
        """The port that it really listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and close the port; a request that is being answered is left to its end or its timeout."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    """A thread for each request; none of them keeps the process alive."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, _request: object, _client_address: object) -> None:
        """Say nothing: a client that went away is no event, and the standard report prints what was sent."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    checks: Mapping[str, Checks]
    registry: CollectorRegistry
    timeout = _REQUEST_SECONDS
    server_version = "tokenweir"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a probe or the metrics."""
        path, _, query = self.path.partition("?")
        if path in self.checks:
            self._probe(path[1:], self.checks[path], verbose=query.partition("=")[0] == "verbose")
        elif path == "/metrics":
            self._metrics()
        else:
            self._answer(HTTPStatus.NOT_FOUND, "not found\n")

    do_HEAD = do_GET  # noqa: N815 - the name is the base class's.

    def log_message(self, *_arguments: object) -> None:
        """Log no request: probes come every few seconds, and paths are whatever a client sends."""

    def _probe(self, name: str, checks: Checks, *, verbose: bool) -> None:
        """Ask every check, in the manner of the Kubernetes API server's own probes."""
        results = {check: _passes(check, question) for check, question in checks.items()}
        passed = all(results.values())
        lines = [f"[{'+' if ok else '-'}]{check} {'ok' if ok else 'failed'}" for check, ok in results.items()]
        verdict = f"{name} check {'passed' if passed else 'failed'}"
        text = "\n".join([*lines, verdict]) if verbose else ("ok" if passed else verdict)
        self._answer(HTTPStatus.OK if passed else HTTPStatus.SERVICE_UNAVAILABLE, f"{text}\n")

    def _metrics(self) -> None:
        """Show the metrics in the format that Prometheus asks for."""
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        try:
            body = encode(self.registry)
        except Exception as error:  # noqa: BLE001 - a scrape must not kill the port or print a foreign text.
            log(Event.EXCEPTION_RAISED, error=error, phase="metrics")
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, "metrics cannot be read\n")
            return
        self._answer(HTTPStatus.OK, body, content_type)

    def _answer(self, status: HTTPStatus, body: str | bytes, content_type: str = _TEXT) -> None:
        """Send a whole answer."""
        encoded = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(encoded)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(encoded)


def _passes(name: str, question: Callable[[], bool]) -> bool:
    """Ask one check; an exception is a no, and an event because the check itself is broken."""
    try:
        return bool(question())
    except Exception as error:  # noqa: BLE001 - a broken check must answer no instead of closing the connection.
        log(Event.CHECK_FAILED, check=name, error=error)
        return False
