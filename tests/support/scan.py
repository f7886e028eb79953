r"""Searches bytes for canaries in the encodings in which a value may leak.

Three kinds of canary are searched. *Text* canaries have one marker at both ends, so that one search for the marker
finds all of them, whole or cut. *Digits* are looked up one by one, since they can carry no marker. *Numbers* are
searched as eight bytes in both byte orders and as decimal text.

Encodings: UTF-8, UTF-16 (both byte orders), hexadecimal, Base64 and base64url (all three alignments), per cent and
``\u`` escapes, each in upper and lower case and reversed; digits also with separators between them. Not searched:
compressed or encrypted data, and values that were cut in their middle or spread over several places.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.events import MARKER, customer_id
from tests.support.ledger import Ledger

_CHUNK_BYTES: Final = 16 * 1024 * 1024
_OVERLAP_BYTES: Final = 4096
_ZEROS: Final = bytes(4096)
_SEPARATORS: Final = b" -.()/_"
_DECIMALS: Final = 9
"""Digits after the point that make a number known: the canaries have twelve, no generalized position has over six."""

#: The last character may have its zero byte before it.
_UTF16_TEXT: Final = re.compile(rb"(?:[\x20-\x7e]\x00){9,}[\x20-\x7e]?")
_HEX_DIGITS: Final = re.compile(rb"(?:3[0-9]){9,}")
_ESCAPED_DIGITS: Final = re.compile(rb"(?:(?:%|\\u00)3[0-9]){9,}")
_ESCAPE: Final = re.compile(rb"(?:%|\\u00)3")
#: Three digits 0011xxxx 0011xxxx 0011xxxx are these four characters, whatever stands around them (RFC 4648, table 1).
_BASE64_DIGITS: Final = re.compile(rb"(?:[MNO][DTjz][AEIMQUYcgk][w-z0-5]){3,}")
_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/]")


class Hit(NamedTuple):
    """A canary that was found: where, at which byte, and in which form."""

    place: str
    position: int
    form: str


class CanaryScanner:
    """Knows the canaries of a run and searches for them.

    Args:
        digits: Canaries of ASCII digits, without separators.
        numbers: Canaries that are floating-point numbers, not negative.
        marker: What every text canary begins and ends with, in lower-case letters.
    """

    def __init__(self, digits: Iterable[str], numbers: Iterable[float], marker: str = MARKER) -> None:
        self.searched_bytes = 0
        self._folded = dict(_folded_patterns(marker))
        self._exact = dict(_base64_patterns(marker))
        self._digits: dict[int, set[bytes]] = {}
        for text in digits:
            self._digits.setdefault(len(text), set()).add(text.encode("ascii"))
        shortest = min(self._digits, default=_DECIMALS)
        self._run = re.compile(rb"[0-9]{%d,}" % shortest)
        self._doubles: dict[bytes, set[bytes]] = {}
        self._decimals: dict[bytes, set[bytes]] = {}
        for number in numbers:
            packed = struct.pack("<d", number)
            self._doubles.setdefault(packed[6:], set()).add(packed)
            whole, _, fraction = repr(number).partition(".")
            self._decimals.setdefault(whole.encode(), set()).add(fraction[:_DECIMALS].encode())

    def scan(self, place: str, data: bytes) -> list[Hit]:
        """Return everything that is found in some bytes."""
        self.searched_bytes += len(data)
        return [Hit(place, position, form) for position, form in self._search(data)]

    def scan_file(self, path: Path, place: str = "") -> list[Hit]:
        """Return everything that is found in a file, read piece by piece."""
        hits: list[Hit] = []
        name = place or str(path)
        with path.open("rb") as file:
            start, rest = 0, b""
            while chunk := file.read(_CHUNK_BYTES):
                data = rest + chunk
                # Indexes of segments are files of ten megabytes, nearly all of them zeros.
                searched = data.rstrip(b"\0") if data.endswith(_ZEROS) else data
                hits += [Hit(name, start + position, form) for position, form in self._search(searched)]
                self.searched_bytes += max(len(searched) - len(rest), 0)
                rest = data[-_OVERLAP_BYTES:]
                start += len(data) - len(rest)
        return list(dict.fromkeys(hits))

    def scan_records(self, place: str, records: Iterable[Iterable[bytes | None]]) -> list[Hit]:
        """Return everything that is found in records, each given by its parts; positions mean little."""
        hits: list[Hit] = []
        parts: list[bytes] = []
        size = 0
        for record in records:
            kept = [part for part in record if part]
            parts += kept
            size += sum(map(len, kept))
            if size >= _CHUNK_BYTES:
                hits += self.scan(place, b"\n".join(parts))
                parts, size = [], 0
        return hits + self.scan(place, b"\n".join(parts))

    def _search(self, data: bytes) -> Iterator[tuple[int, str]]:
        yield from self._search_doubles(data)
        yield from self._search_text(data, "")
        for match in _UTF16_TEXT.finditer(data):
            text = match[0].replace(b"\0", b"")
            yield from ((match.start() + 2 * position, form) for position, form in self._search_text(text, "UTF-16 "))

    def _search_text(self, data: bytes, prefix: str) -> Iterator[tuple[int, str]]:
        yield from self._search_plain(data, prefix)
        for match in _HEX_DIGITS.finditer(data):
            if self._known(match[0][1::2]):
                yield match.start(), prefix + "hexadecimal digits"
        for match in _ESCAPED_DIGITS.finditer(data):
            if self._known(_ESCAPE.sub(b"", match[0])):
                yield match.start(), prefix + "escaped digits"
        for match in _BASE64_DIGITS.finditer(data):
            # The groups before and after hold the digits that do not fill a group of their own.
            first = max(match.start() - 4, match.start() % 4)
            around = _NOT_BASE64.sub(b"A", data[first : match.end() + 4])
            decoded = base64.b64decode(around[: len(around) // 4 * 4])
            if any(self._known(run[0]) for run in self._run.finditer(decoded)):
                yield match.start(), prefix + "base64 digits"

    def _search_plain(self, data: bytes, prefix: str) -> Iterator[tuple[int, str]]:
        folded = data.lower()
        for pattern, form in self._folded.items():
            yield from ((position, prefix + form) for position in _positions(folded, pattern))
        for pattern, form in self._exact.items():
            yield from ((position, prefix + form) for position in _positions(data, pattern))
        # Taking separators away never parts a run of digits; it only makes runs longer.
        joined = data.translate(None, _SEPARATORS)
        for match in self._run.finditer(joined):
            if self._known(match[0]):
                yield match.start(), prefix + "digits"
        for whole, fractions in self._decimals.items():
            point = whole + b"."
            for position in _positions(data, point):
                start = position + len(point)
                if data[start : start + _DECIMALS] in fractions:
                    yield position, prefix + "decimal number"

    def _search_doubles(self, data: bytes) -> Iterator[tuple[int, str]]:
        for top, packed in self._doubles.items():
            for position in _positions(data, top):
                if data[max(position - 6, 0) : position + 2] in packed:
                    yield position - 6, "binary number"
            for position in _positions(data, top[::-1]):
                if data[position : position + 8][::-1] in packed:
                    yield position, "binary number"

    def _known(self, run: bytes) -> bool:
        """Say whether a run of digits holds a canary, read from either end."""
        return any(
            text[start : start + length] in known
            for text in (run, run[::-1])
            for length, known in self._digits.items()
            for start in range(len(text) - length + 1)
        )


def scanner_for(ledger: Ledger, customers: int) -> tuple[CanaryScanner, int]:
    """Return a scanner for all canaries of a run, and how many they are."""
    digits = [customer_id(ledger.seed, index) for index in range(customers)]
    numbers: list[float] = []
    texts = 0
    for record in ledger.records:
        event = ledger.event(record)
        document = event.document
        digits.append(document["card"])
        if document["phone"] is not None:
            digits.append(document["phone"][1:])
        numbers += document["location"].values()
        texts += 5 + len(document["items"]) + bool(record.defect)
    return CanaryScanner(digits, numbers), len(digits) + len(numbers) + texts


def plain_segments(segment: bytes) -> bool:
    """Say whether no batch of records in a segment file is compressed.

    The codec stands in the three lowest bits of the attributes (Kafka protocol, record batch format 2: offset 8 bytes,
    length 4, epoch 4, magic 1, CRC 4, attributes 2).
    """
    position = 0
    while position + 23 <= len(segment):
        length, _epoch, magic = struct.unpack_from(">iib", segment, position + 8)
        if length <= 0:
            break
        if magic != 2 or struct.unpack_from(">h", segment, position + 21)[0] & 7:
            return False
        position += 12 + length
    return True


def _positions(data: bytes, pattern: bytes) -> Iterator[int]:
    position = data.find(pattern)
    while position >= 0:
        yield position
        position = data.find(pattern, position + 1)


def _folded_patterns(marker: str) -> Iterator[tuple[bytes, str]]:
    """Yield the forms of the marker in data whose letters were made lower-case."""
    for text, how in ((marker, ""), (marker[::-1], "reversed ")):
        yield text.encode(), how + "text"
        for cased in (text, text.upper()):
            plain = cased.encode()
            yield plain.hex().encode(), how + "hexadecimal"
            yield "".join(f"%{byte:02x}" for byte in plain).encode(), how + "per cent escapes"
            yield "".join(f"\\u{byte:04x}" for byte in plain).encode(), how + "\\u escapes"
            yield plain.hex()[::-1].encode(), how + "hexadecimal"


def _base64_patterns(marker: str) -> Iterator[tuple[bytes, str]]:
    """Yield the characters that the marker alone decides, for each way in which it may be aligned."""
    for text in (marker, marker.upper(), marker[::-1], marker[::-1].upper()):
        for alignment in range(3):
            encoded = base64.b64encode(b"\0" * alignment + text.encode())
            first = (8 * alignment + 5) // 6
            last = 8 * (alignment + len(text)) // 6
            for alphabet in (encoded, encoded.translate(bytes.maketrans(b"+/", b"-_"))):
                yield alphabet[first:last], "base64"
