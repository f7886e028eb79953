"""Avro object container files, read and written datum by datum without decoding what the engine decodes itself.

The layout is that of the Avro specification, "Object Container Files": a header with metadata and a sync marker, then
blocks of a count, a size, compressed datums and the marker again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final

import fastavro

from tokenweir.core import avro, avro_codec
from tokenweir.core.planning import SourceSchema
from tokenweir.core.schema import DEFAULT_LIMITS, Limits
from tokenweir.errors import DecodeError, FileFormatError, SchemaError

#: The four bytes that a container begins with.
MAGIC: Final = b"Obj\x01"

SYNC_BYTES: Final = 16

_BLOCK_BYTES: Final = 64 * 1024
"""A block is written when its datums pass this size."""


#: What a datum may cost while its end is looked for: more than a record may cost, so that a datum over the limits of
#: records is found, read, and rejected by the engine with its reason, and the rest of the file goes on.
_SPLITTING: Final = Limits(elements=10 * DEFAULT_LIMITS.elements, decimal_bytes=DEFAULT_LIMITS.bytes)


class ContainerReader:
    """A container that is being read.

    Attributes:
        schema: The schema in its header, tags included.
    """

    def __init__(self, name: str, stream: BinaryIO) -> None:
        """Read the header.

        Raises:
            FileFormatError: it is damaged, or its codec or schema cannot be used.
        """
        self._name = name
        try:
            self._blocks = fastavro.block_reader(stream)
            text = self._blocks.metadata["avro.schema"]
            codec = self._blocks.codec
        except Exception:  # noqa: BLE001 - foreign parsers quote their input, so their errors end here.
            raise FileFormatError(f"{name}: the header of the Avro container cannot be read") from None
        if codec not in fastavro.read.BLOCK_READERS:
            raise FileFormatError(f"{name}: no codec of that name is known; rewrite the container with deflate")
        self.schema = SourceSchema(text, f"the schema in {name}")
        try:
            self._end_of = avro_codec.splitter(avro.parse(text), _SPLITTING)
        except SchemaError as error:
            raise FileFormatError(f"{name}: the schema in the container cannot be used: {error}") from None

    def __iter__(self) -> Iterator[bytes]:
        """Yield each datum.

        A container does not say where a datum ends, so a block is walked by the strict reader's own measure.

        Raises:
            FileFormatError: a block is damaged, or its datums do not fill it.
        """
        try:
            for block in self._blocks:
                yield from self._datums(block.bytes_.getvalue(), block.num_records)  # type: ignore[attr-defined]  # Not in its stub.
        except DecodeError as error:
            place = f"{error.reason} at {error.path or 'the root'}"
            raise FileFormatError(f"{self._name}: a block cannot be split into records ({place})") from None
        except (FileFormatError, GeneratorExit):
            raise
        except Exception:  # noqa: BLE001 - foreign parsers quote their input, so their errors end here.
            raise FileFormatError(f"{self._name}: the container is damaged, or its codec is not installed") from None

    def _datums(self, data: bytes, records: int) -> Iterator[bytes]:
        if not 0 <= records <= len(data):
            raise FileFormatError(f"{self._name}: a block says that it has more records than bytes")
        start = 0
        for _ in range(records):
            end = self._end_of(data, start)
            yield data[start:end]
            start = end
        if start != len(data):
            raise FileFormatError(f"{self._name}: a block holds more bytes than its records")


class ContainerWriter:
    """A container that is being written, its blocks deflated."""

    def __init__(self, target: BinaryIO, schema: str, sync: bytes) -> None:
        """Write the header.

        Args:
            target: Where the container goes.
            schema: The schema of the datums, as JSON text.
            sync: 16 random bytes.
        """
        self._target = target
        self._sync = sync
        self._datums: list[bytes] = []
        self._size = 0
        target.write(MAGIC + _metadata({"avro.schema": schema, "avro.codec": "deflate"}) + sync)

    def write(self, datum: bytes) -> None:
        """Add a datum, encoded in the container's schema."""
        self._datums.append(datum)
        self._size += len(datum)
        if self._size >= _BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was added as a block."""
        if not self._datums:
            return
        # The specification wants deflate (RFC 1951) without the header and checksum of zlib.
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        packed = packer.compress(b"".join(self._datums)) + packer.flush()
        self._target.write(_long(len(self._datums)) + _long(len(packed)) + packed + self._sync)
        self._datums.clear()
        self._size = 0


def same_layout(left: str, right: str) -> bool:
    """Return whether data of one Avro schema can be read with the other: tags, defaults and docs may differ."""
    try:
        return _canonical(left) == _canonical(right)
    except Exception:  # noqa: BLE001 - what this parser refuses, the strict one refuses with a reason.
        return False


def _canonical(text: str) -> str:
    """Return the parsing canonical form (Avro specification, "Transforming into Parsing Canonical Form")."""
    return fastavro.schema.to_parsing_canonical_form(fastavro.schema.parse_schema(json.loads(text)))


def _metadata(entries: dict[str, str]) -> bytes:
    """Return a map of bytes: one block of entries and the empty block that ends it."""
    parts = [_long(len(entries))]
    for key, value in entries.items():
        for text in (key, value):
            encoded = text.encode("utf-8")
            parts += (_long(len(encoded)), encoded)
    return b"".join([*parts, _long(0)])


def _long(value: int) -> bytes:
    """Return a non-negative long: zigzag, then seven bits a byte, the lowest first."""
    rest = value << 1
    written = bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)
