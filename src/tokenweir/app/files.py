"""The files of ``tokenweir sanitize``: where records come from, and outputs that appear only when they are complete."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Protocol, Self

from tokenweir.app.containers import MAGIC, SYNC_BYTES, ContainerReader, ContainerWriter
from tokenweir.core.engineapi import Ready
from tokenweir.core.planning import SourceSchema
from tokenweir.errors import FileFormatError, UsageError

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
"""A longer line is no record."""

CONTAINER_SUFFIX: Final = ".avro"
LINES_SUFFIX: Final = ".jsonl"

STANDARD_STREAM: Final = "-"
"""Standard input where a file is read, standard output where one is written."""


@dataclass(slots=True)
class Source:
    """An opened input: its records as bare data; ``schema`` is that of a container and None for lines."""

    name: str
    records: Iterator[bytes]
    schema: SourceSchema | None = None
    #: The numbers of the lines so far that hold no record.
    blank: list[int] = field(default_factory=list)

    def place(self, number: int) -> str:
        """Return where a record stands, by its number from 1: the line, or in a container the number itself."""
        if self.schema is not None:
            return f"{self.name}: record {number:,}"
        for line in self.blank:
            number += line <= number
        return f"{self.name}: line {number:,}"


@contextlib.contextmanager
def open_source(name: str) -> Iterator[Source]:
    """Open a file, or standard input for ``-``, and tell containers from lines by their first bytes.

    Raises:
        FileFormatError: it cannot be read.
    """
    with contextlib.ExitStack() as stack:
        try:
            if name == STANDARD_STREAM:
                stream = _peekable(sys.stdin.buffer)
            else:
                stream = stack.enter_context(Path(name).open("rb"))
            head = stream.peek(len(MAGIC))
        except OSError as error:
            raise FileFormatError(f"{name}: {error.strerror}") from None
        if head.startswith(MAGIC):
            reader = ContainerReader(name, stream)
            yield Source(name, iter(reader), reader.schema)
        else:
            blank: list[int] = []
            yield Source(name, _lines(name, stream, blank), blank=blank)


def _peekable(stream: BinaryIO) -> io.BufferedReader:
    """Return standard input as a stream that can be looked into; a real one can, what stands in for it may not."""
    return stream if isinstance(stream, io.BufferedReader) else _Buffered(io.BytesIO(stream.read()))


class _Buffered(io.BufferedReader):
    """A buffered reader over bytes in memory."""

    def __init__(self, content: io.BytesIO) -> None:
        super().__init__(content)


def _lines(name: str, stream: BinaryIO, blank: list[int]) -> Iterator[bytes]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise FileFormatError(f"{name}:{number}: the line is longer than {MAX_LINE_BYTES:,} bytes")
        if line.strip():
            yield line.rstrip(b"\r\n")
        else:
            blank.append(number)


class Sink(Protocol):
    """Where the sanitized records of one audience go."""

    def write(self, value: bytes, /) -> None:
        """Take one bare datum."""

    def flush(self) -> None:
        """Write out what was taken."""


class _LineSink:
    """JSON lines."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, value: bytes, /) -> None:
        """Write one line."""
        self._stream.write(value + b"\n")

    def flush(self) -> None:
        """Do nothing: no line is held back here."""


class _NoSink:
    """The output of a container of whose schema nothing can leave; every record is withheld and there is no file."""

    def write(self, value: bytes, /) -> None:
        """Refuse what cannot happen."""
        del value
        raise FileFormatError("a record left an output that has no schema")

    def flush(self) -> None:
        """Do nothing."""


class _Target:
    """A file that is written beside its place; None is standard output."""

    def __init__(self, path: Path | None) -> None:
        """Open it.

        Raises:
            FileFormatError: it cannot be written.
        """
        self.path = path
        self._temporary: Path | None = None
        if path is None:
            self.stream: BinaryIO = sys.stdout.buffer
            return
        try:
            if path.exists() and not path.is_file():
                self.stream = path.open("wb")  # A pipe or a device is written to, and never replaced.
                return
            descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            self._temporary = Path(temporary)
            self.stream = os.fdopen(descriptor, "wb")
        except OSError as error:
            raise FileFormatError(f"{path}: {error.strerror}") from None

    def complete(self) -> None:
        """Give the file its name.

        Raises:
            FileFormatError: the disk is full, or the place cannot be written.
        """
        try:
            self.stream.flush()
            if self.path is None:
                return
            if self._temporary is not None:
                os.fsync(self.stream.fileno())
                self._temporary.chmod(0o666 & ~_umask())
                self._temporary.replace(self.path)
                self._temporary = None
            self.stream.close()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise FileFormatError(f"{self.path or 'standard output'}: {error.strerror}") from None

    def discard(self) -> None:
        """Leave nothing of an incomplete file."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.stream.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)


def _umask() -> int:
    """Return which permissions new files do not get; asking means setting it, so it is set back at once."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@dataclass(slots=True)
