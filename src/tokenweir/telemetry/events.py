"""Every event that tokenweir logs, declared once: level, sentence, and the fields that its line may have.

Fields are ids and numbers: names from the policy and from Kafka, coordinates, counts, seconds, codes from closed lists.
No field takes free text, so that a line cannot carry a part of a record.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Event(StrEnum):
    """What happened; the ``event`` of a log line."""

    GATEWAY_STARTED = "gateway_started"
    GATEWAY_STOPPING = "gateway_stopping"
    GATEWAY_REFUSED = "gateway_refused"
    GATEWAY_STOPPED = "gateway_stopped"
    ADMIN_LISTENING = "admin_listening"
    PROCESS_STARTED = "process_started"
    PROCESS_DIED = "process_died"
    PROCESS_KILLED = "process_killed"
    PROCESS_RESTARTING = "process_restarting"
    WORKER_FENCED = "worker_fenced"
    SLOT_STOPPED = "slot_stopped"
    PARTITIONS_ASSIGNED = "partitions_assigned"
    PARTITIONS_REVOKED = "partitions_revoked"
    PARTITIONS_LOST = "partitions_lost"
    PARTITION_PAUSED = "partition_paused"
    PARTITION_RESUMED = "partition_resumed"
    OFFSETS_BLOCKED = "offsets_blocked"
    OFFSETS_DECIDED = "offsets_decided"
    BATCH_COMMITTED = "batch_committed"
    TRANSACTION_ABORTED = "transaction_aborted"
    TRANSACTION_UNCERTAIN = "transaction_uncertain"
    RECORDS_REJECTED = "records_rejected"
    RECORD_QUARANTINED = "record_quarantined"
    ENGINE_FAILED = "engine_failed"
    SCHEMA_PLANNED = "schema_planned"
    SCHEMA_REFUSED = "schema_refused"
    SCHEMA_INCOMPATIBLE = "schema_incompatible"
    SCHEMA_CHANGED = "schema_changed"
    SCHEMA_UNKNOWN = "schema_unknown"
    FIELDS_UNCLASSIFIED = "fields_unclassified"
    REGISTRY_FAILED = "registry_failed"
    REGISTRY_RECOVERED = "registry_recovered"
    CONSENT_STORE_OPENED = "consent_store_opened"
    CONSENT_STORE_REBUILT = "consent_store_rebuilt"
    CONSENT_AGE_UNKNOWN = "consent_age_unknown"
    CONSENT_ACKNOWLEDGED = "consent_acknowledged"
    CONSENT_RESTORED = "consent_restored"
    CONSENT_STALE = "consent_stale"
    CONSENT_FRESH = "consent_fresh"
    CONSENT_UNDECODABLE = "consent_undecodable"
    CONSENT_MISPLACED = "consent_misplaced"
    CONSENT_PURPOSE_UNKNOWN = "consent_purpose_unknown"
    KEYS_OPENED = "keys_opened"
    KEY_EPOCH_CHANGED = "key_epoch_changed"
    KEK_SILENT = "kek_silent"
    KEK_RECOVERED = "kek_recovered"
    KEK_LOST = "kek_lost"
    REPLAY_SOURCE_GONE = "replay_source_gone"
    SERVE_STARTED = "serve_started"
    SERVE_STOPPED = "serve_stopped"
    SERVE_WITHOUT_FIELDS = "serve_without_fields"
    AUDIT_FAILED = "audit_failed"
    GRANTS_REFUSED = "grants_refused"
    START_WARNED = "start_warned"
    CHECK_FAILED = "check_failed"
    CHECK_RECOVERED = "check_recovered"
    KAFKA_FAULT = "kafka_fault"
    KAFKA_CLIENT = "kafka_client"
    EXCEPTION_RAISED = "exception_raised"
    FOREIGN_LOG = "foreign_log"


@dataclass(frozen=True, slots=True)
class EventType:
    """The declaration of an event."""

    level: int
    sentence: str
    fields: frozenset[str]


_PROCESS: Final = "kind stream slot pid"
_RECORD: Final = "stream topic partition offset"
_SCHEMA: Final = "stream schema_id registry_subject"

_TEXTS: Final = """
audience check code engine field_path host kind phase policy_digest reason registry_subject stage stream topic
version
"""
_INTEGERS: Final = """
attempts count epoch exit_code fields offset partition partitions pid port records rejected revision sanitized
schema_id signal slot status withheld workers
"""

#: The type of every field that an event may have.
FIELD_TYPES: Final[dict[str, type[str | int | float]]] = {
    **dict.fromkeys(_TEXTS.split(), str),
    **dict.fromkeys(_INTEGERS.split(), int),
    "seconds": float,
}


def _declared(level: int, sentence: str, fields: str = "") -> EventType:
    return EventType(level, sentence, frozenset(fields.split()))


#: Every event. "Alarm" events are errors: a person has to do something.
EVENTS: Final[dict[Event, EventType]] = {
    Event.GATEWAY_STARTED: _declared(
        logging.INFO, "The gateway has started.", "version engine policy_digest revision workers"
    ),
    Event.GATEWAY_STOPPING: _declared(logging.INFO, "The gateway finishes its transactions and stops.", "signal"),
    Event.GATEWAY_REFUSED: _declared(
        logging.ERROR, "The gateway does not run; what is wrong stands in problem.", "exit_code"
    ),
    Event.GATEWAY_STOPPED: _declared(logging.INFO, "The gateway has stopped.", "exit_code"),
    Event.ADMIN_LISTENING: _declared(logging.INFO, "The admin port is open.", "host port"),
    Event.PROCESS_STARTED: _declared(logging.INFO, "A process has started.", _PROCESS),
    Event.PROCESS_DIED: _declared(
        logging.ERROR, "A process has died.", f"{_PROCESS} exit_code signal phase topic partition offset"
    ),
    Event.PROCESS_KILLED: _declared(
        logging.ERROR, "A process that made no progress was killed.", f"{_PROCESS} phase seconds topic partition offset"
    ),
    Event.PROCESS_RESTARTING: _declared(
        logging.WARNING, "A process will be started again.", f"{_PROCESS} attempts seconds"
    ),
    Event.WORKER_FENCED: _declared(
        logging.ERROR,
        "Another instance has taken this slot, which stays down; each instance needs a gateway.ordinal of its own.",
        _PROCESS,
    ),
    Event.SLOT_STOPPED: _declared(
        logging.ERROR, "A slot stays down until the gateway is restarted.", f"{_PROCESS} reason phase attempts"
    ),
    Event.PARTITIONS_ASSIGNED: _declared(logging.INFO, "Partitions were assigned.", "stream slot partitions"),
    Event.PARTITIONS_REVOKED: _declared(logging.INFO, "Partitions were revoked.", "stream slot partitions"),
    Event.PARTITIONS_LOST: _declared(logging.WARNING, "Partitions were lost.", "stream slot partitions"),
    Event.PARTITION_PAUSED: _declared(
        logging.WARNING, "A partition waits.", f"{_RECORD} slot reason schema_id registry_subject"
    ),
    Event.PARTITION_RESUMED: _declared(logging.INFO, "A partition goes on.", f"{_RECORD} slot reason seconds"),
    Event.OFFSETS_BLOCKED: _declared(
        logging.ERROR,
        "Partitions cannot begin: offsets cannot be read, or wait for a transaction that should have ended.",
        "stream slot topic partition partitions code seconds",
    ),
    Event.OFFSETS_DECIDED: _declared(logging.INFO, "The group's offsets are decided again.", "stream slot seconds"),
    Event.BATCH_COMMITTED: _declared(
        logging.DEBUG, "A batch was committed.", "stream slot records sanitized withheld rejected seconds"
    ),
    Event.TRANSACTION_ABORTED: _declared(
        logging.WARNING, "A transaction was aborted; its records are read again.", "stream slot code attempts records"
    ),
    Event.TRANSACTION_UNCERTAIN: _declared(
        logging.WARNING, "The answer to a commit was lost; the group's offsets decide.", "stream slot code records"
    ),
    Event.RECORDS_REJECTED: _declared(
        logging.WARNING,
        "Records became dead letters; the coordinates are the first one's.",
        f"{_RECORD} slot stage reason field_path records schema_id",
    ),
    Event.RECORD_QUARANTINED: _declared(
        logging.ERROR, "A record that killed a worker repeatedly became a dead letter.", f"{_RECORD} slot attempts"
    ),
    Event.ENGINE_FAILED: _declared(
        logging.ERROR, "The engine failed on a record; please report it.", f"{_RECORD} audience field_path"
    ),
    Event.SCHEMA_PLANNED: _declared(logging.INFO, "A schema version was planned.", f"{_SCHEMA} audience fields"),
    Event.SCHEMA_REFUSED: _declared(
        logging.ERROR, "A schema version cannot be planned; its records are rejected.", f"{_SCHEMA} field_path reason"
    ),
    Event.SCHEMA_INCOMPATIBLE: _declared(
        logging.ERROR, "The registry refused a derived schema; its records are rejected.", f"{_SCHEMA} audience status"
    ),
    Event.SCHEMA_CHANGED: _declared(logging.ERROR, "A schema id now means another schema; the gateway stops.", _SCHEMA),
    Event.SCHEMA_UNKNOWN: _declared(logging.ERROR, "The registry does not know a schema id.", f"{_SCHEMA} seconds"),
    Event.FIELDS_UNCLASSIFIED: _declared(
        logging.ERROR, "A schema has fields without a class; they do not leave.", f"{_SCHEMA} fields field_path"
    ),
    Event.REGISTRY_FAILED: _declared(
        logging.WARNING, "The schema registry did not answer usefully.", f"{_SCHEMA} kind status attempts seconds"
    ),
    Event.REGISTRY_RECOVERED: _declared(logging.INFO, "The schema registry answers again.", "seconds"),
    Event.CONSENT_STORE_OPENED: _declared(
        logging.INFO, "The consent store was opened; the reason says whether it was kept.", "topic partitions reason"
    ),
    Event.CONSENT_STORE_REBUILT: _declared(
        logging.ERROR, "The consent store is made anew from the topic; processing waits.", "topic reason"
    ),
    Event.CONSENT_AGE_UNKNOWN: _declared(
        logging.WARNING,
        "The consent topic's configuration cannot be read; each start makes the store anew.",
        "topic code",
    ),
    Event.CONSENT_ACKNOWLEDGED: _declared(
        logging.WARNING,
        "Consent records with unreadable keys were acknowledged; they deny no longer.",
        "topic partition offset",
    ),
    Event.CONSENT_RESTORED: _declared(
        logging.INFO, "The consent state is complete.", "topic partitions records seconds"
    ),
    Event.CONSENT_STALE: _declared(
        logging.ERROR, "The consent state is too old; processing waits.", "topic partition seconds stream slot"
    ),
    Event.CONSENT_FRESH: _declared(
        logging.INFO, "The consent state is fresh; processing goes on.", "topic seconds stream slot"
    ),
    Event.CONSENT_UNDECODABLE: _declared(
        logging.ERROR, "A consent record cannot be read; it denies.", "topic partition offset reason"
    ),
    Event.CONSENT_MISPLACED: _declared(
        logging.ERROR, "A subject's consent is in two partitions; it is denied.", "topic partition offset"
    ),
    Event.CONSENT_PURPOSE_UNKNOWN: _declared(
        logging.ERROR, "Consent records name purposes that no policy has.", "topic partition offset records"
    ),
    Event.KEYS_OPENED: _declared(logging.INFO, "The keyset was opened.", "epoch count"),
    Event.KEY_EPOCH_CHANGED: _declared(logging.INFO, "New tokens are made in another key epoch.", "epoch"),
    Event.KEK_SILENT: _declared(
        logging.WARNING,
        "The provider of the KEK does not answer; the gateway goes on with its open keys for a while.",
        "attempts seconds",
    ),
    Event.KEK_RECOVERED: _declared(logging.INFO, "The KEK opens the keyset again.", "seconds"),
    Event.KEK_LOST: _declared(
        logging.ERROR,
        "The KEK may no longer open the keyset, or could not for too long; the gateway stops.",
        "reason seconds",
    ),
    Event.REPLAY_SOURCE_GONE: _declared(
        logging.WARNING, "A dead letter is done with, because its source record is gone.", _RECORD
    ),
    Event.SERVE_STARTED: _declared(
        logging.INFO, "The HTTP API that turns tokens back is open.", "host port version policy_digest revision"
    ),
    Event.SERVE_STOPPED: _declared(logging.INFO, "The HTTP API that turns tokens back is closed."),
    Event.SERVE_WITHOUT_FIELDS: _declared(
        logging.WARNING, "The schemas of a stream are not known, so its tokens are asked for by entry only.", "stream"
    ),
    Event.AUDIT_FAILED: _declared(
        logging.ERROR, "A request was not answered, because its audit record was not durable.", "kind"
    ),
    Event.GRANTS_REFUSED: _declared(
        logging.ERROR, "The grants file is not sound or cannot be read; nothing is granted. See tokenweir grants check."
    ),
    Event.START_WARNED: _declared(
        logging.WARNING,
        "Something keeps no gateway from starting, but must be put right; see tokenweir doctor.",
        "check",
    ),
    Event.CHECK_FAILED: _declared(logging.WARNING, "A readiness check fails.", "check stream slot"),
    Event.CHECK_RECOVERED: _declared(logging.INFO, "A readiness check passes again.", "check stream slot seconds"),
    Event.KAFKA_FAULT: _declared(
        logging.WARNING, "Kafka answered with an error.", f"{_RECORD} slot code phase attempts seconds"
    ),
    Event.KAFKA_CLIENT: _declared(logging.INFO, "The Kafka client library reports."),
    Event.EXCEPTION_RAISED: _declared(logging.ERROR, "An error was not expected here.", f"{_PROCESS} phase"),
    Event.FOREIGN_LOG: _declared(logging.WARNING, "A library logged something; its text is not shown."),
}
