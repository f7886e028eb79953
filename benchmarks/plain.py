"""What a team would write instead of the gateway: fastavro, a package for FF1, a dict of consent, edits by hand.

It does the same to an event as the policy in :mod:`benchmarks.workload`, and none of what the gateway checks.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib
import io
import string
from collections.abc import Callable, Mapping
from typing import Any, Final

import fastavro
import h3

from benchmarks import packages, workload

_KEY: Final = bytes(range(32))
_TWEAK: Final = bytes.fromhex("0011223344556677")
_HEX: Final = string.digits + "abcdef"
_FRAME_BYTES: Final = 5

#: Whether e-mail marketing is allowed, by the key of the consent topic.
Consent = Mapping[str, bool]


def _output_schema() -> Any:  # noqa: ANN401 - fastavro has no type for it.
    kept = [field for field in workload.SCHEMA["fields"] if field["name"] not in {"attributes", "note"}]
    return fastavro.parse_schema({**workload.SCHEMA, "name": "Sanitized", "fields": kept})


class Plain:
    """Makes of an event what may leave.

    Attributes:
        output: The schema of it.
    """

    def __init__(self) -> None:
        """Prepare the codec and the cipher.

        Raises:
            ModuleNotFoundError: The packages cannot be had.
        """
        packages.install()
        self._encrypt: Callable[[str, str, str, str], str] = importlib.import_module("fastfpe.ff1").encrypt
        self._source = fastavro.parse_schema(workload.SCHEMA)
        self.output = _output_schema()
        self._key, self._tweak = _KEY.hex(), _TWEAK.hex()

    def frame(self, frame: bytes, consent: Consent) -> bytes | None:
        """Return what leaves of a framed event, with the same frame, or None."""
        event = self.event(frame[_FRAME_BYTES:], consent)
        return None if event is None else frame[:_FRAME_BYTES] + event

    def event(self, data: bytes, consent: Consent) -> bytes | None:
        """Return what leaves of an encoded event, or None."""
        event: Any = fastavro.schemaless_reader(io.BytesIO(data), self._source, None)
        if not consent.get(f"customer:{event['customer_id']}", False):
            return None
        del event["attributes"], event["note"]
        event["customer_id"] = self._encrypt(self._key, self._tweak, string.digits, event["customer_id"])
        if event["device_id"] is not None:
            event["device_id"] = self._uuid(event["device_id"])
        if event["email"] is not None:
            event["email"] = self._email(event["email"])
        if event["card"] is not None:
            event["card"] = self._encrypt(self._key, self._tweak, string.digits, event["card"])
        event["occurred_at"] = event["occurred_at"].replace(minute=0, second=0, microsecond=0)
        place = event["location"]
        place["lat"], place["lon"] = h3.cell_to_latlng(h3.latlng_to_cell(place["lat"], place["lon"], 6))
        target = io.BytesIO()
        fastavro.schemaless_writer(target, self.output, event)
        return target.getvalue()

    def _uuid(self, text: str) -> str:
        digits = self._encrypt(self._key, self._tweak, _HEX, text.replace("-", ""))
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def _email(self, address: str) -> str:
        digest = hmac.digest(_KEY, address.lower().encode(), hashlib.sha256)
        return f"{base64.b32encode(digest)[:26].decode().lower()}@{address.rpartition('@')[2]}"
