"""Schemas by id and by subject: from a Confluent-compatible registry, and from a directory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast
from urllib.parse import quote

from tokenweir.adapters.jsonhttp import MAX_BODY_BYTES, JsonClient, as_mapping, as_sequence, number_of, text_of, unfit
from tokenweir.errors import RegistryError, SchemaError

Kind = Literal["AVRO", "JSON"]

NO_ID = -1
"""The id of a schema that comes from a directory."""

MAX_REFERENCES = 32
MAX_REFERENCE_DEPTH = 8
"""Bounds on what one schema may pull in."""


class Reference(NamedTuple):
    """A schema's reference to another one, as registries store it."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema as a registry holds it.

    Attributes:
        id: The id in the wire format; :data:`NO_ID` where there is none.
        kind: ``AVRO`` or ``JSON``.
        text: The schema.
        references: The texts of all schemas that it needs, by the name it uses, each after those that it needs.
        metadata_tags: The registry's own tags by path pattern, where it has such a thing.
    """

    id: int
    kind: Kind
    text: str
    references: Mapping[str, str] = field(default_factory=dict)
    metadata_tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Registry(Protocol):
    """Where schemas come from, and where derived ones go. Every method raises :class:`RegistryError`."""

    def schema_by_id(self, schema_id: int) -> RegisteredSchema:
        """Return a schema; ``not_found`` if there is no such id."""

    def subjects_of(self, schema_id: int) -> list[tuple[str, int]]:
        """Return the subjects and versions under which an id is registered."""

    def versions(self, subject: str) -> list[int]:
        """Return the versions of a subject, oldest first; none if the subject is unknown."""

    def version(self, subject: str, version: int) -> RegisteredSchema:
        """Return one version of a subject."""

    def latest(self, subject: str) -> RegisteredSchema:
        """Return the newest version of a subject."""

    def lookup(self, subject: str, text: str, kind: Kind) -> int:
        """Return the id of a schema that is registered under a subject already; ``not_found`` if it is not."""

    def register(self, subject: str, text: str, kind: Kind, references: Sequence[Reference] = ()) -> int:
        """Register a schema, or find it, and return its id; ``incompatible`` if the subject's rule forbids it."""

    def set_compatibility(self, subject: str, level: str) -> None:
        """Set the rule for the next versions of a subject, such as ``FULL_TRANSITIVE``."""

    def is_compatible(self, subject: str, text: str, kind: Kind) -> bool:
        """Tell whether a schema could follow the newest version; true for a subject without versions."""


