"""The admin port: probes say what their checks say, metrics are those of its registry, and stopping is clean."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenweir.telemetry import metrics
from tokenweir.telemetry.collector import metrics_registry
from tokenweir.telemetry.metrics import series_of
from tokenweir.telemetry.server import AdminServer, Probes
from tokenweir.telemetry.slots import SlotWriter, slot_path

CANARY = "canary-4711"


class Checks:
    """Checks whose answers a test can change."""

    def __init__(self) -> None:
        self.live = self.registry = self.consent = self.started = True

    def broken(self) -> bool:
        """A check that fails itself, with a value in the text."""
        if not self.registry:
            raise ValueError(CANARY)
        return True

    def probes(self) -> Probes:
        """Return these checks as the server takes them."""
        return Probes(
            live={"loop": lambda: self.live},
            ready={"registry": self.broken, "consent": lambda: self.consent},
            started={"preflight": lambda: self.started},
        )


@pytest.fixture
def checks() -> Checks:
    """Checks that all pass."""
    return Checks()


@pytest.fixture
def server(checks: Checks, tmp_path: Path) -> Iterator[AdminServer]:
    """A server on a free port with one counter."""
    with SlotWriter(slot_path(tmp_path, "worker", 0), series_of(metrics.RECORDS_CONSUMED, ["clicks"])) as slot:
        slot.add(0, 7)
    with AdminServer("127.0.0.1", 0, checks.probes(), metrics_registry(tmp_path)) as running:
        yield running


def ask(server: AdminServer, path: str, method: str = "GET", accept: str = "") -> tuple[int, str, str]:
    """Return status, content type and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, headers={"Accept": accept} if accept else {})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, answer.getheader("Content-Type", ""), body


def test_probes_pass(server: AdminServer) -> None:
    """Every probe answers 200 and a short text while all checks pass."""
    assert server.port > 0
    for path in ("/livez", "/readyz", "/startupz"):
        assert ask(server, path) == (200, "text/plain; charset=utf-8", "ok\n")


def test_each_probe_has_its_own_checks(server: AdminServer, checks: Checks) -> None:
    """A gateway that is not ready is alive, and is not restarted for it."""
    checks.consent = False
    assert [ask(server, path)[0] for path in ("/livez", "/readyz", "/startupz")] == [200, 503, 200]
    checks.consent, checks.live = True, False
    assert [ask(server, path)[0] for path in ("/livez", "/readyz", "/startupz")] == [503, 200, 200]
    checks.live, checks.started = True, False
    assert [ask(server, path)[0] for path in ("/livez", "/readyz", "/startupz")] == [200, 200, 503]


def test_verbose_names_each_check(server: AdminServer, checks: Checks) -> None:
    """People see which check fails; one that raises fails, and its text stays inside."""
    assert ask(server, "/readyz?verbose")[2] == "[+]registry ok\n[+]consent ok\nreadyz check passed\n"
    checks.registry = False
    status, _, body = ask(server, "/readyz?verbose=1")
    assert (status, body) == (503, "[-]registry failed\n[+]consent ok\nreadyz check failed\n")
    assert ask(server, "/readyz")[2] == "readyz check failed\n"


def test_metrics_in_the_format_that_is_asked_for(server: AdminServer) -> None:
    """Prometheus gets its text format, or OpenMetrics if it prefers that."""
    status, content_type, body = ask(server, "/metrics")
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    assert 'tokenweir_records_consumed_total{stream="clicks"} 7.0\n' in body
    status, content_type, body = ask(server, "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert (status, content_type.partition(";")[0]) == (200, "application/openmetrics-text")
    assert body.endswith("# EOF\n")
    assert "# TYPE tokenweir_build info" in body


def test_other_requests_get_nothing(server: AdminServer) -> None:
    """Unknown paths and methods are refused, HEAD has no body, and no answer names the Python version."""
    assert ask(server, "/")[::2] == (404, "not found\n")
    assert ask(server, "/metrics/..//")[0] == 404
    assert ask(server, "/livez", method="POST")[0] == 501
    assert ask(server, "/livez", method="HEAD") == (200, "text/plain; charset=utf-8", "")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        head = raw.recv(4096).decode()
    assert "Server: tokenweir\r\n" in head.replace("tokenweir \r\n", "tokenweir\r\n")
    assert "Python" not in head


def test_nothing_is_printed(server: AdminServer, checks: Checks, capfd: pytest.CaptureFixture[str]) -> None:
    """Requests, broken requests and broken checks leave no line on standard error with what a client sent."""
    checks.registry = False
    ask(server, f"/readyz?{CANARY}")
    ask(server, f"/{CANARY}")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(f"{CANARY}\r\n\r\n".encode())
        raw.recv(4096)
    assert CANARY not in capfd.readouterr().err


def test_a_slow_client_does_not_block_the_others(server: AdminServer) -> None:
    """A connection that sends nothing is one thread, not the port."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10):
        assert ask(server, "/livez")[0] == 200


def test_stopping_closes_the_port(checks: Checks, tmp_path: Path) -> None:
    """After stop nobody answers, no thread is left, and the port can be taken again."""
    first = AdminServer("127.0.0.1", 0, checks.probes(), metrics_registry(tmp_path))
    first.start()
    port = first.port
    first.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
    assert not any(thread.name == "admin" for thread in threading.enumerate())
    with AdminServer("127.0.0.1", port, checks.probes(), metrics_registry(tmp_path)) as second:
        assert second.port == port
        with pytest.raises(OSError, match="in use"):
            AdminServer("127.0.0.1", port, checks.probes(), metrics_registry(tmp_path))
    AdminServer("127.0.0.1", 0, checks.probes(), metrics_registry(tmp_path)).stop()
