"""A proxy in front of a schema registry that can be told to misbehave, and counts what it is asked."""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Mapping
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from tests.support.processes import free_port

_DRIP_SECONDS: Final = 0.3
_ABOUT_ID: Final = re.compile(r"/schemas/ids/([0-9]+)")
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class Mode(Enum):
    """How the proxy answers."""

    PASS = "pass"  # noqa: S105 - no password
    REFUSE = "refuse"
    """Nobody listens."""
    RESET = "reset"
    """The connection is reset after the request."""
    HANG = "hang"
    """The request is taken, and no answer comes."""
    DRIP = "drip"
    """The answer comes one byte after the other."""
    ERROR = "error"
    """Status 500."""
    REDIRECT = "redirect"
    """Status 307 to another host."""


class Asked(NamedTuple):
    """One request."""

    seconds: float
    method: str
    path: str


class RegistryProxy:
    """Listens on a port of 127.0.0.1 and passes requests on, as it is told.

    Args:
        registry_url: The root of the real registry's API.
        redirect_to: Where :attr:`Mode.REDIRECT` points.
    """

    def __init__(self, registry_url: str, redirect_to: str = "http://127.0.0.1:9") -> None:
        self._target = urlsplit(registry_url)
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}{self._target.path}"
        self.redirect_to = redirect_to
        self.swapped: dict[int, str] = {}
        """Other texts for schema ids, in whatever answer they come."""
        self.references: dict[int, list[dict[str, Any]]] = {}
        """References that are added to schema ids."""
        self.hidden_ids: set[int] = set()
        """Schema ids that are not known yet."""
        self.hidden_versions: set[int] = set()
        """Versions that are left out of lists of versions."""
        self.asked: list[Asked] = []
        self._mode = Mode.PASS
        self._server: _Server | None = None
        self._listen()

    @property
    def mode(self) -> Mode:
        """How it answers at the moment."""
        return self._mode

    def become(self, mode: Mode) -> None:
        """Answer like this from now on."""
        before, self._mode = self._mode, mode
        if mode is Mode.REFUSE:
            self.close()
        elif before is Mode.REFUSE:
            self._listen()

    def close(self) -> None:
        """Stop to listen."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def asked_for(self, part: str) -> list[Asked]:
        """Return the requests whose path contains a text."""
        return [asked for asked in list(self.asked) if part in asked.path]

    def most_per_second(self, since_seconds: float = 0.0) -> int:
        """Return the most requests that came within any one second."""
        times = sorted(asked.seconds for asked in list(self.asked) if asked.seconds >= since_seconds)
        return max((sum(start <= other < start + 1 for other in times) for start in times), default=0)

    def _listen(self) -> None:
        self._server = _Server(self, self._port)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="registry-proxy", daemon=True).start()

    def passed_on(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Return the registry's answer, with swapped texts and without what is hidden."""
        found = _ABOUT_ID.search(path)
        if found and int(found[1]) in self.hidden_ids:
            return http.client.NOT_FOUND, b'{"error_code": 40403, "message": "as the test wants"}'
        connection = http.client.HTTPConnection(self._target.hostname or "", self._target.port, timeout=30)
        try:
            connection.request(method, path, body or None, dict(headers))
            response = connection.getresponse()
            return response.status, self._swap(path, response.status, response.read())
        finally:
            connection.close()

    def _swap(self, path: str, status: int, answer: bytes) -> bytes:
        if status != http.client.OK or not (self.swapped or self.references or self.hidden_versions):
            return answer
        document = json.loads(answer)
        if path.endswith("/versions") and isinstance(document, list) and "/ids/" not in path:
            return json.dumps([version for version in document if version not in self.hidden_versions]).encode()
        if not isinstance(document, dict) or "schema" not in document:
            return answer
        found = _ABOUT_ID.search(path)
        schema_id = int(found[1]) if found else document.get("id")
        if schema_id in self.swapped:
            document["schema"] = self.swapped[schema_id]
        if schema_id in self.references:
            document["references"] = self.references[schema_id]
        return json.dumps(document).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, proxy: RegistryProxy, port: int) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, *_: object) -> None:
        """Keep quiet: clients go away when they have waited long enough."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        proxy.asked.append(Asked(time.monotonic(), self.command, self.path))
        self.close_connection = True
        mode = proxy.mode
        if mode is Mode.HANG:
            while proxy.mode is Mode.HANG:
                time.sleep(0.1)
        elif mode is Mode.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.connection.close()
        elif mode is Mode.ERROR:
            self._answer(500, b'{"error_code": 50001, "message": "as the test wants"}')
        elif mode is Mode.REDIRECT:
            self._answer(307, b"", {"Location": proxy.redirect_to + self.path})
        elif mode is not Mode.REFUSE:
            headers = {name: self.headers[name] for name in ("Content-Type", "Accept") if name in self.headers}
            status, answer = proxy.passed_on(self.command, self.path, body, headers)
            self._answer(status, answer, drip=mode is Mode.DRIP)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - names that http.server looks for.

    def _answer(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, drip: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for start in range(0, len(body), 1 if drip else max(len(body), 1)):
            if drip:
                if self.server.proxy.mode is not Mode.DRIP:
                    return
                time.sleep(_DRIP_SECONDS)
            self.wfile.write(body[start : start + (1 if drip else len(body))])
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
