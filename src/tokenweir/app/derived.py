"""Derived schemas as files and in the registry."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenweir.adapters.registry import Kind, Registry
from tokenweir.core import deadletter
from tokenweir.core.planning import PlannedStream
from tokenweir.errors import FileFormatError
from tokenweir.runtime.plans import register_derived


@dataclass(frozen=True, slots=True)
class DerivedSchema:
    """A schema for the registry subject of an output or of a dead-letter topic."""

    audience: str
    subject: str
    kind: Kind
    text: str
    #: What it was derived from.
    label: str

    @property
    def file_name(self) -> str:
        """The name of its file in a directory of schemas."""
        return f"{self.subject}.{'avsc' if self.kind == 'AVRO' else 'json'}"

    @property
    def document(self) -> Any:  # noqa: ANN401 - JSON of any kind.
        """The schema as JSON."""
        return json.loads(self.text)


def derived_schemas(planned: PlannedStream, audience: str | None) -> Iterator[DerivedSchema]:
    """Yield the derived schemas of a stream, oldest version first, equal ones of one output once.

    An output of a version of which nothing can leave has none.
    """
    seen: set[tuple[str, str]] = set()
    kind: Kind = "AVRO" if planned.context.stream.source.format == "avro" else "JSON"
    for version in planned.versions:
        for output, derived in zip(version.compiled.plan.outputs, version.derived, strict=True):
            subject = f"{output.topic}-value"
            if derived is None or audience not in {None, output.audience} or (subject, derived.text) in seen:
                continue
            seen.add((subject, derived.text))
            yield DerivedSchema(output.audience, subject, kind, derived.text, version.source.label)


def dead_letter_schema(topic: str) -> DerivedSchema:
    """Return the schema of a dead-letter topic."""
    return DerivedSchema("", f"{topic}-value", "AVRO", deadletter.SCHEMA, "tokenweir")


def newest(schemas: Iterator[DerivedSchema]) -> Mapping[str, DerivedSchema]:
    """Return the newest schema of each subject."""
    return {schema.subject: schema for schema in schemas}


def write(schema: DerivedSchema, directory: Path) -> Path:
    """Write a schema as ``{subject}.avsc`` or ``{subject}.json`` and return the path.

    Raises:
        FileFormatError: it cannot be written.
    """
    path = directory / schema.file_name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(schema.document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    except OSError as error:
        raise FileFormatError(f"{path}: {error.strerror}") from None
    return path


def register(registry: Registry, schema: DerivedSchema) -> int:
    """Register a schema at FULL_TRANSITIVE and return its id.

    Raises:
        RegistryError: ``incompatible`` if it does not go with the versions that are there.
    """
    return register_derived(registry, schema.subject, schema.text, schema.kind)
