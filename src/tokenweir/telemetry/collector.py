"""The merged slots as Prometheus metrics, in a registry of their own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tokenweir.errors import FileFormatError
from tokenweir.telemetry.metrics import METRICS, Metric
from tokenweir.telemetry.slots import Distribution, SlotContents, Value, merge, read_slot


class SlotCollector(Collector):
    """Reads every slot file of a directory each time that Prometheus asks.

    A file that cannot be read keeps the values that it had the last time, so that a counter never falls.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._last: dict[Path, SlotContents] = {}

    def collect(self) -> Iterator[Family]:
        """Yield every declared metric; one without any series has its name, type and help only."""
        for path in sorted(self._directory.glob("*.bin")):
            try:
                self._last[path] = read_slot(path)
            except (OSError, FileFormatError):
                continue
        merged = merge(self._last.values())
        for metric in METRICS.values():
            chosen = sorted((series.labels, value) for series, value in merged.items() if series.metric == metric.name)
            yield _family(metric, chosen)


def metrics_registry(directory: Path) -> CollectorRegistry:
    """Return a registry, independent of the global one, that shows the slots of a directory and nothing else."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SlotCollector(directory))
    return registry


def _family(metric: Metric, values: Iterable[tuple[tuple[str, ...], Value]]) -> Family:
    """Return one metric with its series."""
    if metric.type == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
        for labels, value in values:
            if isinstance(value, Distribution):
                counts = itertools.accumulate(value.counts)
                histogram.add_metric(labels, list(zip(bounds, counts, strict=True)), sum_value=value.sum)
        return histogram
    if metric.type == "info":
        info = InfoMetricFamily(metric.name.removesuffix("_info"), metric.help, labels=metric.labels)
        for labels, _ in values:
            info.add_metric(labels, {})
        return info
    family = (CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily)(
        metric.name, metric.help, labels=metric.labels
    )
    for labels, value in values:
        if not isinstance(value, Distribution):
            family.add_metric(labels, value)
    return family
