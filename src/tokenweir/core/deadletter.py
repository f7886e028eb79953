"""Dead letters: where a rejected record stands and why it was rejected, and not one byte of what it says."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from tokenweir.core import avro, avro_codec, wire
from tokenweir.core.outcome import REASONS, Reason

#: The Avro schema of dead letters, as it is registered for ``{topic}-value`` of each dead-letter topic.
SCHEMA: Final = json.dumps(
    {
        "type": "record",
        "name": "DeadLetter",
        "namespace": "tokenweir",
        "doc": "A record that was rejected for one output. It holds coordinates and a reason, never data.",
        "fields": [
            {"name": "source_topic", "type": "string"},
            {"name": "source_partition", "type": "int"},
            {"name": "source_offset", "type": "long"},
            {"name": "source_timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "schema_id", "type": "long", "doc": "-1 where the record names none."},
            {"name": "output", "type": "string", "doc": "Topic of the output for which the record was rejected."},
            {"name": "stage", "type": "string"},
            {"name": "reason", "type": "string"},
            {"name": "field_path", "type": "string", "doc": "Path in the schema, empty where no field is to blame."},
            {"name": "policy_digest", "type": "string"},
            {"name": "gateway_version", "type": "string"},
        ],
    },
    indent=2,
)

#: What a letter's reason must look like to be repeated; no reason of any version looks otherwise.
_REASON: Final = re.compile(r"[a-z0-9_]{1,40}")
UNKNOWN: Final = "(unknown)"

_WRITE: Final = avro_codec.writer(avro.parse(SCHEMA))
_READ: Final = avro_codec.reader(avro.parse(SCHEMA))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One rejected record of one output."""

    source_topic: str
    source_partition: int
    source_offset: int
    source_timestamp_ms: int
    schema_id: int
    output: str
    reason: Reason
    field_path: str
    policy_digest: str
    gateway_version: str

    def encode(self) -> bytes:
        """Return the bare Avro datum."""
        return _WRITE(
            [
                self.source_topic,
                self.source_partition,
                self.source_offset,
                self.source_timestamp_ms,
                self.schema_id,
                self.output,
                REASONS[self.reason][0].value,
                self.reason.value,
                self.field_path,
                self.policy_digest,
                self.gateway_version,
            ]
        )


class ReadLetter(NamedTuple):
    """A dead letter as it was read.

    Any version may have written it, so that its reason can be a word that is new. Anybody else may have, too: the
    reason is :data:`UNKNOWN` unless it is a word, and every other text is only compared and never shown.
    """

    source_topic: str
    source_partition: int
    source_offset: int
    source_timestamp_ms: int
    schema_id: int
    output: str
    stage: str
    reason: str
    field_path: str
    policy_digest: str
    gateway_version: str


def read(value: bytes) -> ReadLetter:
    """Return the dead letter that a framed record value is.

    Raises:
        DecodeError: It is none.
    """
    _schema_id, datum = wire.unframe(value)
    letter = ReadLetter(*_READ(datum))
    return letter if _REASON.fullmatch(letter.reason) else letter._replace(reason=UNKNOWN)
