"""Erases a person: denied for ever under a hash, then forgotten by name, and everyone downstream told.

The order is what keeps the person denied at every moment, whatever dies in between:

1. *denied*: the deny under the hashed key is written, and all replicas have it;
2. *enforced*: the revoke barrier shows that every worker decides with it. Groups of other prefixes are not in that
   answer; they stop by themselves when their consent is staler than ``max_staleness_seconds``, which is waited for too;
3. *forgotten*: only then a tombstone is written for each key that has the readable id;
4. *signalled*: the readers of every output are told the tokens that they know the person by;
5. *compacted*: the broker has removed every record whose key has the readable id, tombstones included.

Nothing is remembered between two runs but what can be seen in the cluster, and the evidence of the barrier in the last
certificate. So a run completes whatever another one, on another machine, has begun.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from tokenweir.app.erasuresignal import DAY_MS, Addressee, addressees, signal
from tokenweir.app.erasureworld import ConsentReading, World
from tokenweir.core.consent import EVERY_PURPOSE, Decision, HashedSubject, SourceState, to_value
from tokenweir.core.keys import Keyset
from tokenweir.core.policy.models import Policy
from tokenweir.core.subjects import Subject
from tokenweir.errors import RefusedError
from tokenweir.runtime.barrier import State, Withdrawal
from tokenweir.words import counted


class Progress(StrEnum):
    """How far a step is."""

    DONE = "done"
    PENDING = "pending"
    """It waits for something that ``detail`` names."""
    NOT_BEGUN = "not_begun"
    """A step before it is not done."""
    LEFT_OUT = "left_out"
    """It was not wanted."""


STEPS: Final = ("denied", "enforced", "forgotten", "signalled", "compacted")


@dataclass(frozen=True, slots=True)
class Step:
    """How far one step is, in words, and the evidence."""

    progress: Progress
    detail: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing is left to do or to wait for."""
        return self.progress in {Progress.DONE, Progress.LEFT_OUT}

    def plain(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"progress": self.progress.value, "detail": self.detail, **self.evidence}


_NOT_BEGUN: Final = Step(Progress.NOT_BEGUN, "a step before it is not done")


