"""The registry client against a server that answers well, badly, slowly, or with far too much; directory."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tokenweir.adapters.jsonhttp import MAX_BODY_BYTES, JsonClient
from tokenweir.adapters.registry import (
    MAX_REFERENCE_DEPTH,
    NO_ID,
    DirectoryRegistry,
    HttpRegistry,
    Reference,
    RegisteredSchema,
)
from tokenweir.errors import RegistryError, SchemaError

_CANARY = "canary-4711"
_AVRO = '{"type":"record","name":"R","fields":[]}'


class FakeRegistry(ThreadingHTTPServer):
    """An HTTP server whose answers a test sets, and which remembers every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, Callable[[_Handler], None]] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        """The root of the API."""
        return f"http://127.0.0.1:{self.server_address[1]}/apis/ccompat/v7"

    def json(self, request: str, body: object, status: int = 200) -> None:
        """Answer a request such as ``GET /subjects`` with JSON."""
        self.raw(request, json.dumps(body).encode(), status)

    def raw(self, request: str, body: bytes, status: int = 200, **headers: str) -> None:
        """Answer a request with bytes; underscores in names of headers stand for hyphens."""

        def answer(handler: _Handler) -> None:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.answers[request] = answer


class _Handler(BaseHTTPRequestHandler):
    server: FakeRegistry
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path = self.path.removeprefix("/apis/ccompat/v7")
        self.server.requests.append((self.command, path, dict(self.headers), body))
        self.close_connection = True
        answer = self.server.answers.get(f"{self.command} {path}")
        if answer is None:
            self.send_error(404)
            return
        try:
            answer(self)
        except OSError:
            return

    do_GET = do_POST = do_PUT = _serve  # noqa: N815 - names that http.server looks for.

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    """Run a fake registry."""
    with FakeRegistry() as fake:
        thread = threading.Thread(target=fake.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield fake
        fake.shutdown()
        thread.join()


def _kind(call: Callable[[], object]) -> str:
    """Return the kind of the error that a call raises, having checked that it quotes nothing."""
    with pytest.raises(RegistryError) as caught:
        call()
    assert _CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value.kind


def test_a_schema_by_id(server: FakeRegistry) -> None:
    """Avro is the kind that registries leave out; tags of the registry are kept."""
    server.json(
        "GET /schemas/ids/7", {"schema": _AVRO, "metadata": {"tags": {"**.email": ["PII"]}, "properties": {"o": "x"}}}
    )
    server.json("GET /schemas/ids/8", {"schema": '{"type":"object"}', "schemaType": "JSON"})
    registry = HttpRegistry(server.url)

    assert registry.schema_by_id(7) == RegisteredSchema(7, "AVRO", _AVRO, {}, {"**.email": ("PII",)})
    assert registry.schema_by_id(8) == RegisteredSchema(8, "JSON", '{"type":"object"}')


def test_protobuf_is_no_schema_of_ours(server: FakeRegistry) -> None:
    """A kind that cannot be sanitized is refused as a schema, not as a failing registry."""
    server.json("GET /schemas/ids/7", {"schema": "x", "schemaType": "PROTOBUF"})

    with pytest.raises(SchemaError):
        HttpRegistry(server.url).schema_by_id(7)


def test_versions_and_subjects(server: FakeRegistry) -> None:
    """Versions are in order, an unknown subject has none, and names are encoded as one part of the path."""
    server.json("GET /subjects/a%2Fb%3F%23c-value/versions", [2, 1, 10])
    server.json("GET /subjects/a%2Fb%3F%23c-value/versions/2", {"id": 5, "version": 2, "schema": _AVRO})
    server.json("GET /subjects/a%2Fb%3F%23c-value/versions/latest", {"id": 9, "version": 10, "schema": _AVRO})
    server.json("GET /schemas/ids/5/versions", [{"subject": "a/b?#c-value", "version": 2}])
    registry = HttpRegistry(server.url)

    assert registry.versions("a/b?#c-value") == [1, 2, 10]
    assert registry.versions("unknown") == []
    assert registry.version("a/b?#c-value", 2) == RegisteredSchema(5, "AVRO", _AVRO)
    assert registry.latest("a/b?#c-value").id == 9
    assert registry.subjects_of(5) == [("a/b?#c-value", 2)]


def test_a_subject_is_never_a_way_up(server: FakeRegistry) -> None:
    """A subject of dots stays a name."""
    HttpRegistry(server.url).versions("..")

    assert server.requests[0][1] == "/subjects/%2E%2E/versions"


def test_references_come_in_the_order_of_need(server: FakeRegistry) -> None:
    """What a referenced schema needs stands before it, and each is fetched once."""

    def reference(name: str) -> dict[str, object]:
        return {"name": name, "subject": f"s.{name}", "version": 1}

    server.json("GET /schemas/ids/1", {"schema": "top", "references": [reference("A"), reference("B")]})
    server.json("GET /subjects/s.A/versions/1", {"id": 2, "schema": "a", "references": [reference("C")]})
    server.json("GET /subjects/s.B/versions/1", {"id": 3, "schema": "b", "references": [reference("C")]})
    server.json("GET /subjects/s.C/versions/1", {"id": 4, "schema": "c"})

    found = HttpRegistry(server.url).schema_by_id(1)

    assert list(found.references.items()) == [("C", "c"), ("A", "a"), ("B", "b")]
    assert len(server.requests) == 4


def test_circular_and_contradicting_references_are_refused(server: FakeRegistry) -> None:
    """Neither a cycle nor one name for two schemas is followed."""
    server.json("GET /schemas/ids/1", {"schema": "x", "references": [{"name": "A", "subject": "s", "version": 1}]})
    server.json(
        "GET /subjects/s/versions/1", {"schema": "a", "references": [{"name": "A", "subject": "s", "version": 1}]}
    )
    two = [{"name": "A", "subject": "t", "version": 1}, {"name": "A", "subject": "t", "version": 2}]
    server.json("GET /schemas/ids/2", {"schema": "x", "references": two})
    server.json("GET /subjects/t/versions/1", {"schema": "a"})
    registry = HttpRegistry(server.url)

    for schema_id in (1, 2):
        with pytest.raises(SchemaError):
            registry.schema_by_id(schema_id)


def test_references_are_bounded(server: FakeRegistry) -> None:
    """A chain that is too deep and a list that is too long end before the registry is worn out."""
    for number in range(50):
        child = {"name": f"N{number + 1}", "subject": f"s{number + 1}", "version": 1}
        server.json(f"GET /subjects/s{number}/versions/1", {"schema": "x", "references": [child]})
        server.json(f"GET /subjects/flat{number}/versions/1", {"schema": "x"})
    server.json("GET /schemas/ids/1", {"schema": "x", "references": [{"name": "N0", "subject": "s0", "version": 1}]})
    wide = [{"name": f"F{number}", "subject": f"flat{number}", "version": 1} for number in range(50)]
    server.json("GET /schemas/ids/2", {"schema": "x", "references": wide})
    registry = HttpRegistry(server.url)

    with pytest.raises(SchemaError):
        registry.schema_by_id(1)
    assert len(server.requests) <= MAX_REFERENCE_DEPTH + 1
    with pytest.raises(SchemaError):
        registry.schema_by_id(2)
    assert len(server.requests) < 50


def test_a_remote_ref_is_never_fetched(server: FakeRegistry) -> None:
    """An address inside a schema is text."""
    text = json.dumps({"$ref": f"{server.url}/latest/meta-data"})
    server.json("GET /schemas/ids/1", {"schema": text, "schemaType": "JSON"})

    assert HttpRegistry(server.url).schema_by_id(1).text == text
    assert [path for _method, path, _headers, _body in server.requests] == ["/schemas/ids/1"]


def test_registering_and_looking_up(server: FakeRegistry) -> None:
    """What is sent has the form of the API; Avro needs no kind."""
    server.json("POST /subjects/s/versions", {"id": 3})
    server.json("POST /subjects/s", {"subject": "s", "id": 3, "version": 1, "schema": _AVRO})
    server.json("PUT /config/s", {"compatibility": "FULL_TRANSITIVE"})
    registry = HttpRegistry(server.url)

    assert registry.register("s", _AVRO, "AVRO") == 3
    assert registry.register("s", "{}", "JSON", [Reference("n", "t", 2)]) == 3
    assert registry.lookup("s", _AVRO, "AVRO") == 3
    registry.set_compatibility("s", "FULL_TRANSITIVE")

    bodies = [json.loads(body) for _method, _path, _headers, body in server.requests]
    reference = {"name": "n", "subject": "t", "version": 2}
    assert bodies == [
        {"schema": _AVRO},
        {"schema": "{}", "schemaType": "JSON", "references": [reference]},
        {"schema": _AVRO},
        {"compatibility": "FULL_TRANSITIVE"},
    ]
    assert server.requests[0][2]["Content-Type"] == "application/vnd.schemaregistry.v1+json"


def test_looking_up_where_only_reading_is_allowed(server: FakeRegistry) -> None:
    """Where POST is denied the versions are compared as JSON."""
    server.json("POST /subjects/s", {"error_code": 40301}, 403)
    server.json("GET /subjects/s/versions", [1, 2])
    server.json("GET /subjects/s/versions/1", {"id": 11, "schema": '{"name":"R", "type":"record","fields":[]}'})
    server.json("GET /subjects/s/versions/2", {"id": 12, "schema": '"string"'})
    registry = HttpRegistry(server.url)

    assert registry.lookup("s", _AVRO, "AVRO") == 11
    assert _kind(lambda: registry.lookup("s", '"int"', "AVRO")) == "not_found"


def test_compatibility_is_asked(server: FakeRegistry) -> None:
    """The registry's word counts; a subject without versions accepts anything; silence is no yes."""
    path = "POST /compatibility/subjects/{}/versions/latest"
    server.json(path.format("yes"), {"is_compatible": True})
    server.json(path.format("no"), {"is_compatible": False})
    server.json(path.format("odd"), {"is_compatible": "true"})
    registry = HttpRegistry(server.url)

    assert registry.is_compatible("yes", _AVRO, "AVRO")
    assert not registry.is_compatible("no", _AVRO, "AVRO")
    assert registry.is_compatible("new", _AVRO, "AVRO")
    assert _kind(lambda: registry.is_compatible("odd", _AVRO, "AVRO")) == "malformed"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "malformed"),
        (401, "denied"),
        (403, "denied"),
        (404, "not_found"),
        (408, "timeout"),
        (409, "incompatible"),
        (422, "malformed"),
        (429, "unavailable"),
        (500, "unavailable"),
        (503, "unavailable"),
    ],
)
def test_each_status_has_one_kind(server: FakeRegistry, status: int, kind: str) -> None:
    """The status decides; of the body only the numeric code is told."""
    server.json("GET /schemas/ids/1", {"error_code": 40403, "message": _CANARY}, status)

    with pytest.raises(RegistryError, match=rf"status {status}, error code 40403$") as caught:
        HttpRegistry(server.url).schema_by_id(1)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    "body",
    [
        b"<html>canary-4711</html>",
        b"",
        b"[]",
        b"null",
        b'{"schema": 5}',
        b'{"schema": "x", "references": {"name": "canary-4711"}}',
        b'{"schema": "x", "references": [{"name": "a", "subject": "s", "version": true}]}',
        b'{"schema": "x", "references": [{"name": "a", "subject": "s", "version": "latest"}]}',
        b'{"schema": "x", "references": [{"name": "a", "subject": "s", "version": 2147483648}]}',
        b'{"schema": "x", "metadata": {"tags": {"a": "PII"}}}',
        b'{"schema": "x", "metadata": {"tags": {"a": [1]}}}',
        b'{"schema": "\xff"}',
        b"[" * 200_000,
    ],
)
def test_malformed_answers_are_malformed(server: FakeRegistry, body: bytes) -> None:
    """Whatever is not what was asked for is refused, without quoting it."""
    server.raw("GET /schemas/ids/1", body)

    assert _kind(lambda: HttpRegistry(server.url).schema_by_id(1)) == "malformed"


