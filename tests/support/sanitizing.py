"""Runs files through the path of ``tokenweir sanitize`` and reads back what it wrote."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn
from unittest.mock import patch

import fastavro

from tokenweir.adapters.engines import EngineName, engine_name
from tokenweir.app.consentlines import ConsentLines
from tokenweir.app.files import Outputs
from tokenweir.app.sanitize import Report, Sanitizer
from tokenweir.app.workspace import Workspace
from tokenweir.core.keys import Keyset
from tokenweir.core.plan import Plan
from tokenweir.core.planning import SourceSchema
from tokenweir.runtime.sources import stream_context


@dataclass(frozen=True, slots=True)
class Sanitized:
    """The report, and by audience the files that were written."""

    report: Report
    files: dict[str, list[Path]]

    def lines(self, audience: str) -> list[bytes]:
        """Return the records of an audience's JSON lines."""
        return [line for path in self.files[audience] for line in path.read_bytes().splitlines()]

    def containers(self, audience: str) -> list[tuple[Any, list[Any]]]:
        """Return schema and records of an audience's containers, decoded by fastavro with the schema they carry."""
        found = []
        for path in self.files[audience]:
            reader = fastavro.reader(io.BytesIO(path.read_bytes()))
            found.append((reader.writer_schema, list(reader)))
        return found


class _AnySubject(Sanitizer):
    """Takes streams that find their subjects in the record key too: in files their records are about nobody."""

    def _require_subjects_in_values(self, plan: Plan) -> None:
        """Refuse nothing."""


def sanitize(
    workspace: Workspace,
    stream: str,
    files: Sequence[Path],
    directory: Path,
    *,
    keyset: Keyset,
    consent: ConsentLines,
    now_ms: int,
    schema: SourceSchema | None = None,
) -> Sanitized:
    """Sanitize files into a directory, for all audiences of the stream; a fault of the engine is raised.

    Where the native engine is installed it sanitizes them too, and must make the same files and the same report.
    """
    context = stream_context(workspace.policy, stream, keyset)
    audiences = [output.audience for output in context.stream.outputs]
    names = [str(path) for path in files]

    def made_by(engine: EngineName, into: Path) -> Sanitized:
        sanitizer = _AnySubject(
            workspace, context, audiences, keyset, consent, schema=schema, now_ms=now_ms, engine=engine, on_fault=_raise
        )
        # Containers would differ in the random bytes between their blocks.
        with patch("tokenweir.app.files.os.urandom", bytes), Outputs(f"{into}/", audiences, names) as outputs:
            sanitizer.run(names, outputs)
            return Sanitized(sanitizer.report, {audience: list(paths) for audience, paths in outputs.written.items()})

    made = made_by(EngineName.REFERENCE, directory)
    if engine_name() is EngineName.NATIVE:
        with TemporaryDirectory() as twin:
            same = made_by(EngineName.NATIVE, Path(twin))
            assert same.report.plain() == made.report.plain()
            assert _contents(same) == _contents(made)
    return made


def _contents(made: Sanitized) -> dict[str, list[bytes]]:
    return {audience: [path.read_bytes() for path in paths] for audience, paths in made.files.items()}


def _raise(error: Exception) -> NoReturn:
    raise error
