"""The canary scan finds a planted leak in every place and encoding, and finds nothing where nothing is."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.support.events import MARKER
from tests.support.scan import CanaryScanner, plain_segments, scanner_for
from tests.support.simulator import clean_output, small_ledger

DIGITS = "4929173860215574"
PHONE = "149301234567890"
NUMBER = 52.123456789012
TEXT = f"{MARKER}0123456789abcdefe{MARKER}"

Encoding = Callable[[str], bytes]


def _base64_at(alignment: int, encode: Callable[[bytes], bytes]) -> Encoding:
    return lambda text: encode(b"\x07" * alignment + text.encode() + b"\x07")


def _escaped(text: str) -> bytes:
    return "".join(f"\\u{ord(character):04X}" for character in text).encode()


ENCODINGS: dict[str, Encoding] = {
    "utf-8": str.encode,
    "upper case": lambda text: text.upper().encode(),
    "utf-16-le": lambda text: text.encode("utf-16-le"),
    "utf-16-be": lambda text: text.encode("utf-16-be"),
    "hexadecimal": lambda text: text.encode().hex().encode(),
    "upper hexadecimal": lambda text: text.encode().hex().upper().encode(),
    "hexadecimal of upper case": lambda text: text.upper().encode().hex().encode(),
    "base64 aligned by 0": _base64_at(0, base64.b64encode),
    "base64 aligned by 1": _base64_at(1, base64.b64encode),
    "base64 aligned by 2": _base64_at(2, base64.b64encode),
    "base64url aligned by 1": _base64_at(1, base64.urlsafe_b64encode),
    "base64 of upper case": lambda text: base64.b64encode(text.upper().encode()),
    "base64 of reversed": lambda text: base64.b64encode(text[::-1].encode()),
    "base64 in utf-16": lambda text: base64.b64encode(text.encode()).decode().encode("utf-16-le"),
    "per cent escapes": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()).encode(),
    "\\u escapes": _escaped,
    "JSON": lambda text: json.dumps({"error": f"bad value '{text}'"}).encode(),
    "URL": lambda text: quote(f"https://example.com/?q={text}").encode(),
    "reversed": lambda text: text[::-1].encode(),
    "reversed utf-16": lambda text: text[::-1].encode("utf-16-le"),
}


@pytest.fixture
def scanner() -> CanaryScanner:
    """A scanner that knows one canary of each kind."""
    return CanaryScanner([DIGITS, PHONE], [NUMBER, 13.987654321098])


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("value", [TEXT, DIGITS, PHONE], ids=["text", "digits", "phone"])
@pytest.mark.parametrize("around", [b"", b"\x00\x07some text 12 ", b'{"a":"'], ids=["alone", "bytes", "json"])
def test_a_planted_value_is_found_in_every_encoding(
    scanner: CanaryScanner, encoding: str, value: str, around: bytes
) -> None:
    """Whatever stands around it, and however it is encoded, the canary is found."""
    data = around + ENCODINGS[encoding](value) + around

    assert scanner.scan("place", data)


@pytest.mark.parametrize(
    "written",
    [
        "4929-1738-6021-5574",
        "4929 1738 6021 5574",
        "49.29.17.38.60.21.55.74",
        "(492)917-3860.215/574",
        "00492917386021557499",
    ],
)
def test_digits_are_found_with_separators_and_inside_of_longer_runs(scanner: CanaryScanner, written: str) -> None:
    """Separators and neighbours do not hide digits."""
    assert scanner.scan("place", f"card={written};".encode())


@pytest.mark.parametrize("cut", [TEXT[:14], TEXT[12:], TEXT[3:]])
def test_a_text_that_was_cut_is_found(scanner: CanaryScanner, cut: str) -> None:
    """A prefix or a suffix still holds one of the two markers."""
    assert scanner.scan("place", f"prefix {cut} suffix".encode())


@pytest.mark.parametrize(
    "data",
    [
        b"\x01" + struct.pack("<d", NUMBER) + b"\x02",
        struct.pack(">d", NUMBER),
        b'{"latitude":52.123456789012}',
        b"at 52.1234567890, near",
        "52.123456789012".encode("utf-16-le"),
    ],
)
def test_a_number_is_found_as_bytes_and_as_text(scanner: CanaryScanner, data: bytes) -> None:
    """A position is found as a double of either byte order and as decimal text, also when digits were cut off."""
    assert scanner.scan("place", data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"4929173860215575",
        b"4929 1738\n6021 5574",
        struct.pack("<d", 52.123457) + b'{"latitude":52.123457}',
        b"event_id=6b2897cc5e2ebbd1abfa535566129f7a dooy3hhpbbpj35z426fs66fbwc@example.org",
        base64.b64encode(b"an innocent text 4929173860215575"),
    ],
)
def test_nothing_is_found_where_nothing_is(scanner: CanaryScanner, data: bytes) -> None:
    """Other digits, generalized positions, tokens and ids are no canaries."""
    assert scanner.scan("place", data) == []


def test_a_leak_over_the_border_of_two_pieces_of_a_file_is_found_once(
    scanner: CanaryScanner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are read in pieces that overlap."""
    monkeypatch.setattr("tests.support.scan._CHUNK_BYTES", 8192)
    path = tmp_path / "state.bin"
    path.write_bytes(b"." * 8185 + TEXT.encode() + b"." * 9000)

    hits = scanner.scan_file(path)

    assert [hit.position for hit in hits] == [8185, 8185 + len(TEXT) - len(MARKER)]
    assert scanner.searched_bytes == path.stat().st_size


