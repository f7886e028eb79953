"""Every metric that tokenweir has, declared once: name, type, help, labels and their closed sets of values.

Names follow the Prometheus conventions: base units, ``_total`` on counters, ``_info`` on constants. Label values come
from the policy (streams, audiences), from Kafka (partition numbers) or from the closed lists here, never from a record.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, NamedTuple

from tokenweir.core.detokenize.decide import Cause
from tokenweir.core.outcome import Fate, Reason, Treated


class TransactionOutcome(StrEnum):
    """How a transaction ended; ``uncertain`` when the broker's answer to a commit was lost."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    UNCERTAIN = "uncertain"


class RegistryFault(StrEnum):
    """The kinds of :class:`tokenweir.errors.RegistryError`."""

    NOT_FOUND = "not_found"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    DENIED = "denied"
    INCOMPATIBLE = "incompatible"
    MALFORMED = "malformed"
    CHANGED = "changed"


#: What became of a request to detokenize: granted, a cause of a refusal, or not even that.
DETOKENIZE_OUTCOMES: Final = ("granted", *map(str, Cause), "invalid", "unauthenticated", "throttled", "failed")


class TokenOutcome(StrEnum):
    """What became of a token in a granted request; ``invalid`` if it cannot be one of the entry."""

    ANSWERED = "answered"
    INVALID = "invalid"


class AuditFault(StrEnum):
    """Why a record was not durable; see :class:`tokenweir.adapters.auditfiles.AuditError`."""

    FULL = "full"
    SLOW = "slow"
    GONE = "gone"
    BROKEN = "broken"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Metric:
    """The declaration of a metric.

    Attributes:
        name: The full name as Prometheus shows it.
        type: What it is; an ``info`` is a constant 1 whose labels are the news.
        help: One sentence for operators.
        labels: Names of the labels, in their order.
        closed: The only values that a label may have, for labels that have a closed list.
        buckets: Upper bounds of a histogram, without +Inf.
    """

    name: str
    type: Literal["counter", "gauge", "histogram", "info"]
    help: str
    labels: tuple[str, ...] = ()
    closed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()


class Series(NamedTuple):
    """One time series: a metric and the value of each of its labels."""

    metric: str
    labels: tuple[str, ...] = ()


RECORDS_CONSUMED: Final = "tokenweir_records_consumed_total"
RECORDS: Final = "tokenweir_records_total"
EPOCH_RECORDS: Final = "tokenweir_epoch_records_total"
REJECTIONS: Final = "tokenweir_rejections_total"
FIELDS: Final = "tokenweir_fields_total"
UNCLASSIFIED_FIELDS: Final = "tokenweir_unclassified_fields"
BATCH_DURATION: Final = "tokenweir_batch_duration_seconds"
TRANSACTIONS: Final = "tokenweir_transactions_total"
EVENT_AGE: Final = "tokenweir_event_age_seconds"
CONSUMER_LAG: Final = "tokenweir_consumer_lag_records"
CONSENT_STALENESS: Final = "tokenweir_consent_staleness_seconds"
CONSENT_POSITION: Final = "tokenweir_consent_position"
CONSENT_UNREADABLE_KEYS: Final = "tokenweir_consent_unreadable_keys"
KEY_EPOCH_AGE: Final = "tokenweir_key_epoch_age_seconds"
KEK_UNCONFIRMED: Final = "tokenweir_kek_unconfirmed_seconds"
REGISTRY_ERRORS: Final = "tokenweir_registry_errors_total"
WORKER_RESTARTS: Final = "tokenweir_worker_restarts_total"
QUARANTINED: Final = "tokenweir_quarantined_total"
DETOKENIZE_REQUESTS: Final = "tokenweir_detokenize_requests_total"
DETOKENIZE_TOKENS: Final = "tokenweir_detokenize_tokens_total"
AUDIT_FAULTS: Final = "tokenweir_audit_faults_total"
POLICY_INFO: Final = "tokenweir_policy_info"
BUILD_INFO: Final = "tokenweir_build_info"

