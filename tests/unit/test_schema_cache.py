"""The registry's answers on disk: what silence may be answered with, what counts, and what an id may never become."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokenweir.adapters.registry import DirectoryRegistry, Kind, RegisteredSchema, Registry
from tokenweir.adapters.schemacache import PinningRegistry, SchemaChangedError
from tokenweir.adapters.schemafiles import SchemaFiles, fingerprint, text_digest, with_registered
from tokenweir.errors import RegistryError, SchemaError
from tokenweir.runtime.bucket import TokenBucket
from tokenweir.runtime.registryhealth import RegistryHealth
from tokenweir.runtime.schemawatch import SchemaWatch

_URL = "http://registry.example/apis/ccompat/v7"
_TEXT = '{"type": "record", "name": "R", "fields": []}'


class FakeRegistry(DirectoryRegistry):
    """A registry with one subject ``s-value``, whose version 1 has id 5; it may fail in any way."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.text = _TEXT
        self.fault: Exception | None = None
        self.subject = "s-value"
        self.owner = "s-value"
        self.questions = 0

    def _answer(self) -> None:
        self.questions += 1
        if self.fault is not None:
            raise self.fault

    def schema_by_id(self, schema_id: int) -> RegisteredSchema:
        """Every id is the same schema."""
        self._answer()
        return RegisteredSchema(schema_id, "AVRO", self.text, {"b": '"int"', "a": '"long"'}, {"**.x": ("PII",)})

    def subjects_of(self, schema_id: int) -> list[tuple[str, int]]:
        """Every id belongs to one subject."""
        self._answer()
        return [(self.owner, schema_id - 4)]

    def versions(self, subject: str) -> list[int]:
        """There is one version."""
        self._answer()
        return [1] if subject == self.subject else []

    def version(self, subject: str, version: int) -> RegisteredSchema:
        """Version 1 has id 5."""
        del subject
        return self.schema_by_id(version + 4)

    def lookup(self, subject: str, text: str, kind: Kind) -> int:
        """Everything is registered."""
        del subject, text, kind
        self._answer()
        return 9

    def is_compatible(self, subject: str, text: str, kind: Kind) -> bool:
        """Everything is compatible."""
        del subject, text, kind
        self._answer()
        return True


class Bench:
    """A registry that can fail, and wrappers round it over the same files, as after a restart."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.registry = FakeRegistry()
        self.now = 100.0
        self.told: list[str] = []

    @property
    def files(self) -> SchemaFiles:
        """The files."""
        return SchemaFiles(self.directory, _URL)

    def pinning(self) -> PinningRegistry:
        """Return a new wrapper."""
        return PinningRegistry(
            self.registry,
            self.files,
            lambda: self.now,
            subject="s-value",
            on_failure=self.told.append,
            on_answer=lambda: self.told.append("answer"),
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A new bench."""
    return Bench(tmp_path)


#: Every question that the files may answer.
_QUESTIONS: dict[str, Callable[[Registry], Any]] = {
    "schema_by_id": lambda registry: registry.schema_by_id(5),
    "subjects_of": lambda registry: registry.subjects_of(5),
    "versions": lambda registry: registry.versions("s-value"),
    "version": lambda registry: registry.version("s-value", 1),
    "lookup": lambda registry: registry.lookup("out-value", _TEXT, "AVRO"),
    "is_compatible": lambda registry: registry.is_compatible("out-value", _TEXT, "AVRO"),
}


def _ask_everything(registry: Registry) -> dict[str, Any]:
    registry.subjects_of(5)
    registry.schema_by_id(5)
    return {name: question(registry) for name, question in _QUESTIONS.items()}


@pytest.mark.parametrize("kind", ["unavailable", "timeout"])
def test_silence_is_answered_as_before(bench: Bench, kind: str) -> None:
    """After a restart too, every question has the answer that the registry gave."""
    before = _ask_everything(bench.pinning())
    bench.registry.fault = RegistryError(kind, "as the test wants")
    registry = bench.pinning()
    assert not registry.answered_from_files
    assert {name: question(registry) for name, question in _QUESTIONS.items()} == before
    assert registry.answered_from_files
    assert list(registry.schema_by_id(5).references) == ["b", "a"]


