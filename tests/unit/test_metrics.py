"""The metrics are exactly those of the contract, and the collector shows them as Prometheus expects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tokenweir.adapters.auditfiles import FaultKind
from tokenweir.core.detokenize.decide import Cause
from tokenweir.core.outcome import Fate, Reason, Treated
from tokenweir.errors import RegistryError
from tokenweir.telemetry import metrics
from tokenweir.telemetry.collector import metrics_registry
from tokenweir.telemetry.metrics import METRICS, RegistryFault, Series, checked, series_of
from tokenweir.telemetry.slots import SlotWriter, slot_path

#: Name, type and labels as they are promised to operators; a change here breaks dashboards and alerts.
CONTRACT = {
    "tokenweir_records_consumed_total": ("counter", ("stream",)),
    "tokenweir_records_total": ("counter", ("stream", "audience", "fate")),
    "tokenweir_epoch_records_total": ("counter", ("stream", "audience", "epoch", "fate")),
    "tokenweir_rejections_total": ("counter", ("stream", "reason")),
    "tokenweir_fields_total": ("counter", ("stream", "audience", "treatment")),
    "tokenweir_unclassified_fields": ("gauge", ("stream",)),
    "tokenweir_batch_duration_seconds": ("histogram", ()),
    "tokenweir_transactions_total": ("counter", ("outcome",)),
    "tokenweir_event_age_seconds": ("histogram", ()),
    "tokenweir_consumer_lag_records": ("gauge", ("stream", "partition")),
    "tokenweir_consent_staleness_seconds": ("gauge", ()),
    "tokenweir_consent_position": ("gauge", ("partition",)),
    "tokenweir_consent_unreadable_keys": ("gauge", ("partition",)),
    "tokenweir_key_epoch_age_seconds": ("gauge", ()),
    "tokenweir_kek_unconfirmed_seconds": ("gauge", ()),
    "tokenweir_registry_errors_total": ("counter", ("kind",)),
    "tokenweir_worker_restarts_total": ("counter", ("stream",)),
    "tokenweir_quarantined_total": ("counter", ("stream",)),
    "tokenweir_detokenize_requests_total": ("counter", ("outcome",)),
    "tokenweir_detokenize_tokens_total": ("counter", ("outcome",)),
    "tokenweir_audit_faults_total": ("counter", ("kind",)),
    "tokenweir_policy_info": ("info", ("digest", "revision")),
    "tokenweir_build_info": ("info", ("version", "engine")),
}


def test_declarations_are_the_contract() -> None:
    """No metric more, none less, none changed, in the order of the documentation."""
    assert [(name, (metric.type, metric.labels)) for name, metric in METRICS.items()] == list(CONTRACT.items())


def test_names_follow_the_conventions() -> None:
    """Suffixes say the type, help is one sentence, and buckets are in order."""
    for name, metric in METRICS.items():
        assert re.fullmatch(r"tokenweir_[a-z]+(_[a-z]+)*", name)
        assert name.endswith("_total") == (metric.type == "counter")
        assert name.endswith("_info") == (metric.type == "info")
        assert metric.help.endswith(".")
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert bool(metric.buckets) == (metric.type == "histogram")
        assert set(metric.closed) <= set(metric.labels)


def test_every_constant_names_a_declared_metric() -> None:
    """The constants of the module and the declarations are the same list."""
    named = {value for name, value in vars(metrics).items() if name.isupper() and isinstance(value, str)}
    assert named == set(METRICS)


def test_closed_lists_are_those_of_the_code() -> None:
    """Fates, treatments, reasons and registry faults have the same spelling everywhere."""
    assert METRICS[metrics.RECORDS].closed["fate"] == set(Fate)
    assert METRICS[metrics.FIELDS].closed["treatment"] == set(Treated)
    assert METRICS[metrics.REJECTIONS].closed["reason"] == set(Reason)
    assert set(Cause) < METRICS[metrics.DETOKENIZE_REQUESTS].closed["outcome"]
    assert METRICS[metrics.AUDIT_FAULTS].closed["kind"] == set(get_args(FaultKind))
    documented = re.search(r"one of (.*?); it is", RegistryError.__doc__ or "", re.DOTALL)
    assert documented is not None
    assert re.findall(r"``(\w+)``", documented[1]) == list(RegistryFault)


@pytest.mark.parametrize(
    "series",
    [
        Series("tokenweir_other_total"),
        Series(metrics.RECORDS, ("s", "a")),
        Series(metrics.RECORDS, ("s", "a", "lost")),
        Series(metrics.EVENT_AGE, ("s",)),
        Series(metrics.REGISTRY_ERRORS, ("Connection refused",)),
    ],
)
def test_undeclared_series_are_refused(series: Series) -> None:
    """A series of no metric, with other labels, or outside of a closed list is a mistake in the code."""
    with pytest.raises(ValueError, match=r"."):
        checked(series)


def test_every_metric_is_counted_by_some_process() -> None:
    """Worker, applier and supervisor together have a series of each metric, and fates of each audience."""
    worker = metrics.worker_series("clicks", ["crm", "ads"], [("crm", 2), ("crm", 1), ("ads", 1)])
    every = [
        *worker,
        *metrics.lag_series("clicks", [0, 1]),
        *metrics.applier_series([0]),
        *metrics.supervisor_series(["clicks"], policy_digest="d", policy_revision=7, version="1", engine="python"),
        *metrics.serve_series(policy_digest="d", policy_revision=7, version="1", engine="python"),
    ]
    assert {series.metric for series in every} == set(METRICS)
    assert Series(metrics.RECORDS, ("clicks", "ads", "withheld")) in worker
    assert Series(metrics.EPOCH_RECORDS, ("clicks", "crm", "2", "sanitized")) in worker
    assert Series(metrics.POLICY_INFO, ("d", "7")) in every
    assert len(set(worker)) == len(worker)


def test_exposition(tmp_path: Path) -> None:
    """Two slots give one sum each in the text that Prometheus reads, with the declared names and types."""
    for number, amount in ((0, 3), (1, 4)):
        with SlotWriter(slot_path(tmp_path, "worker-clicks", number), metrics.worker_series("clicks", ["crm"])) as slot:
            slot.add(slot.index(metrics.RECORDS, "clicks", "crm", "sanitized"), amount)
            slot.observe(slot.index(metrics.BATCH_DURATION), 0.2)
            slot.set(slot.index(metrics.CONSENT_STALENESS), 0.5 + number)
    build = series_of(metrics.BUILD_INFO, ["1.2"], ["native"])
    with SlotWriter(slot_path(tmp_path, "supervisor", 0), build) as slot:
        slot.set(0, 1)
    text = generate_latest(metrics_registry(tmp_path)).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(families) == len(METRICS)
    for name, metric in METRICS.items():
        family = families[name.removesuffix("_total")]
        assert family.type == {"info": "gauge"}.get(metric.type, metric.type)
        assert family.documentation == metric.help
    samples = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in text.splitlines() if line[0] != "#"}
    assert samples['tokenweir_records_total{audience="crm",fate="sanitized",stream="clicks"}'] == "7.0"
    assert samples['tokenweir_records_total{audience="crm",fate="rejected",stream="clicks"}'] == "0.0"
    assert samples['tokenweir_batch_duration_seconds_bucket{le="0.1"}'] == "0.0"
    assert samples['tokenweir_batch_duration_seconds_bucket{le="0.25"}'] == "2.0"
    assert samples['tokenweir_batch_duration_seconds_bucket{le="+Inf"}'] == "2.0"
    assert samples["tokenweir_batch_duration_seconds_count"] == "2.0"
    assert samples["tokenweir_batch_duration_seconds_sum"] == "0.4"
    assert samples["tokenweir_consent_staleness_seconds"] == "1.5"
    assert samples['tokenweir_build_info{engine="native",version="1.2"}'] == "1.0"
    assert not any("_created" in name for name in samples)
    assert "tokenweir_key_epoch_age_seconds" not in samples


def test_nothing_is_registered_globally(tmp_path: Path) -> None:
    """Two gateways in one process, as in tests, do not share a metric."""
    before = generate_latest(REGISTRY)
    metrics_registry(tmp_path)
    metrics_registry(tmp_path)
    assert b"tokenweir" not in generate_latest(REGISTRY)
    assert b"tokenweir" not in before


def test_collector_keeps_what_it_can_no_longer_read(tmp_path: Path) -> None:
    """A slot file that is damaged or gone keeps its last values, so that no counter falls."""
    path = slot_path(tmp_path, "worker-clicks", 0)
    registry = metrics_registry(tmp_path)
    with SlotWriter(path, series_of(metrics.RECORDS_CONSUMED, ["clicks"])) as slot:
        slot.add(0, 5)
    wanted = b'tokenweir_records_consumed_total{stream="clicks"} 5.0'
    assert wanted in generate_latest(registry)
    path.write_bytes(b"damaged")
    assert wanted in generate_latest(registry)
    path.unlink()
    assert wanted in generate_latest(registry)