def test_a_redirect_is_not_followed(server: FakeRegistry) -> None:
    """An answer that leads elsewhere is malformed, and nobody goes there."""
    with FakeRegistry() as elsewhere:
        thread = threading.Thread(target=elsewhere.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        server.raw("GET /schemas/ids/1", b"", 302, Location=f"{elsewhere.url}/schemas/ids/1")
        kind = _kind(lambda: HttpRegistry(server.url).schema_by_id(1))
        elsewhere.shutdown()
        thread.join()

    assert kind == "malformed"
    assert elsewhere.requests == []


@pytest.mark.parametrize("announced", [True, False])
def test_a_huge_body_is_cut_off(server: FakeRegistry, announced: bool) -> None:  # noqa: FBT001 - a table.
    """Reading ends at the limit, announced length or not."""
    sent = 0

    def answer(handler: _Handler) -> None:
        nonlocal sent
        handler.send_response(200)
        if announced:
            handler.send_header("Content-Length", str(10**9))
        else:
            handler.send_header("Connection", "close")
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b" " * 65536)
            sent += 65536

    server.answers["GET /schemas/ids/1"] = answer

    assert _kind(lambda: HttpRegistry(server.url).schema_by_id(1)) == "malformed"
    assert sent < 16 * MAX_BODY_BYTES