@pytest.mark.parametrize("kind", ["not_found", "incompatible", "denied", "malformed"])
@pytest.mark.parametrize("name", _QUESTIONS)
def test_a_clear_answer_counts_whatever_was_said_before(bench: Bench, kind: str, name: str) -> None:
    """That something is gone or forbidden is not overruled by memory."""
    _ask_everything(bench.pinning())
    bench.registry.fault = RegistryError(kind, "as the test wants")
    with pytest.raises(RegistryError) as caught:
        _QUESTIONS[name](bench.pinning())
    assert caught.value.kind == kind


@pytest.mark.parametrize("name", _QUESTIONS)
def test_silence_about_what_was_never_asked_stays_silence(bench: Bench, name: str) -> None:
    """Nothing is made up, and a question of another registry is another question."""
    bench.registry.fault = RegistryError("unavailable", "as the test wants")
    with pytest.raises(RegistryError):
        _QUESTIONS[name](bench.pinning())
    bench.registry.fault = None
    other = PinningRegistry(bench.registry, SchemaFiles(bench.directory, "http://other"), lambda: bench.now)
    _ask_everything(other)
    bench.registry.fault = RegistryError("unavailable", "as the test wants")
    with pytest.raises(RegistryError):
        _QUESTIONS[name](bench.pinning())


def test_nothing_is_remembered_that_was_not_there(bench: Bench) -> None:
    """A subject without versions may have some by now."""
    assert bench.pinning().versions("new-value") == []
    bench.registry.fault = RegistryError("unavailable", "as the test wants")
    with pytest.raises(RegistryError):
        bench.pinning().versions("new-value")


def test_what_is_gone_is_forgotten(bench: Bench) -> None:
    """The last clear answer counts."""
    bench.pinning().versions("s-value")
    bench.pinning().versions("s-value")
    bench.registry.subject = "another-value"
    assert bench.pinning().versions("s-value") == []
    bench.registry.fault = RegistryError("unavailable", "as the test wants")
    with pytest.raises(RegistryError):
        bench.pinning().versions("s-value")


def test_only_the_very_same_text_was_registered(bench: Bench) -> None:
    """A schema that differs in one space is another one to a registry."""
    bench.pinning().lookup("out-value", _TEXT, "AVRO")
    bench.registry.fault = RegistryError("unavailable", "as the test wants")
    for subject, text, kind in (("x", _TEXT, "AVRO"), ("out-value", _TEXT + " ", "AVRO"), ("out-value", _TEXT, "JSON")):
        with pytest.raises(RegistryError):
            bench.pinning().lookup(subject, text, kind)  # type: ignore[arg-type]  # kinds come as text here


def test_an_id_of_another_subject_is_not_called_foreign_by_memory(bench: Bench) -> None:
    """It may have become the stream's own since."""
    bench.registry.owner = "other-value"
    registry = bench.pinning()
    registry.subjects_of(5)
    registry.schema_by_id(5)
    bench.registry.fault = RegistryError("timeout", "as the test wants")
    with pytest.raises(RegistryError):
        bench.pinning().subjects_of(5)


def test_ids_that_are_only_asked_about_leave_no_file(bench: Bench) -> None:
    """Those of other topics are many, and anybody can name them."""
    registry = bench.pinning()
    for schema_id in range(3_000):
        registry.subjects_of(schema_id)
    assert not bench.files.directory.exists()
    assert len(registry._subjects) == 1_000


