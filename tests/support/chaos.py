"""Strikes running gateways with faults, and says of each kind of fault what became of the records and how long it took.

A run is judged as a whole, after its last fault, by the ledger and the scan of :mod:`tests.support.proof`: which of
several faults has lost a record cannot be known. So all rows of one run carry the verdict of that run.
"""

from __future__ import annotations

import bisect
import json
import os
import random
import signal
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from tests.support.capture import until
from tests.support.faults import POINTS, Action, Fault, FaultBox
from tests.support.feeder import Feeder
from tests.support.gatewayrun import GatewayRun
from tests.support.oracle import Violation
from tests.support.proof import Proof, Sighting
from tests.support.rig import Broker
from tests.support.scan import Hit

_READY_SECONDS: Final = 120
_STRUCK_SECONDS: Final = 120
_CAUGHT_UP_SECONDS: Final = 120
#: Faults strike at a passage up to this one, and up to so many seconds after it.
_MAX_PASSAGE: Final = 12
_MAX_DELAY_SECONDS: Final = 0.02
#: How often the process goes on until a fault strikes, by the point that it has passed: mostly within a commit.
_CONCURRENT: Final = {"mid_produce": 0.2, "after_produce": 0.2, "after_offsets": 0.2, "before_commit": 0.8}
_LATE: Final = frozenset({"unpermitted", "consent"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the ledger and the scan say of a run.

    Attributes:
        events: Records that were written to the source topics.
        lost: Pairs of record and output of which nothing was found though consent lets it pass.
        doubled: Records that were found more than once.
        leaked: Canaries that were found outside of the source topics.
        late: Pairs that were decided with a consent older than the gateway promises, or older than one used before.
        wrong: Everything else: order, contents, fates, keys, counters, and readers that saw different things.
        found: The first of each kind, in words.
    """

    events: int
    lost: int
    doubled: int
    leaked: int
    late: int
    wrong: int
    found: tuple[str, ...] = ()

    @classmethod
    def of(cls, events: int, violations: Sequence[Violation], hits: Sequence[Hit]) -> Verdict:
        """Return the verdict over what was found."""
        kinds = Counter(violation.kind for violation in violations)
        lost, doubled = kinds.pop("loss", 0), kinds.pop("double", 0)
        late = sum(kinds.pop(kind, 0) for kind in _LATE)
        first = {violation.kind: f"{violation.kind}: {violation.where}" for violation in reversed(violations)}
        found = (*first.values(), *(f"leak: {hit}" for hit in hits[:3]))
        return cls(events, lost, doubled, len(hits), late, kinds.total(), found)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.leaked or self.late or self.wrong)


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of fault in one run."""

    fault: str
    trials: int
    events: int
    lost: int
    doubled: int
    leaked: int
    late: int
    wrong: int
    recovery_p50_seconds: float | None
    recovery_max_seconds: float | None


class Recovery:
    """How long after a moment every source partition was served again, as a reader at ``read_committed`` saw it.

    That is when the reader had, of each partition, a record that was written after that moment. So it takes in the
    usual delay of a record and the wait for the next one, and the other faults that came meanwhile.
    """

    def __init__(self, sightings: Iterable[Sighting]) -> None:
        by_partition: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
        for sighting in sightings:
            by_partition[sighting.stream, sighting.partition].append((sighting.written_seconds, sighting.read_seconds))
        self._written: list[list[float]] = []
        self._first_read: list[list[float]] = []
        for pairs in by_partition.values():
            pairs.sort()
            earliest = float("inf")
            reads = []
            for _, read in reversed(pairs):
                earliest = min(earliest, read)
                reads.append(earliest)
            self._written.append([written for written, _ in pairs])
            self._first_read.append(reads[::-1])

    def seconds_after(self, moment: float) -> float | None:
        """Return the time until the last partition was served again; None if one never was."""
        ends = []
        for written, first_read in zip(self._written, self._first_read, strict=True):
            index = bisect.bisect_right(written, moment)
            if index == len(written):
                return None
            ends.append(first_read[index])
        return max(ends) - moment if ends else None


@dataclass
class Chaos:
    """A run that is under way, with what has struck it so far."""

    proof: Proof
    box: FaultBox
    dice: random.Random
    #: Per kind of fault, when it struck, on the monotonic clock.
    moments: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    #: Per kind of thing that took time, how long, in seconds.
    durations: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def gateway(self) -> GatewayRun:
        """The first gateway."""
        return self.proof.gateway

    @property
    def kills(self) -> int:
        """How many processes were killed so far; one that two faults have met counts once for each."""
        at_points = sum(struck.fault.action is Action.KILL for struck in self.box.struck())
        return at_points + sum(len(moments) for name, moments in self.moments.items() if "killed" in name)

    # Faults.

    def note(self, fault: str) -> None:
        """Note that a fault strikes now."""
        self.moments[fault].append(time.monotonic())

    def arm(self, points: Iterable[str], action: Action = Action.KILL) -> None:
        """Arm one fault for each of these points, at a passage and a delay that the seed chooses."""
        for point in points:
            # Where librdkafka works on by itself, time alone decides how much has left the process.
            meanwhile = point in _CONCURRENT and self.dice.random() < _CONCURRENT[point]
            delay = self.dice.choice((0, self.dice.uniform(0, _MAX_DELAY_SECONDS)))
            self.box.arm(Fault(point, action, self.dice.randint(1, _MAX_PASSAGE), delay, meanwhile))

    def wait_for_strikes(self) -> None:
        """Wait until every armed fault has found its process."""
        until(lambda: not self.box.waiting(), _STRUCK_SECONDS, "every armed fault has struck")

    def kill(self, kind: str) -> None:
        """Kill a child of a kind, when there is one."""
        until(lambda: self.gateway.kill_a_child(kind, self.dice), _READY_SECONDS, f"there is a {kind} to kill", 0.02)
        self.note(f"{kind} killed at random")

    def storm(self, workers: int, appliers: int, within_seconds: float) -> None:
        """Kill children at random moments, besides one worker at each named point; wait until all of it is done."""
        self.arm(POINTS)
        kinds = ["worker"] * workers + ["applier"] * appliers
        self.dice.shuffle(kinds)
        moments = sorted(time.monotonic() + self.dice.uniform(0, within_seconds) for _ in kinds)
        for kind, moment in zip(kinds, moments, strict=True):
            time.sleep(max(0.0, moment - time.monotonic()))
            self.kill(kind)
        self.wait_for_strikes()

    def freeze(self, points: Sequence[str], past_seconds: float = 0) -> None:
        """Freeze one worker at each of these points until others have its partitions, and longer; then let all go on.

        Others have them when everything is committed that was written up to the freeze. After the thaw the gateway
        must become ready again: each of the workers has gone on, or has ended and was replaced.
        """
        before = len(self.box.struck())
        self.arm(points, Action.STOP)
        self.wait_for_strikes()
        until(lambda: len(self.box.struck()) == before + len(points), 10, "the workers are frozen")
        frozen_at = time.monotonic()
        self.wait_caught_up()
        time.sleep(max(0.0, frozen_at + past_seconds - time.monotonic()))
        for struck in self.box.struck()[before:]:
            with suppress(ProcessLookupError):  # The supervisor may have given it up.
                os.kill(struck.pid, signal.SIGCONT)
        with self.timed("thaw to ready"):
            self.wait_ready()

    def crash(self) -> None:
        """Kill the supervisor, see its children die with it, and start it again."""
        self.note("supervisor killed")
        self.gateway.crash()
        self.gateway.start()

    def restart(self, gateway: GatewayRun) -> None:
        """Stop a gateway in good order and start it again; it must end with 0."""
        self.leave(gateway, "SIGTERM, then started again")
        self.join(gateway)

    def join(self, gateway: GatewayRun) -> None:
        """Start a gateway and wait until it is ready."""
        with self.timed("start to ready"):
            gateway.start()
            self.wait_ready(gateway)

    def leave(self, gateway: GatewayRun, fault: str) -> None:
        """Stop a gateway in good order; it must end with 0."""
        self.note(fault)
        with self.timed("SIGTERM to exit"):
            assert gateway.terminate() == 0, gateway.last_words()

    def crash_broker(self, broker: Broker, down_seconds: float) -> None:
        """Kill the broker, start it again, and wait until the gateway has caught up."""
        self.note("broker killed")
        broker.kill()
        time.sleep(down_seconds)
        broker.start()
        self.wait_caught_up()

    # Waits.

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Note how long something takes."""
        started = time.monotonic()
        yield
        self.durations[what].append(time.monotonic() - started)

    def wait_ready(self, *gateways: GatewayRun) -> None:
        """Wait until gateways, or the first one, are ready."""
        for gateway in gateways or (self.gateway,):
            until(gateway.ready, _READY_SECONDS, "the gateway is ready", 0.05)

    def wait_caught_up(self, timeout_seconds: float = _CAUGHT_UP_SECONDS) -> None:
        """Wait until everything is committed that is written now."""
        progress = self.proof.progress
        ends = progress.ends()
        deadline = time.monotonic() + timeout_seconds
        while missing := progress.missing(ends):
            assert time.monotonic() < deadline, f"not committed within {timeout_seconds} s: {missing}"
            time.sleep(0.1)

    # The end.

    def conclude(self, feeder: Feeder) -> tuple[Verdict, list[Row]]:
        """Let the last fault be overcome, end the run, and judge it."""
        self.box.disarm()
        self.wait_caught_up()
        feeder.cut(120)
        concurrent, final = self.proof.finish()
        violations = self.proof.judge_restarted(concurrent, final)
        hits = self.proof.scan(final)
        verdict = Verdict.of(len(self.proof.ledger.records), violations, hits)
        for struck in self.box.struck():
            self.moments[f"worker {_PAST[struck.fault.action]} {struck.fault.point}"].append(struck.seconds)
        recovery = Recovery(self.proof.sightings)
        rows = [row(name, verdict, times, recovery) for name, times in sorted(self.moments.items())]
        return verdict, rows + [timing(name, verdict, times) for name, times in sorted(self.durations.items())]


_PAST: Final = {Action.KILL: "killed", Action.STOP: "frozen", Action.SLEEP: "slow"}


def row(name: str, verdict: Verdict, moments: Sequence[float], recovery: Recovery) -> Row:
    """Return the row of one kind of fault."""
    found = [seconds for moment in moments if (seconds := recovery.seconds_after(moment)) is not None]
    return replace(timing(name, verdict, found), fault=name, trials=len(moments))


def timing(name: str, verdict: Verdict, seconds: Sequence[float]) -> Row:
    """Return the row of something that took time; it stands in the columns of the recovery."""
    return Row(
        fault=f"({name})",
        trials=len(seconds),
        events=verdict.events,
        lost=verdict.lost,
        doubled=verdict.doubled,
        leaked=verdict.leaked,
        late=verdict.late,
        wrong=verdict.wrong,
        recovery_p50_seconds=round(statistics.median(seconds), 2) if seconds else None,
        recovery_max_seconds=round(max(seconds), 2) if seconds else None,
    )


def table(rows: Sequence[Row]) -> str:
    """Return rows as a table of text."""
    heads = ("fault", "trials", "events", "lost", "doubled", "leaked", "late", "wrong", "recovery p50", "max (s)")
    cells = [["-" if value is None else str(value) for value in asdict(one).values()] for one in rows]
    widths = [max(len(line[column]) for line in [heads, *cells]) for column in range(len(heads))]

    def line(values: Sequence[str]) -> str:
        first, *rest = (
            value.ljust(width) if at == 0 else value.rjust(width)
            for at, (value, width) in enumerate(zip(values, widths, strict=True))
        )
        return "  ".join((first, *rest))

    return "\n".join([line(heads), line(["-" * width for width in widths]), *map(line, cells)])


def report(rows: Sequence[Row], write: Callable[[str], object]) -> None:
    """Print the table, and append each row as a line of JSON to the file that TOKENWEIR_REPORT names."""
    write(f"\n{table(rows)}\n")
    if path := os.environ.get("TOKENWEIR_REPORT"):
        with Path(path).open("a") as file:
            file.writelines(f"{json.dumps(asdict(one))}\n" for one in rows)