def test_a_compressed_answer_is_refused(server: FakeRegistry) -> None:
    """Compression was not asked for, and could hide any size."""
    server.raw("GET /schemas/ids/1", b"\x1f\x8b", 200, Content_Encoding="gzip")

    assert _kind(lambda: HttpRegistry(server.url).schema_by_id(1)) == "malformed"
    assert server.requests[0][2]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("part", ["nothing", "headers", "body"])
def test_a_slow_answer_ends_in_time(server: FakeRegistry, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """One limit for the whole exchange: a byte now and then does not prolong it."""
    monkeypatch.setattr("tokenweir.adapters.jsonhttp.TOTAL_SECONDS", 0.4)
    ended = threading.Event()

    def answer(handler: _Handler) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n"
        if part == "body":
            handler.wfile.write(head + b"\r\n")
        elif part == "headers":
            handler.wfile.write(head + b"X-Slow: ")
        while not ended.wait(0.05):
            if part != "nothing":
                handler.wfile.write(b"x")
                handler.wfile.flush()

    server.answers["GET /schemas/ids/1"] = answer
    started = time.monotonic()
    kind = _kind(lambda: HttpRegistry(server.url).schema_by_id(1))
    elapsed = time.monotonic() - started
    ended.set()

    assert kind == "timeout"
    assert elapsed < 2


def test_a_server_that_is_not_there_is_unavailable() -> None:
    """A refused connection is told from a slow one."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert _kind(lambda: HttpRegistry(url).schema_by_id(1)) == "unavailable"


def test_a_connection_that_breaks_is_unavailable(server: FakeRegistry) -> None:
    """Half an answer is no answer."""

    def answer(handler: _Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        handler.connection.shutdown(socket.SHUT_RDWR)

    server.answers["GET /schemas/ids/1"] = answer

    assert _kind(lambda: HttpRegistry(server.url).schema_by_id(1)) == "unavailable"


def test_credentials_are_sent_and_never_shown(server: FakeRegistry) -> None:
    """Basic or bearer goes out in its header and is in no representation."""
    server.json("GET /subjects/s/versions", [])
    basic = HttpRegistry(server.url, username="user", password=_CANARY)
    bearer = HttpRegistry(server.url, token=_CANARY)
    basic.versions("s")
    bearer.versions("s")

    expected = base64.b64encode(f"user:{_CANARY}".encode()).decode()
    assert server.requests[0][2]["Authorization"] == f"Basic {expected}"
    assert server.requests[1][2]["Authorization"] == f"Bearer {_CANARY}"
    assert _CANARY not in repr(basic) + repr(bearer) + repr(JsonClient(server.url, token=_CANARY))


def test_the_environment_chooses_no_proxy(server: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schemas are asked from the configured host only."""
    server.json("GET /subjects/s/versions", [1])
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    assert HttpRegistry(server.url).versions("s") == [1]


@pytest.mark.parametrize(
    "url",
    ["ftp://host/", "host:8081", "http://", f"http://user:{_CANARY}@host/", "http://host/?a=1", "http://host/#f"],
)
def test_an_unfit_address_is_refused(url: str) -> None:
    """Only a plain root over HTTP or HTTPS is taken, and a password in it is not quoted."""
    assert _kind(lambda: HttpRegistry(url)) == "malformed"


def test_unreadable_certificates_are_refused(tmp_path: Path) -> None:
    """A missing or broken file of certificates is said at once."""
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")

    assert _kind(lambda: HttpRegistry("https://host", ca_file=tmp_path / "missing.pem")) == "denied"
    assert _kind(lambda: HttpRegistry("https://host", ca_file=broken)) == "denied"


def test_a_directory_of_schemas(tmp_path: Path) -> None:
    """Files are subjects with one version and no id."""
    (tmp_path / "a-value.avsc").write_text(_AVRO)
    (tmp_path / "b-value.json").write_text("{}")
    registry = DirectoryRegistry(tmp_path)

    assert registry.latest("a-value") == RegisteredSchema(NO_ID, "AVRO", _AVRO)
    assert registry.version("b-value", 1) == RegisteredSchema(NO_ID, "JSON", "{}")
    assert (registry.versions("a-value"), registry.versions("c-value")) == ([1], [])
    assert registry.subjects_of(1) == []
    assert _kind(lambda: registry.latest("c-value")) == "not_found"
    assert _kind(lambda: registry.version("a-value", 2)) == "not_found"
    assert _kind(lambda: registry.schema_by_id(1)) == "not_found"
    assert _kind(lambda: registry.lookup("a-value", _AVRO, "AVRO")) == "not_found"
    assert _kind(lambda: registry.register("a-value", _AVRO, "AVRO")) == "denied"
    assert _kind(lambda: registry.set_compatibility("a-value", "FULL")) == "denied"
    assert _kind(lambda: registry.is_compatible("a-value", _AVRO, "AVRO")) == "denied"


def test_a_directory_gives_no_file_outside_of_it(tmp_path: Path) -> None:
    """A subject that looks like a path finds nothing."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.json").write_text(_CANARY)
    registry = DirectoryRegistry(tmp_path / "inside")

    for subject in ["../secret", str(tmp_path / "secret"), "", "secret\0"]:
        assert registry.versions(subject) == []
        assert _kind(lambda name=subject: registry.latest(name)) == "not_found"  # type: ignore[misc]


def test_unfit_files_are_refused(tmp_path: Path) -> None:
    """Two files for one subject, a file that is too long, and bytes that are no text."""
    (tmp_path / "two.avsc").write_text(_AVRO)
    (tmp_path / "two.json").write_text("{}")
    (tmp_path / "long.avsc").write_bytes(b" " * (MAX_BODY_BYTES + 1))
    (tmp_path / "bytes.avsc").write_bytes(b"\xff\xfe")
    registry = DirectoryRegistry(tmp_path)

    for subject in ["two", "long", "bytes"]:
        assert _kind(lambda name=subject: registry.latest(name)) == "malformed"  # type: ignore[misc]
