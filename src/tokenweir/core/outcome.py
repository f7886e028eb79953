"""What became of a record in one output: its fate, and for a rejected record the stage and reason.

Both lists are closed. A reason is one word with the same spelling in metrics, dead letters, logs and documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Fate(StrEnum):
    """Every input record has exactly one of these per output."""

    SANITIZED = "sanitized"
    WITHHELD = "withheld"
    REJECTED = "rejected"


class Treated(StrEnum):
    """What happened to a field's value; the ``treatment`` label of ``tokenweir_fields_total``."""

    KEPT = "kept"
    TOKENIZED = "tokenized"
    GENERALIZED = "generalized"
    WITHHELD = "withheld"
    INVALID = "invalid"


class Stage(StrEnum):
    """Where in its path a record was rejected."""

    WIRE = "wire"
    SCHEMA = "schema"
    DECODE = "decode"
    SUBJECT = "subject"
    TREAT = "treat"
    PRODUCE = "produce"


class Reason(StrEnum):
    """Why a record was rejected."""

    NOT_FRAMED = "not_framed"
    SCHEMA_UNKNOWN = "schema_unknown"
    SCHEMA_FOREIGN = "schema_foreign"
    SCHEMA_REFUSED = "schema_refused"
    SCHEMA_INCOMPATIBLE = "schema_incompatible"
    MALFORMED = "malformed"
    TRAILING_BYTES = "trailing_bytes"
    INVALID_UTF8 = "invalid_utf8"
    DUPLICATE_KEY = "duplicate_key"
    NON_FINITE = "non_finite"
    TOO_DEEP = "too_deep"
    TOO_MANY_ELEMENTS = "too_many_elements"
    TOO_LARGE = "too_large"
    SCHEMA_MISMATCH = "schema_mismatch"
    OUT_OF_RANGE = "out_of_range"
    TOMBSTONE = "tombstone"
    SUBJECT_INVALID = "subject_invalid"
    EVENT_TIME_INVALID = "event_time_invalid"
    VALUE_INVALID = "value_invalid"
    OUTPUT_TOO_LARGE = "output_too_large"
    OUTPUT_REFUSED = "output_refused"
    ENGINE_ERROR = "engine_error"
    QUARANTINED = "quarantined"


#: The stage at which each reason arises, and its sentence in the documentation.
REASONS: Final[dict[Reason, tuple[Stage, str]]] = {
    Reason.NOT_FRAMED: (Stage.WIRE, "The value does not begin with the magic byte 0 and a schema id."),
    Reason.SCHEMA_UNKNOWN: (Stage.SCHEMA, "The registry does not know the schema id."),
    Reason.SCHEMA_FOREIGN: (Stage.SCHEMA, "The schema id belongs to another registry subject than this topic's."),
    Reason.SCHEMA_REFUSED: (Stage.SCHEMA, "The schema cannot be planned under the policy."),
    Reason.SCHEMA_INCOMPATIBLE: (Stage.SCHEMA, "The registry refused the derived schema as incompatible."),
    Reason.MALFORMED: (Stage.DECODE, "The bytes end early or are no encoding of the schema at all."),
    Reason.TRAILING_BYTES: (Stage.DECODE, "Bytes follow the end of the datum."),
    Reason.INVALID_UTF8: (Stage.DECODE, "A text is not valid UTF-8 or holds a lone surrogate."),
    Reason.DUPLICATE_KEY: (Stage.DECODE, "An object or map has the same key twice."),
    Reason.NON_FINITE: (Stage.DECODE, "A number is NaN or infinite."),
    Reason.TOO_DEEP: (Stage.DECODE, "The record is nested deeper than 64 levels."),
    Reason.TOO_MANY_ELEMENTS: (Stage.DECODE, "Arrays and maps hold more elements than one record may have."),
    Reason.TOO_LARGE: (Stage.DECODE, "The record or one of its numbers is larger than the limit."),
    Reason.SCHEMA_MISMATCH: (
        Stage.DECODE,
        "A value is of another type than the schema says, or a required one is missing.",
    ),
    Reason.OUT_OF_RANGE: (Stage.DECODE, "A number, union branch or enum index is outside of its type."),
    Reason.TOMBSTONE: (Stage.DECODE, "A null value, in an output whose key does not follow from the record key alone."),
    Reason.SUBJECT_INVALID: (Stage.SUBJECT, "The id of a data subject does not have its canonical form."),
    Reason.EVENT_TIME_INVALID: (Stage.SUBJECT, "The event's own time cannot be read."),
    Reason.VALUE_INVALID: (Stage.TREAT, "A value does not fit its treatment and its class says on_invalid: reject."),
    Reason.OUTPUT_TOO_LARGE: (Stage.PRODUCE, "The sanitized record is larger than the output topic takes."),
    Reason.OUTPUT_REFUSED: (
        Stage.PRODUCE,
        "An output topic refuses the sanitized record for its timestamp, its key or its size.",
    ),
    Reason.ENGINE_ERROR: (
        Stage.TREAT,
        "The engine failed on this record; a bug to report with the source coordinates.",
    ),
    Reason.QUARANTINED: (
        Stage.DECODE,
        "The record ended its process three times: a crash, a hang or too much memory. It was not decoded again.",
    ),
}


@dataclass(slots=True)
class Outcome:
    """What became of one record in one output.

    ``key``, ``value``, ``timestamp_ms`` and ``headers`` are set for ``sanitized`` only; ``value`` is then the bare
    datum, before it is framed with the schema id, and None for a forwarded tombstone. ``reason`` and ``field_path``
    are set for ``rejected`` only. ``treated`` counts field values by :class:`Treated`; outcomes may share one mapping.
    """

    fate: Fate
    key: bytes | None = field(default=None, repr=False)
    value: bytes | None = field(default=None, repr=False)
    timestamp_ms: int = -1
    headers: list[tuple[str, bytes | None]] = field(default_factory=list, repr=False)
    reason: Reason | None = None
    field_path: str = ""
    treated: Mapping[Treated, int] = field(default_factory=dict)

    @classmethod
    def rejected(cls, reason: Reason, field_path: str = "") -> Outcome:
        """Return the outcome of a record that becomes a dead letter."""
        return cls(Fate.REJECTED, reason=reason, field_path=field_path)

    @property
    def stage(self) -> Stage | None:
        """The stage of a rejection."""
        return None if self.reason is None else REASONS[self.reason][0]
