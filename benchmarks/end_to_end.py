"""B5: end to end, exactly once, on a real broker: the gateway, a mirror that only copies, and plain Python.

Broker, registry and workers share the machine, so the rates are low and the ratios are what counts. All legs read the
same topic from its beginning. Each is measured over a window of time after all of its workers have joined; legs
alternate, and a ratio is taken within its round.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from benchmarks import machine, packages
from benchmarks.cluster import Cluster, cluster
from benchmarks.legs import Leg, Running, running
from benchmarks.stats import spread, times
from tokenweir.adapters.engines import engine_name

_SUBJECTS: Final = 1_000_000
#: More than the fastest leg reads until its window ends.
_EVENTS: Final = 3_200_000
_WINDOW_SECONDS: Final = 10.0
_ROUNDS: Final = 3


class Window(NamedTuple):
    """What a leg did in its window."""

    events: int
    seconds: float
    worker_seconds: float

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU of the workers per event."""
        return self.worker_seconds / self.events * 1e6


def legs() -> list[Leg]:
    """Return what can be measured here."""
    kinds = ["copy", *dict.fromkeys((engine_name().value, "reference"))]
    found = [Leg(kind, workers) for workers in (1, 2) for kind in kinds]
    return [*found, Leg("plain", 1)] if packages.install() else found


def measure(place: Cluster, found: Running, window_seconds: float) -> Window:
    """Return what a running leg does until the window, or the topic, is at its end.

    Raises:
        RuntimeError: The topic was at its end too soon.
    """
    end = sum(place.ends().values())
    first_at, first, first_cpu = time.monotonic(), place.committed(found.group), found.worker_seconds()
    if first >= end:
        raise RuntimeError(f"{found.leg.name} was done before it could be measured: more events are needed")
    while True:
        time.sleep(0.1)
        found.check()
        now, done = time.monotonic(), place.committed(found.group)
        if done >= end or now - first_at >= window_seconds:
            return Window(done - first, now - first_at, found.worker_seconds() - first_cpu)


def check(place: Cluster, found: Running, visible: int) -> None:
    """Check that a leg has written one record for each that it has committed.

    Raises:
        AssertionError: It has not, so that its rate says nothing.
    """
    committed = place.committed(found.group)
    if visible != committed:
        raise AssertionError(f"{found.leg.name} has committed {committed} records, and {visible} can be read")


def run(
    rounds: int = _ROUNDS, events: int = _EVENTS, subjects: int = _SUBJECTS, window_seconds: float = _WINDOW_SECONDS
) -> dict[str, object]:
    """Return rate and CPU of each leg, and its share of the mirror with as many workers."""
    windows: dict[Leg, list[Window]] = {}
    others: list[float] = []
    with cluster(events, subjects) as place:
        for _ in range(rounds):
            for leg in legs():
                others.append(machine.busy_cpus())
                starts = place.ends(leg.output)
                with running(place, leg) as found:
                    windows.setdefault(leg, []).append(measure(place, found, window_seconds))
                check(place, found, place.visible(leg.output, starts))
    shares = {leg: _shares(windows, leg) for leg in windows}
    return {
        "events": events,
        "subjects": subjects,
        "rounds": rounds,
        "window_seconds": window_seconds,
        "cpus_busy_between_legs": spread(others),
        "legs": {
            leg.name: {
                "events_per_second": spread([window.rate for window in measured], 0),
                "worker_cpu_us_per_event": spread([window.cpu_us for window in measured]),
                "share_of_copy": shares[leg],
                "shortest_window_seconds": round(min(window.seconds for window in measured), 1),
            }
            for leg, measured in windows.items()
        },
    }


def _shares(windows: dict[Leg, list[Window]], leg: Leg) -> object:
    rates: dict[str, Sequence[float]] = {
        each.name: [window.rate for window in measured] for each, measured in windows.items()
    }
    return times(rates, Leg("copy", leg.workers).name, digits=3)[leg.name]