@pytest.mark.parametrize("name", ["schema_by_id", "version"])
@pytest.mark.parametrize("restarted", [False, True])
def test_another_schema_under_a_known_id_is_an_error(bench: Bench, name: str, restarted: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """At once and after a restart; the error says where the old one is kept."""
    registry = bench.pinning()
    _ask_everything(registry)
    bench.registry.text = _TEXT.replace("R", "S")
    with pytest.raises(SchemaChangedError, match=r"schema-5\.json") as caught:
        _QUESTIONS[name](bench.pinning() if restarted else registry)
    assert (caught.value.kind, caught.value.schema_id) == ("changed", 5)
    with pytest.raises(SchemaChangedError):
        registry.verify(5)
    stored = bench.files.schema(5)
    assert stored is not None
    assert stored.schema.text == _TEXT


def test_the_pin_in_memory_outlives_its_file(bench: Bench) -> None:
    """A process that has planned a schema knows what it was."""
    registry = bench.pinning()
    registry.schema_by_id(5)
    bench.files.schema_path(5).unlink()
    bench.registry.text = _TEXT.replace("R", "S")
    with pytest.raises(SchemaChangedError):
        registry.verify(5)


def test_layout_is_no_change_but_tags_kind_and_references_are() -> None:
    """Registries lay schemas out anew; whatever decides about a field counts."""
    schema = RegisteredSchema(5, "AVRO", '{"a": 1, "b": [1, 2]}', {"n": '"int"'}, {"**.x": ("PII",)})
    same = RegisteredSchema(5, "AVRO", '{"b":[1,2],"a":1}', {"n": ' "int"'}, {"**.x": ("PII",)})
    assert fingerprint(same) == fingerprint(schema)
    for other in (
        RegisteredSchema(5, "JSON", schema.text, schema.references, schema.metadata_tags),
        RegisteredSchema(5, "AVRO", '{"a": 1, "b": [2, 1]}', schema.references, schema.metadata_tags),
        RegisteredSchema(5, "AVRO", schema.text, {"n": '"long"'}, schema.metadata_tags),
        RegisteredSchema(5, "AVRO", schema.text, {}, schema.metadata_tags),
        RegisteredSchema(5, "AVRO", schema.text, schema.references, {"**.x": ("PUBLIC",)}),
        RegisteredSchema(5, "AVRO", schema.text, schema.references),
    ):
        assert fingerprint(other) != fingerprint(schema)


def test_no_damaged_file_is_trusted(bench: Bench) -> None:
    """Whatever byte is lost or flipped, the file counts as absent; and so does one under another name."""
    bench.pinning().schema_by_id(5)
    path = bench.files.schema_path(5)
    sound = path.read_bytes()
    for length in range(0, len(sound), 7):
        path.write_bytes(sound[:length])
        assert bench.files.schema(5) is None
    for position in range(len(sound)):
        path.write_bytes(sound[:position] + bytes([sound[position] ^ 1]) + sound[position + 1 :])
        assert bench.files.schema(5) is None
    path.write_bytes(sound)
    assert bench.files.schema(5) is not None
    bench.files.schema_path(6).write_bytes(sound)
    assert bench.files.schema(6) is None
    for other in (b"[]", b"null", b"{}", b"\xff", b"[" * 100_000):
        path.write_bytes(other)
        assert bench.files.schema(5) is None


def test_files_belong_to_their_owner_alone(bench: Bench) -> None:
    """Nobody else may read or write them, and nothing temporary is left."""
    _ask_everything(bench.pinning())
    paths = list(bench.files.directory.iterdir())
    assert {path.name.partition("-")[0] for path in paths} == {"lock", "schema", "subject"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in paths)
    for directory in (bench.files.directory, bench.files.directory.parent):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_changes_of_many_threads_are_all_kept(bench: Bench) -> None:
    """Workers share the directory: none takes away what another has just added."""

    def add(first: int) -> None:
        files = bench.files
        for number in range(first, first + 20):
            files.update_subject("out-value", with_registered(text_digest(str(number), "AVRO"), number))

    threads = [threading.Thread(target=add, args=(100 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bench.files.subject("out-value").registered) == 80


def test_a_disk_that_takes_nothing_stops_nothing(tmp_path: Path) -> None:
    """The answer counts all the same, and somebody is told."""
    (tmp_path / "registry").write_text("a file where the directory should be")
    errors: list[OSError] = []
    registry = PinningRegistry(FakeRegistry(), SchemaFiles(tmp_path, _URL, errors.append), lambda: 0.0)
    assert registry.schema_by_id(5).text == _TEXT
    assert errors


def test_a_silent_registry_is_left_alone_for_longer_and_longer(bench: Bench) -> None:
    """Up to five seconds; answers from the files cost no question meanwhile, and one answer ends it."""
    registry = bench.pinning()
    registry.schema_by_id(5)
    bench.registry.fault = RegistryError("timeout", "as the test wants")
    bench.registry.questions = 0
    for _ in range(10_000):
        assert registry.schema_by_id(5).text == _TEXT
        bench.now += 0.01
    assert 20 <= bench.registry.questions <= 26
    bench.registry.fault = None
    bench.now += 5
    registry.schema_by_id(5)
    questions = bench.registry.questions
    registry.schema_by_id(5)
    assert bench.registry.questions == questions + 1
    assert bench.told[-1] == "answer"
    assert "timeout" in bench.told


def test_an_unusable_schema_is_an_answer(bench: Bench) -> None:
    """The registry is well; it is the schema that is not."""
    bench.registry.fault = SchemaError("as the test wants")
    with pytest.raises(SchemaError):
        bench.pinning().schema_by_id(5)
    assert bench.told == ["answer"]


def test_the_watch_finds_a_change_and_stops_its_process(bench: Bench) -> None:
    """It asks for each id in turn; faults of the registry alone change nothing."""
    registry = bench.pinning()
    stop = threading.Event()
    watch = SchemaWatch(registry, lambda: [5, 6], stop, round_seconds=0.01)
    watch.start()
    bench.registry.fault = RegistryError("malformed", "as the test wants")
    time.sleep(0.1)
    assert not stop.is_set()
    watch.raise_if_changed()
    bench.registry.fault = None
    deadline = time.monotonic() + 10
    while len(registry._pins) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    bench.registry.text = _TEXT.replace("R", "S")
    assert stop.wait(10)
    watch._thread.join(10)
    with pytest.raises(SchemaChangedError):
        watch.raise_if_changed()


def test_health_is_told_at_its_edges(caplog: pytest.LogCaptureFixture) -> None:
    """Once when it begins to fail, once a minute, and once when it is over."""
    now = [0.0]
    health = RegistryHealth("s", lambda: now[0])
    with caplog.at_level("INFO", "tokenweir"):
        health.answered()
        for _ in range(100):
            health.failed("timeout")
            now[0] += 1
        health.answered()
        health.answered()
    assert [entry.message for entry in caplog.records] == ["registry_failed"] * 2 + ["registry_recovered"]


def test_a_bucket_gives_its_content_at_once_and_then_so_much_a_second() -> None:
    """It never holds more than its size."""
    now = [0.0]
    bucket = TokenBucket(10, 5, lambda: now[0])
    assert [bucket.take() for _ in range(7)] == [True] * 5 + [False] * 2
    now[0] = 0.25
    assert [bucket.take() for _ in range(3)] == [True] * 2 + [False]
    now[0] = 1000
    assert sum(bucket.take() for _ in range(20)) == 5


def test_the_stored_form_is_pinned(tmp_path: Path) -> None:
    """What an older version wrote can be read; another format would need a number of its own."""
    files = SchemaFiles(tmp_path, _URL)
    files.add_schema(RegisteredSchema(5, "AVRO", '"int"', {"n": '"long"'}, {"**.x": ("PII",)}), frozenset({("s", 1)}))
    document = json.loads(files.schema_path(5).read_bytes())
    assert document == {
        "format": 1,
        "registry": _URL,
        "schema_id": 5,
        "content": {
            "kind": "AVRO",
            "text": '"int"',
            "references": [["n", '"long"']],
            "metadata_tags": [["**.x", ["PII"]]],
            "subjects": [["s", 1]],
            "fingerprint": document["content"]["fingerprint"],
        },
        "checksum": "91471f328fb6e276840b91125ed1642bd2d5d5a1a8de4af59049168e12b2b3b2",
    }


def test_a_subject_may_be_any_text_of_json(tmp_path: Path) -> None:
    """Also one with half of a surrogate pair, which is no Unicode."""
    files = SchemaFiles(tmp_path, _URL)
    files.update_subject("\ud800-value", lambda known: known)
    assert files.subject("\ud800-value") == files.subject("never written")