class HttpRegistry:
    """A registry with the API that Confluent's defined; Karapace, Apicurio and Redpanda have it too.

    No schema is fetched from any other place: a ``$ref`` to an address is left alone, a reference is resolved by
    subject and version at the same registry. May be shared by threads.
    """

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        ca_file: Path | None = None,
    ) -> None:
        """Prepare the client; see :class:`JsonClient` for the arguments and limits."""
        self._client = JsonClient(url, username=username, password=password, token=token, ca_file=ca_file)

    def __repr__(self) -> str:
        """Return the address alone; credentials are never shown."""
        return f"HttpRegistry({self._client.url!r})"

    def schema_by_id(self, schema_id: int) -> RegisteredSchema:
        """Return a schema with its references resolved.

        Raises:
            RegistryError: See :meth:`JsonClient.call`.
            SchemaError: The schema is neither Avro nor JSON Schema, or its references are too many, too deep or
                circular: that is the schema's fault, and asking again would not help.
        """
        path = f"/schemas/ids/{schema_id}"
        return self._schema(as_mapping(self._client.call("GET", path), path), schema_id)

    def subjects_of(self, schema_id: int) -> list[tuple[str, int]]:
        """Return the subjects and versions under which an id is registered."""
        path = f"/schemas/ids/{schema_id}/versions"
        entries = [as_mapping(entry, path) for entry in as_sequence(self._client.call("GET", path), path)]
        return [(text_of(entry, "subject", path), number_of(entry, "version", path)) for entry in entries]

    def versions(self, subject: str) -> list[int]:
        """Return the versions of a subject, oldest first; none if the subject is unknown."""
        path = f"/subjects/{_part(subject)}/versions"
        try:
            entries = as_sequence(self._client.call("GET", path), path)
        except RegistryError as error:
            if error.kind == "not_found":
                return []
            raise
        return sorted(number_of({"version": entry}, "version", path) for entry in entries)

    def version(self, subject: str, version: int) -> RegisteredSchema:
        """Return one version of a subject."""
        return self._version(subject, str(version))

    def latest(self, subject: str) -> RegisteredSchema:
        """Return the newest version of a subject."""
        return self._version(subject, "latest")

    def lookup(self, subject: str, text: str, kind: Kind) -> int:
        """Return the id of a schema that is registered under a subject already.

        Asks by POST; where only GET is allowed, the versions are compared one by one.
        """
        path = f"/subjects/{_part(subject)}"
        try:
            return number_of(as_mapping(self._client.call("POST", path, _body(text, kind)), path), "id", path)
        except RegistryError as error:
            if error.kind != "denied":
                raise
        wanted = _canonical(text, path)
        for version in reversed(self.versions(subject)):
            found = self.version(subject, version)
            if found.kind == kind and _canonical(found.text, path) == wanted:
                return found.id
        raise RegistryError("not_found", f"{path}: the schema is not registered")

    def register(self, subject: str, text: str, kind: Kind, references: Sequence[Reference] = ()) -> int:
        """Register a schema, or find it, and return its id."""
        path = f"/subjects/{_part(subject)}/versions"
        body = _body(text, kind, references)
        return number_of(as_mapping(self._client.call("POST", path, body), path), "id", path)

    def set_compatibility(self, subject: str, level: str) -> None:
        """Set the rule for the next versions of a subject."""
        self._client.call("PUT", f"/config/{_part(subject)}", {"compatibility": level})

    def is_compatible(self, subject: str, text: str, kind: Kind) -> bool:
        """Tell whether a schema could follow the newest version."""
        path = f"/compatibility/subjects/{_part(subject)}/versions/latest"
        try:
            answer = as_mapping(self._client.call("POST", path, _body(text, kind)), path)
        except RegistryError as error:
            if error.kind == "not_found":
                return True
            raise
        compatible = answer.get("is_compatible")
        if not isinstance(compatible, bool):
            raise unfit(path)
        return compatible

    def _version(self, subject: str, version: str) -> RegisteredSchema:
        path = f"/subjects/{_part(subject)}/versions/{version}"
        answer = as_mapping(self._client.call("GET", path), path)
        return self._schema(answer, number_of(answer, "id", path))

    def _schema(self, answer: Mapping[str, Any], schema_id: int) -> RegisteredSchema:
        what = f"schema id {schema_id}"
        kind = answer.get("schemaType") or "AVRO"
        if kind not in {"AVRO", "JSON"}:
            raise SchemaError(f"{what} is neither Avro nor JSON Schema")
        references: dict[str, str] = {}
        self._resolve(_references(answer, what), references, {}, what, 1)
        text = text_of(answer, "schema", what)
        return RegisteredSchema(schema_id, cast("Kind", kind), text, references, _metadata_tags(answer))

    def _resolve(
        self,
        wanted: list[Reference],
        texts: dict[str, str],
        places: dict[str, Reference],
        what: str,
        depth: int,
    ) -> None:
        """Fill ``texts`` with what is referred to, the deepest first; ``places`` has all that was begun."""
        for reference in wanted:
            if reference.name in places:
                if places[reference.name] != reference or reference.name not in texts:
                    raise SchemaError(f"{what}: references form a cycle or contradict each other")
                continue
            places[reference.name] = reference
            if len(places) > MAX_REFERENCES or depth > MAX_REFERENCE_DEPTH:
                raise SchemaError(f"{what}: too many references")
            path = f"/subjects/{_part(reference.subject)}/versions/{reference.version}"
            answer = as_mapping(self._client.call("GET", path), path)
            self._resolve(_references(answer, what), texts, places, what, depth + 1)
            texts[reference.name] = text_of(answer, "schema", path)