class _Open:
    target: _Target
    sink: Sink
    schema: str | None


class Outputs:
    """The outputs of one run: a file for one audience, or in a directory a file per input and audience.

    Leaving the context without :meth:`complete` leaves no incomplete file behind.
    """

    def __init__(
        self, out: str | None, audiences: Sequence[str], sources: Sequence[str], used: Iterable[Path] = ()
    ) -> None:
        """Decide where everything goes.

        Args:
            out: A file, a directory (one that exists, or a name that ends in ``/``), ``-`` or None.
            audiences: Whose outputs are wanted.
            sources: Names of all inputs.
            used: Other files that the run reads; like the inputs, none of them is ever written over.

        Raises:
            UsageError: several audiences, or two inputs, would share one file, or a file that is read would be
                written.
        """
        is_directory = out is not None and (out.endswith("/") or Path(out).is_dir())
        self._directory = Path(out) if out is not None and is_directory else None
        self._file = None if out is None or out == STANDARD_STREAM else Path(out)
        self._audiences = list(audiences)
        self._open: dict[str, _Open] = {}
        #: The files that are complete, by audience.
        self.written: dict[str, list[Path]] = {audience: [] for audience in audiences}
        if self._directory is None and len(audiences) > 1:
            names = ", ".join(audiences)
            raise UsageError(f"the stream has several audiences: name one ({names}) with --audience, or give -o DIR/")
        stems = [_stem(source) for source in sources]
        twice = [stem for stem in stems if stems.count(stem) > 1]
        if self._directory is not None and twice:
            raise UsageError(f"two inputs are called '{twice[0]}', and their outputs would be one file")
        self._refuse_overwriting([*(Path(name) for name in sources if name != STANDARD_STREAM), *used], stems)

    def _refuse_overwriting(self, read: Sequence[Path], stems: Sequence[str]) -> None:
        """Refuse an output that is a file which is read, by whatever name: what is written replaces it for good."""
        if self._directory is None:
            places = [] if self._file is None else [self._file]
        else:
            # Whether an input is a container or lines shows only when it is opened, so both names count.
            places = [
                self._directory / f"{stem}.{audience}{suffix}"
                for stem in stems
                for audience in self._audiences
                for suffix in (CONTAINER_SUFFIX, LINES_SUFFIX)
            ]
        for place in filter(Path.is_file, places):
            if any(path.exists() and place.samefile(path) for path in read):
                raise UsageError(f"{place} is read by this run and would be overwritten: name another output")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        for opened in self._open.values():
            opened.target.discard()

    @property
    def to_terminal(self) -> bool:
        """Whether records would be written to a terminal."""
        return self._directory is None and self._file is None and sys.stdout.isatty()

    def sinks(self, source: Source, bound: Ready) -> dict[str, Sink]:
        """Return where the records of a source go, by audience.

        Raises:
            FileFormatError: a file cannot be written, or one container would need two schemas.
        """
        if self._directory is not None:
            self.complete()
        return {
            output.output.audience: self._sink(
                source, output.output.audience, None if output.derived is None else output.derived.text
            )
            for output in bound.outputs
            if output.output.audience in self._audiences
        }

    def complete(self) -> None:
        """Give what was written since the last time its name.

        Raises:
            FileFormatError: a file cannot be written.
        """
        for audience, opened in self._open.items():
            opened.sink.flush()
            opened.target.complete()
            if opened.target.path is not None:
                self.written[audience].append(opened.target.path)
        self._open.clear()

    def _sink(self, source: Source, audience: str, schema: str | None) -> Sink:
        container = source.schema is not None
        if container and schema is None:
            return _NoSink()
        opened = self._open.get(audience)
        if opened is None:
            target = _Target(self._path(source, audience, CONTAINER_SUFFIX if container else LINES_SUFFIX))
            writer = ContainerWriter(target.stream, schema or "", os.urandom(SYNC_BYTES)) if container else None
            opened = self._open[audience] = _Open(target, writer or _LineSink(target.stream), schema)
        elif container and opened.schema != schema:
            raise FileFormatError(f"{source.name}: its records need another schema in the output; give -o DIR/")
        return opened.sink

    def _path(self, source: Source, audience: str, suffix: str) -> Path | None:
        if self._directory is None:
            return self._file
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileFormatError(f"{self._directory}: {error.strerror}") from None
        return self._directory / f"{_stem(source.name)}.{audience}{suffix}"


def _stem(source: str) -> str:
    return "stdin" if source == STANDARD_STREAM else Path(source).stem