#: Every metric by name, in the order of the documentation.
METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric(RECORDS_CONSUMED, "counter", "Records read from the source topic and committed.", ("stream",)),
        Metric(
            RECORDS,
            "counter",
            "Fates of records; sanitized, withheld and rejected add up to the records consumed, for every output.",
            ("stream", "audience", "fate"),
            {"fate": frozenset(Fate)},
        ),
        Metric(
            EPOCH_RECORDS,
            "counter",
            "Fates of records in each key epoch that is fed; tokenweir_records_total has those of the active epoch.",
            ("stream", "audience", "epoch", "fate"),
            {"fate": frozenset(Fate)},
        ),
        Metric(
            REJECTIONS,
            "counter",
            "Rejected pairs of record and output, by reason; in the active key epoch.",
            ("stream", "reason"),
            {"reason": frozenset(Reason)},
        ),
        Metric(
            FIELDS,
            "counter",
            "Field values by what happened to them.",
            ("stream", "audience", "treatment"),
            {"treatment": frozenset(Treated)},
        ),
        Metric(
            UNCLASSIFIED_FIELDS,
            "gauge",
            "Fields without a class in schemas that were first seen while running; they never leave.",
            ("stream",),
        ),
        Metric(
            BATCH_DURATION,
            "histogram",
            "Time from the first record of a batch to the end of its commit.",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30),
        ),
        Metric(
            TRANSACTIONS,
            "counter",
            "Transactions by how they ended.",
            ("outcome",),
            {"outcome": frozenset(TransactionOutcome)},
        ),
        Metric(
            EVENT_AGE,
            "histogram",
            "Time from the timestamp of the source record to the commit of its outputs.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400),
        ),
        Metric(CONSUMER_LAG, "gauge", "Records of the source that are not committed yet.", ("stream", "partition")),
        Metric(CONSENT_STALENESS, "gauge", "Age of the stalest partition of the consent state."),
        Metric(CONSENT_POSITION, "gauge", "Next offset of the consent topic to apply.", ("partition",)),
        Metric(
            CONSENT_UNREADABLE_KEYS,
            "gauge",
            "1 while a consent partition has an unreadable key that nobody acknowledged: every subject is denied.",
            ("partition",),
        ),
        Metric(KEY_EPOCH_AGE, "gauge", "Age of the oldest key epoch that is active."),
        Metric(
            KEK_UNCONFIRMED,
            "gauge",
            "Time since the provider of the KEK last opened the keyset; 0 for a KEK in a file.",
        ),
        Metric(
            REGISTRY_ERRORS,
            "counter",
            "Failed requests to the schema registry, by kind.",
            ("kind",),
            {"kind": frozenset(RegistryFault)},
        ),
        Metric(WORKER_RESTARTS, "counter", "Workers that were started again after they died.", ("stream",)),
        Metric(QUARANTINED, "counter", "Records that killed a worker repeatedly and became dead letters.", ("stream",)),
        Metric(
            DETOKENIZE_REQUESTS,
            "counter",
            "Requests to the HTTP API that turns tokens back, by what became of them.",
            ("outcome",),
            {"outcome": frozenset(DETOKENIZE_OUTCOMES)},
        ),
        Metric(
            DETOKENIZE_TOKENS,
            "counter",
            "Tokens of granted requests.",
            ("outcome",),
            {"outcome": frozenset(TokenOutcome)},
        ),
        Metric(
            AUDIT_FAULTS,
            "counter",
            "Requests without an answer, because their audit record was not durable.",
            ("kind",),
            {"kind": frozenset(AuditFault)},
        ),
        Metric(POLICY_INFO, "info", "The policy that is in force.", ("digest", "revision")),
        Metric(BUILD_INFO, "info", "The version of tokenweir and the engine that it uses.", ("version", "engine")),
    )
}