class DirectoryRegistry:
    """A directory with ``{subject}.avsc`` and ``{subject}.json``: one version of each subject, no ids, read-only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def schema_by_id(self, schema_id: int) -> RegisteredSchema:
        """Raise ``not_found``: files have no ids."""
        raise RegistryError("not_found", f"schema id {schema_id}: a directory of schemas has no ids")

    def subjects_of(self, schema_id: int) -> list[tuple[str, int]]:
        """Return nothing: files have no ids."""
        del schema_id
        return []

    def versions(self, subject: str) -> list[int]:
        """Return version 1 of a subject that has a file.

        Raises:
            RegistryError: ``unavailable`` if the directory itself is missing.
        """
        if self._files(subject):
            return [1]
        self._require_directory()
        return []

    def version(self, subject: str, version: int) -> RegisteredSchema:
        """Return the schema of a subject; its version is 1."""
        if version != 1:
            raise RegistryError("not_found", f"subject {subject} has version 1 only")
        return self.latest(subject)

    def latest(self, subject: str) -> RegisteredSchema:
        """Return the schema of a subject.

        Raises:
            RegistryError: ``not_found`` without a file; ``malformed`` with two files, or if it is too long or not
                UTF-8; ``denied`` if it cannot be read.
        """
        files = self._files(subject)
        if not files:
            self._require_directory()
            raise RegistryError("not_found", f"no file {subject}.avsc or {subject}.json in {self._directory}")
        if len(files) > 1:
            raise RegistryError("malformed", f"{subject}.avsc and {subject}.json: one subject, two files")
        [(path, kind)] = files
        try:
            with path.open("rb") as stream:
                content = stream.read(MAX_BODY_BYTES + 1)
        except OSError:
            raise RegistryError("denied", f"{path} cannot be read") from None
        if len(content) > MAX_BODY_BYTES:
            raise RegistryError("malformed", f"{path} is longer than {MAX_BODY_BYTES} bytes")
        try:
            return RegisteredSchema(NO_ID, kind, content.decode("utf-8"))
        except UnicodeDecodeError:
            raise RegistryError("malformed", f"{path} is not UTF-8") from None

    def lookup(self, subject: str, text: str, kind: Kind) -> int:
        """Raise ``not_found``: files have no ids."""
        del text, kind
        raise RegistryError("not_found", f"subject {subject}: a directory of schemas has no ids")

    def register(self, subject: str, text: str, kind: Kind, references: Sequence[Reference] = ()) -> int:
        """Raise ``denied``: files are only read."""
        del text, kind, references
        raise RegistryError("denied", f"subject {subject}: a directory of schemas is only read")

    def set_compatibility(self, subject: str, level: str) -> None:
        """Raise ``denied``: files are only read."""
        del level
        raise RegistryError("denied", f"subject {subject}: a directory of schemas is only read")

    def is_compatible(self, subject: str, text: str, kind: Kind) -> bool:
        """Raise ``denied``: a directory has no rules to compare by."""
        del text, kind
        raise RegistryError("denied", f"subject {subject}: a directory of schemas has no compatibility rules")

    def _require_directory(self) -> None:
        """Tell a directory that is missing from one that lacks a file."""
        if not self._directory.is_dir():
            raise RegistryError("unavailable", f"the directory of schemas {self._directory} does not exist")

    def _files(self, subject: str) -> list[tuple[Path, Kind]]:
        # A subject is a name and never a path out of the directory.
        if not subject or "/" in subject or "\0" in subject:
            return []
        kinds: tuple[tuple[str, Kind], ...] = ((".avsc", "AVRO"), (".json", "JSON"))
        files = [(self._directory / f"{subject}{suffix}", kind) for suffix, kind in kinds]
        return [(path, kind) for path, kind in files if path.is_file()]


def _body(text: str, kind: Kind, references: Sequence[Reference] = ()) -> dict[str, object]:
    body: dict[str, object] = {"schema": text}
    if kind != "AVRO":
        body["schemaType"] = kind
    if references:
        body["references"] = [reference._asdict() for reference in references]
    return body


def _part(name: str) -> str:
    """Return a name as one part of a path. A name of dots would be taken for a way up."""
    return quote(name, safe="").replace(".", "%2E") if set(name) <= {"."} else quote(name, safe="")


def _references(answer: Mapping[str, Any], what: str) -> list[Reference]:
    entries = [as_mapping(entry, what) for entry in as_sequence(answer.get("references") or [], what)]
    return [
        Reference(text_of(entry, "name", what), text_of(entry, "subject", what), number_of(entry, "version", what))
        for entry in entries
    ]


def _metadata_tags(answer: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return ``metadata.tags``; registries without metadata leave it out, and anything else than lists is no tag."""
    metadata = answer.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    if tags is None:
        return {}
    if not isinstance(tags, dict) or not all(isinstance(values, list) for values in tags.values()):
        raise RegistryError("malformed", "metadata.tags is not a mapping of patterns to lists")
    if not all(isinstance(value, str) for values in tags.values() for value in values):
        raise RegistryError("malformed", "metadata.tags holds something that is not a tag")
    return {pattern: tuple(values) for pattern, values in tags.items()}


def _canonical(text: str, what: str) -> str:
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (ValueError, RecursionError):
        raise RegistryError("malformed", f"{what}: a schema is not JSON") from None