def test_zeros_at_the_end_of_a_file_are_passed_over(scanner: CanaryScanner, tmp_path: Path) -> None:
    """The long zero tail of an index is not searched, and what stands before it is."""
    path = tmp_path / "00000000000000000000.timeindex"
    path.write_bytes(b"\0" * 9000 + TEXT.encode() + bytes(1_000_000))

    assert scanner.scan_file(path)
    assert scanner.searched_bytes == 9000 + len(TEXT)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_leak_in_any_part_of_a_record_is_found(scanner: CanaryScanner, part: int) -> None:
    """Keys, values and headers are searched."""
    record: list[bytes | None] = [b"0423120275568723", None, b"trace"]
    record[part] = DIGITS.encode()

    assert scanner.scan_records("topic", [[b"1", b"2"], record])
    assert not scanner.scan_records("topic", [[b"49291738602155"], [b"74"], [None]])


def test_every_canary_of_a_run_is_known_to_its_scanner() -> None:
    """Each protected value of each event is found when it stands alone, in both streams."""
    ledger = small_ledger(events=60, customers=20)
    scanner, count = scanner_for(ledger, 20)
    for record in ledger.records:
        document = ledger.event(record).document
        values = [document[name] for name in ("customer_id", "email", "phone", "card", "note")]
        values += [document["contact"]["name"], *document["location"].values()]
        values += [*(name for name in document["attributes"] if name != "coupon")]
        values += [value for name, value in document["attributes"].items() if name != "coupon"]
        values += [item["message"] for item in document["items"]]
        for value in values:
            assert value is None or scanner.scan("place", str(value).encode()), type(value)
    assert count > 60 * 8


def test_the_outputs_of_a_gateway_that_works_hold_no_canary() -> None:
    """Tokens, cells, kept fields and coordinates of a clean run are not taken for leaks."""
    ledger = small_ledger(events=2_000, customers=200)
    scanner, _ = scanner_for(ledger, 200)

    assert scanner.scan("outputs", clean_output(ledger)) == []


def test_compressed_segments_are_recognized() -> None:
    """The scan of segment files means something only where batches are not compressed."""
    batch = struct.pack(">qiibIh", 0, 20, 0, 2, 0, 0) + b"\0" * 9

    assert plain_segments(b"")
    assert plain_segments(batch * 3)
    assert not plain_segments(batch + batch.replace(struct.pack(">Ih", 0, 0), struct.pack(">Ih", 0, 4)))
