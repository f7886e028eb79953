"""What a schema registry has answered, on disk: one file for each schema id and for each registry subject.

Each registry has a directory of its own, named after its address, since an id means something in its registry only.
A file is replaced as a whole and carries a checksum over all that it says, its own name included; one that is torn,
changed, misplaced or of another version of this program counts as absent. The checksum (SHA-256) is against
accidents: who can write to the state directory can write what they like.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast

from tokenweir.adapters.registry import Kind, RegisteredSchema

#: Below the state directory.
DIRECTORY_NAME: Final = "registry"

_FORMAT: Final = 1
_LOCK: Final = "lock"
#: More than the largest answer of a registry with its references; a longer file is none of ours.
_MAX_FILE_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredSchema:
    """What is known of a schema id: the schema, and the registry subjects and versions under which it was seen."""

    schema: RegisteredSchema
    subjects: frozenset[tuple[str, int]] = frozenset()

    @property
    def fingerprint(self) -> str:
        """What may never change for an id."""
        return fingerprint(self.schema)


@dataclass(frozen=True, slots=True)
class StoredSubject:
    """What is known of a registry subject.

    Attributes:
        versions: Its versions, each with its schema id, None where only the number is known.
        registered: The ids of schemas that were registered or found under it, by :func:`text_digest`.
    """

    versions: Mapping[int, int | None] = field(default_factory=dict)
    registered: Mapping[str, int] = field(default_factory=dict)


def fingerprint(schema: RegisteredSchema) -> str:
    """Return the SHA-256 over kind, text, references and tags of a schema.

    Texts that differ in layout only have one fingerprint: a registry may lay a schema out anew. The registry subjects
    are left out: an id rightly gains one whenever the same schema is registered for another topic.
    """
    references = sorted((name, _canonical(text)) for name, text in schema.references.items())
    tags = sorted((pattern, list(values)) for pattern, values in schema.metadata_tags.items())
    return _digest([schema.kind, _canonical(schema.text), references, tags])


def text_digest(text: str, kind: Kind) -> str:
    """Return the name of a schema that is to be registered: only the very same text has it."""
    return _digest([kind, text])


class SchemaFiles:
    """The directory of one registry. May be shared by threads and processes.

    Args:
        state_directory: The state directory; what is needed below it is made at the first write.
        url: The address of the registry.
        on_write_error: Told of a write that failed. Nothing else comes of it: the files are a help and no duty.
    """

    def __init__(
        self, state_directory: Path, url: str, on_write_error: Callable[[OSError], None] = lambda _error: None
    ) -> None:
        self._url = url
        self._on_write_error = on_write_error
        self.directory = state_directory / DIRECTORY_NAME / hashlib.sha256(url.encode()).hexdigest()[:16]

    def schema_path(self, schema_id: int) -> Path:
        """Return the file of a schema id."""
        return self.directory / f"schema-{schema_id}.json"

    def _subject_path(self, subject: str) -> Path:
        # A subject may hold any character, also a lone surrogate of JSON, and be longer than a file name may.
        digest = hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()
        return self.directory / f"subject-{digest[:32]}.json"

    def schema(self, schema_id: int) -> StoredSchema | None:
        """Return what is known of a schema id, None if there is nothing that can be trusted."""
        content = self._read(self.schema_path(schema_id), {"schema_id": schema_id})
        return None if content is None else _schema_from(schema_id, content)

    def subject(self, subject: str) -> StoredSubject:
        """Return what is known of a registry subject; of one that is not known, nothing."""
        content = self._read(self._subject_path(subject), {"registry_subject": subject})
        return StoredSubject() if content is None else _subject_from(content)

    def add_schema(self, schema: RegisteredSchema, subjects: frozenset[tuple[str, int]]) -> None:
        """Keep a schema, and add to the registry subjects that are known for it."""

        def change() -> None:
            known = self.schema(schema.id)
            wanted = StoredSchema(schema, subjects if known is None else known.subjects | subjects)
            if wanted != known:
                self._write(self.schema_path(schema.id), {"schema_id": schema.id}, _schema_content(wanted))

        self._alone(change)

    def update_subject(self, subject: str, change: Callable[[StoredSubject], StoredSubject]) -> None:
        """Change what is known of a registry subject."""

        def write() -> None:
            known = self.subject(subject)
            wanted = change(known)
            if wanted != known:
                content = {"versions": sorted(wanted.versions.items()), "registered": sorted(wanted.registered.items())}
                self._write(self._subject_path(subject), {"registry_subject": subject}, content)

        self._alone(write)

    def _read(self, path: Path, about: Mapping[str, object]) -> Mapping[str, Any] | None:
        try:
            with path.open("rb") as stream:
                document = json.loads(stream.read(_MAX_FILE_BYTES))
            content = document["content"]
            if document == self._document(about, content):
                return cast("Mapping[str, Any]", content)
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            pass
        return None

    def _write(self, path: Path, about: Mapping[str, object], content: Mapping[str, object]) -> None:
        """Replace a file as a whole, or not at all; when it returns, the disk has it."""
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=self.directory)  # Its mode is 0600.
        try:
            with open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor has no path.
                stream.write(json.dumps(self._document(about, content), separators=(",", ":")).encode())
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _document(self, about: Mapping[str, object], content: object) -> dict[str, object]:
        said = {"format": _FORMAT, "registry": self._url, **about, "content": content}
        return {**said, "checksum": _digest(said)}

    def _alone(self, action: Callable[[], None]) -> None:
        """Let no other thread or process change a file between reading it and writing it."""
        try:
            # A mode that is given with parents is for the last directory only.
            self.directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                action()
            finally:
                os.close(descriptor)
        except OSError as error:
            self._on_write_error(error)


def with_version(version: int, schema_id: int) -> Callable[[StoredSubject], StoredSubject]:
    """Return the change that adds the schema id of a version."""
    return lambda known: replace(known, versions={**known.versions, version: schema_id})


def with_versions(versions: list[int]) -> Callable[[StoredSubject], StoredSubject]:
    """Return the change that makes these the only versions."""
    return lambda known: replace(known, versions={version: known.versions.get(version) for version in versions})


def with_registered(digest: str, schema_id: int) -> Callable[[StoredSubject], StoredSubject]:
    """Return the change that adds the id of a registered text."""
    return lambda known: replace(known, registered={**known.registered, digest: schema_id})


def _schema_content(stored: StoredSchema) -> dict[str, object]:
    schema = stored.schema
    return {
        "kind": schema.kind,
        "text": schema.text,
        "references": [[name, text] for name, text in schema.references.items()],  # Their order matters.
        "metadata_tags": sorted((pattern, list(tags)) for pattern, tags in schema.metadata_tags.items()),
        "subjects": sorted(stored.subjects),
        "fingerprint": stored.fingerprint,
    }


def _schema_from(schema_id: int, content: Mapping[str, Any]) -> StoredSchema:
    return StoredSchema(
        RegisteredSchema(
            schema_id,
            content["kind"],
            content["text"],
            dict(content["references"]),
            {pattern: tuple(tags) for pattern, tags in content["metadata_tags"]},
        ),
        frozenset((subject, version) for subject, version in content["subjects"]),
    )


def _subject_from(content: Mapping[str, Any]) -> StoredSubject:
    return StoredSubject(dict(content["versions"]), dict(content["registered"]))


def _canonical(text: str) -> str:
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (ValueError, RecursionError):
        return text


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":"), sort_keys=True).encode()).hexdigest()