def checked(series: Series) -> Metric:
    """Return the declaration of a series.

    Raises:
        ValueError: if there is no such metric, or the labels are not the declared ones with allowed values.
    """
    metric = METRICS.get(series.metric)
    if metric is None:
        raise ValueError(f"no metric {series.metric} is declared")
    if len(series.labels) != len(metric.labels):
        raise ValueError(f"{metric.name} has the labels {', '.join(metric.labels) or '(none)'}")
    for label, value in zip(metric.labels, series.labels, strict=True):
        if label in metric.closed and value not in metric.closed[label]:
            raise ValueError(f"{value} is no {label} of {metric.name}")
    return metric


def series_of(metric: str, *values: Iterable[str]) -> list[Series]:
    """Return the series of a metric for every combination of the label values, one iterable for each label.

    Raises:
        ValueError: as :func:`checked` does.
    """
    every = [Series(metric, tuple(str(value) for value in labels)) for labels in itertools.product(*values)]
    for series in every:
        checked(series)
    return every


def worker_series(stream: str, audiences: Iterable[str], epochs: Iterable[tuple[str, int]] = ()) -> list[Series]:
    """Return the series that a worker of ``stream`` counts, but for the lag of its partitions.

    ``epochs`` are the pairs of audience and key epoch that are fed.

    Counters that begin at zero instead of being absent let ``rate()`` and alerts see the first increase.
    """
    audiences = list(audiences)
    return [
        *series_of(RECORDS_CONSUMED, [stream]),
        *series_of(RECORDS, [stream], audiences, Fate),
        *(
            series
            for audience, epoch in epochs
            for series in series_of(EPOCH_RECORDS, [stream], [audience], [str(epoch)], Fate)
        ),
        *series_of(REJECTIONS, [stream], Reason),
        *series_of(FIELDS, [stream], audiences, Treated),
        *series_of(UNCLASSIFIED_FIELDS, [stream]),
        *series_of(QUARANTINED, [stream]),
        *series_of(BATCH_DURATION),
        *series_of(TRANSACTIONS, TransactionOutcome),
        *series_of(EVENT_AGE),
        *series_of(REGISTRY_ERRORS, RegistryFault),
        *series_of(KEY_EPOCH_AGE),
        *series_of(CONSENT_STALENESS),
    ]


def lag_series(stream: str, partitions: Iterable[int]) -> list[Series]:
    """Return the lag series of partitions; a worker adds them when the partitions are assigned to it."""
    return series_of(CONSUMER_LAG, [stream], map(str, partitions))


def applier_series(partitions: Iterable[int]) -> list[Series]:
    """Return the series that the consent applier counts for the partitions of the consent topic."""
    numbers = [str(partition) for partition in partitions]
    return [
        *series_of(CONSENT_STALENESS),
        *series_of(CONSENT_POSITION, numbers),
        *series_of(CONSENT_UNREADABLE_KEYS, numbers),
    ]


def supervisor_series(
    streams: Iterable[str], *, policy_digest: str, policy_revision: int, version: str, engine: str
) -> list[Series]:
    """Return the series that the supervisor itself counts or states."""
    streams = list(streams)
    return [
        *series_of(WORKER_RESTARTS, streams),
        *series_of(KEK_UNCONFIRMED),
        *series_of(POLICY_INFO, [policy_digest], [str(policy_revision)]),
        *series_of(BUILD_INFO, [version], [engine]),
    ]


def serve_series(*, policy_digest: str, policy_revision: int, version: str, engine: str) -> list[Series]:
    """Return the series of the HTTP API that turns tokens back."""
    return [
        *series_of(DETOKENIZE_REQUESTS, DETOKENIZE_OUTCOMES),
        *series_of(DETOKENIZE_TOKENS, TokenOutcome),
        *series_of(AUDIT_FAULTS, AuditFault),
        *series_of(POLICY_INFO, [policy_digest], [str(policy_revision)]),
        *series_of(BUILD_INFO, [version], [engine]),
    ]