@dataclass(slots=True)
class Erasure:
    """One person's erasure.

    Attributes:
        world: The cluster.
        policy: Says which outputs have the person's tokens.
        keyset: Makes these tokens.
        subject: The person.
        hashed: The same with the id hidden.
        max_staleness_seconds: After this time a gateway without fresh consent stops.
        earlier: The steps of the last certificate about this very erasure, for the evidence of the barrier.
        signals: Whether the readers of outputs are told.
        now_ms: The wall clock, in milliseconds since 1970.
        sleep: Waits for so many seconds.
    """

    world: World
    policy: Policy
    keyset: Keyset
    subject: Subject
    hashed: HashedSubject
    max_staleness_seconds: float
    earlier: Mapping[str, Any] = field(default_factory=dict)
    signals: bool = True
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    sleep: Callable[[float], None] = time.sleep
    _key: bytes = field(init=False)

    def __post_init__(self) -> None:
        self._key = self.hashed.canonical.encode()

    def addressees(self) -> list[Addressee]:
        """Return the outputs that may have records of the person."""
        return addressees(self.policy, self.keyset, self.subject)

    def look(self) -> dict[str, Step]:
        """Return how far it is, and write nothing."""
        reading = self.world.read(self.subject, self.hashed)
        return self._steps(reading, wait_seconds=0, write=False)

    def complete(self, wait_seconds: float) -> dict[str, Step]:
        """Do what is left to do, as far as it can be done now, and return how far it is.

        Raises:
            KafkaFault: The cluster does not answer; what was done stays done, and another run goes on from there.
        """
        reading = self.world.read(self.subject, self.hashed)
        if reading.erased_at is None:
            now_ms = self.now_ms()
            state = SourceState(now_ms, {EVERY_PURPOSE: Decision("deny", now_ms)})
            self.world.write_consent(self._key, to_value(state))
            # Where it is, and under which time, is what stands on the topic.
            reading = self.world.read(self.subject, self.hashed)
        return self._steps(reading, wait_seconds, write=True)

    def lift(self) -> None:
        """Let a person be known again: decisions count that are written under the readable key from now on.

        What somebody wrote there during the erasure is deleted first. A gateway may read the partition of the lift
        before that of a tombstone, so both are apart by the time after which it stops without fresh consent: one that
        still decides then has the tombstones.

        Raises:
            RefusedError: There is no erasure of this person, or decisions are still being written about them.
        """
        reading = self.world.read(self.subject, self.hashed)
        if reading.erased_at is None:
            raise RefusedError("there is no erasure of this person: nothing to lift")
        for place in reading.speaking:
            self.world.write_consent(place.key, None, place.partition)
        last_ms = self.now_ms() if reading.speaking else reading.last_ms
        # The times of records are the writers' own, so that one in the future must not hold it up.
        left_seconds = last_ms / 1000 + self.max_staleness_seconds - self.now_ms() / 1000
        self.sleep(min(max(0.0, left_seconds), self.max_staleness_seconds))
        if self.world.read(self.subject, self.hashed).speaking:
            raise RefusedError(
                "decisions about this person are still being written and would count: end that at their source, "
                "then run the command again. The erasure stands"
            )
        self.world.write_consent(self._key, to_value(SourceState(self.now_ms(), {})))
        self._take_back()

    def _take_back(self) -> None:
        """Take the signals back, whichever epoch was the active one when they were written."""
        day_ms = self._day_ms(self.now_ms())
        for each in self.addressees():
            if self.world.settings(each.signal_topic) is None:
                continue
            for key in dict.fromkeys(token.token.encode() for token in each.tokens):
                # A token that no signal has is not published by taking it back.
                if self.world.signalled(each.signal_topic, key):
                    self.world.signal(each.signal_topic, key, None, day_ms)

    def _steps(self, reading: ConsentReading, wait_seconds: float, *, write: bool) -> dict[str, Step]:
        if reading.erased_at is None:
            said = "the erasure was lifted" if reading.lifted else "there is no erasure of this person"
            return {"denied": Step(Progress.NOT_BEGUN, said)} | dict.fromkeys(STEPS[1:], _NOT_BEGUN)
        place = reading.erased_at
        steps = {
            "denied": Step(
                Progress.DONE,
                "denied for every purpose that asks, under a key without the id",
                {
                    "topic": self.world.consent_topic,
                    "topic_id": reading.topic_id,
                    "partition": place.partition,
                    "offset": place.offset,
                    "at_ms": reading.erased_at_ms,
                },
            )
        }
        steps["enforced"] = self._enforced(reading, wait_seconds)
        if not steps["enforced"].passed:
            return steps | dict.fromkeys(STEPS[2:], _NOT_BEGUN)
        steps["forgotten"] = self._forgotten(reading, write=write)
        steps["signalled"] = self._signalled(reading, steps["enforced"].evidence["none_at_or_past"], write=write)
        steps["compacted"] = self._compacted(steps["forgotten"])
        return steps

    def _enforced(self, reading: ConsentReading, wait_seconds: float) -> Step:
        place = reading.erased_at
        earlier = self.earlier.get("denied", {})
        same = place is not None and (earlier.get("topic_id"), earlier.get("partition"), earlier.get("offset")) == (
            reading.topic_id,
            *place,
        )
        known = self.earlier.get("enforced", {})
        if same and known.get("progress") == Progress.DONE:
            return Step(Progress.DONE, known["detail"], {"none_at_or_past": known["none_at_or_past"]})
        assert place is not None  # noqa: S101 - the caller has looked.
        withdrawal = Withdrawal(self.world.consent_topic, reading.topic_id, place.partition, place.offset)
        report = self.world.enforced(withdrawal, wait_seconds)
        if report.state is not State.ENFORCED:
            held_up = "; ".join(str(holdup) for holdup in report.holdups) or "no answer yet"
            return Step(Progress.PENDING, f"{report.state.value}: {held_up}")
        ends: dict[str, dict[str, int]] = {}
        for output in report.outputs:
            ends.setdefault(output.topic, {})[str(output.partition)] = output.high_watermark
        detail = "every record at or past these offsets was decided with the erasure"
        return Step(Progress.DONE, detail, {"none_at_or_past": ends})

    def _forgotten(self, reading: ConsentReading, *, write: bool) -> Step:
        if not reading.speaking:
            return Step(Progress.DONE, "no decision stands under a key with the id")
        keys = counted(len(reading.speaking), "key")
        if not write:
            return Step(Progress.PENDING, f"{keys} with the id have no tombstone yet: run the command again")
        self.sleep(max(0.0, reading.erased_at_ms / 1000 + self.max_staleness_seconds - self.now_ms() / 1000))
        for place in reading.speaking:
            self.world.write_consent(place.key, None, place.partition)
        return Step(Progress.DONE, f"tombstones were written for {keys} with the id")

    def _signalled(self, reading: ConsentReading, ends: Mapping[str, Mapping[str, int]], *, write: bool) -> Step:
        if not self.signals:
            return Step(Progress.LEFT_OUT, "the readers of the outputs were not told: --no-signal")
        told, untold, without = [], [], []
        for each in self.addressees():
            if not each.tokens:
                without.append(each.topic)
            elif self._told(each, reading, ends, write=write):
                told.append(each.signal_topic)
            else:
                untold.append(each.signal_topic)
        evidence = {"topics": told, "missing": untold, "outputs_without_tokens": without}
        if untold:
            topics = ", ".join(untold)
            detail = f"not told: {topics} (create it with cleanup.policy=compact, or say --no-signal, and run again)"
            return Step(Progress.PENDING, detail, evidence)
        return Step(Progress.DONE, f"the readers of {counted(len(told), 'output')} were told", evidence)

    def _told(
        self, each: Addressee, reading: ConsentReading, ends: Mapping[str, Mapping[str, int]], *, write: bool
    ) -> bool:
        """Whether the readers of an output are told; they are told now if they are not, and it can be done."""
        if self.world.settings(each.signal_topic) is None:
            return False
        key = each.tokens[0].token.encode()
        if self.world.signalled(each.signal_topic, key):
            return True
        if write:
            day_ms = self._day_ms(reading.erased_at_ms)
            self.world.signal(each.signal_topic, key, signal(each, day_ms, ends), day_ms)
        return write

    def _compacted(self, forgotten: Step) -> Step:
        if not forgotten.passed:
            return _NOT_BEGUN
        reading = self.world.read(self.subject, self.hashed)
        evidence = {"unreadable_keys": reading.unreadable} if reading.unreadable else {}
        if reading.suspect:
            return Step(
                Progress.PENDING,
                f"{counted(reading.suspect, 'record')} of the consent topic have a key that names nobody and yet has "
                "the id in it: delete them by tombstones under exactly these keys, and let the broker compact them",
                {"records": reading.remaining, "suspect_keys": reading.suspect, **evidence},
            )
        remaining = reading.remaining
        if not remaining:
            said = "no record of the consent topic has the id in its key"
            if reading.unreadable:
                said += f"; {counted(reading.unreadable, 'key')} that cannot be read show no id as it is written"
            return Step(Progress.DONE, said, evidence)
        settings = self.world.settings(self.world.consent_topic) or {}
        names = ("segment.ms", "min.cleanable.dirty.ratio", "max.compaction.lag.ms", "delete.retention.ms")
        return Step(
            Progress.PENDING,
            f"{counted(remaining, 'record')} of the consent topic still have the id in their keys, until the broker "
            "has rolled and compacted their segments, and the tombstones are older than delete.retention.ms",
            {"records": remaining, "settings": {name: settings.get(name) for name in names}, **evidence},
        )

    @staticmethod
    def _day_ms(time_ms: int) -> int:
        return time_ms // DAY_MS * DAY_MS


def state_of(steps: Mapping[str, Step]) -> str:
    """Return how far an erasure is as a whole."""
    if steps["denied"].progress is Progress.NOT_BEGUN:
        return "NOT_ERASED"
    return "COMPLETE" if all(step.passed for step in steps.values()) else "PENDING"


def waits_for(steps: Mapping[str, Step]) -> Sequence[str]:
    """Return the names of the steps that are not done."""
    return [name for name, step in steps.items() if not step.passed]
