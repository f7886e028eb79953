"""Hunting plaintext: finds a canary in bytes and texts in every form that a leak could take."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tokenweir.core.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Canary:
    """A value that occurs nowhere else, with the place in which it was put and the bytes that would betray it."""

    place: str
    forms: tuple[bytes, ...]

    @classmethod
    def of_text(cls, place: str, text: str) -> Canary:
        """Return the canary of a text: in UTF-8 and UTF-16, each also in hexadecimal and in base64."""
        return cls(place, tuple(_encodings((text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be")))))

    @classmethod
    def of_integer(cls, place: str, number: int) -> Canary:
        """Return the canary of a large integer: its digits, its varint and its bytes in both orders."""
        raw = (number << 1) ^ (number >> 63)
        varint = bytearray()
        while raw > 0x7F:
            varint.append(raw & 0x7F | 0x80)
            raw >>= 7
        varint.append(raw)
        binary = (bytes(varint), number.to_bytes(8, "big").lstrip(b"\0"), number.to_bytes(8, "little").rstrip(b"\0"))
        return cls(place, tuple(_encodings((str(number).encode(), *binary))))

    def is_in(self, data: bytes) -> bool:
        """Say whether any form of it stands in ``data``."""
        return any(form in data for form in self.forms)


def _encodings(forms: Iterable[bytes]) -> Iterator[bytes]:
    for form in forms:
        yield form
        yield form.hex().encode()
        yield form.hex().upper().encode()
        for shift in range(3):
            # The characters at both ends also depend on what stands before and after.
            encoded = base64.b64encode(bytes(shift) + form)[(shift * 8 + 5) // 6 :]
            encoded = encoded.rstrip(b"=")[: len(form) * 8 // 6 - 1]
            yield encoded
            yield encoded.translate(bytes.maketrans(b"+/", b"-_"))


def surface(outcome: Outcome) -> bytes:
    """Return everything of an outcome that anybody could ever see, its ``repr`` included."""
    parts = [outcome.value, outcome.key, outcome.field_path.encode(), str(outcome.reason).encode()]
    for name, value in outcome.headers:
        parts += [name.encode(), value]
    parts += [repr(outcome).encode(), str(outcome.timestamp_ms).encode()]
    return b"\n".join(part for part in parts if part is not None)


def leaked(canaries: Iterable[Canary], data: bytes) -> list[str]:
    """Return the places of the canaries that stand in ``data``."""
    return [canary.place for canary in canaries if canary.is_in(data)]
