"""What the audit log says so far: answers within the budgets' windows, accepted statements, approvals.

The log is the only truth about budgets: this is derived from its records, by every process that writes to it, and never
stored apart. What must outlive the segments that a start reads stands again in the first record of each segment.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from tokenweir.core.detokenize.chain import Kind, Record
from tokenweir.core.detokenize.models import LONGEST_WINDOW_MS


class Use(NamedTuple):
    """One answer that counts for a class: when, and the marks of the tokens."""

    time_ms: int
    marks: frozenset[str]


@dataclass(frozen=True, slots=True)
class Case:
    """A request that waits for a second person, or was approved and not answered yet.

    ``marks`` are HMACs of the tokens; the tokens themselves are nowhere.
    """

    id: str
    principal: str
    classes: tuple[str, ...]
    entry: str
    domain: str
    epoch: int
    marks: frozenset[str]
    reason: str
    ticket: str
    expires_ms: int
    approver: str | None = None


@dataclass(slots=True)
class Ledger:
    """The state that records lead to. Only :meth:`apply` changes it."""

    time_ms: int = 0
    accepted: set[tuple[str, str, str]] = field(default_factory=set)
    """Principal, statement and the digest of the text that was accepted."""
    cases: dict[str, Case] = field(default_factory=dict)
    uses: defaultdict[tuple[str, str], deque[Use]] = field(default_factory=lambda: defaultdict(deque))
    """Answers by principal and class, oldest first."""

    def apply(self, record: Record) -> None:
        """Take the next record of the log."""
        self.time_ms = record.time_ms
        body = record.body
        match record.kind:
            case Kind.SEGMENT:
                self._carry(body["carried"])
            case Kind.ACCEPT:
                self.accepted.add((body["principal"], body["statement"], body["digest"]))
            case Kind.REQUEST:
                self.cases[body["id"]] = _case(body)
            case Kind.APPROVE:
                case = self.cases.get(body["case"])
                if case is not None:
                    self.cases[case.id] = replace(case, approver=body["principal"])
            case Kind.REJECT:
                self.cases.pop(body["case"], None)
            case Kind.ANSWER:
                self.cases.pop(body["case"] or "", None)
                self._use(record)
            case _:
                pass
        for name in [name for name, case in self.cases.items() if case.expires_ms <= self.time_ms]:
            del self.cases[name]

    def _use(self, record: Record) -> None:
        """Count an answer, and let go of what no budget looks at any more."""
        use = Use(record.time_ms, frozenset(record.body["tokens"]))
        for name in record.body["classes"]:
            uses = self.uses[record.body["principal"], name]
            uses.append(use)
            while uses[0].time_ms <= record.time_ms - LONGEST_WINDOW_MS:
                uses.popleft()

    def used(self, principal: str, class_name: str, window_ms: int, now_ms: int) -> tuple[int, set[str]]:
        """Return how many answers a principal got for a class within a window, and the marks of what it saw."""
        marks: set[str] = set()
        answers = 0
        for use in reversed(self.uses.get((principal, class_name), ())):
            if use.time_ms <= now_ms - window_ms:
                break
            answers += 1
            marks |= use.marks
        return answers, marks

    def carried(self) -> dict[str, Any]:
        """Return what the first record of a new segment must hold, so that older ones need not be read for it."""
        return {
            "accepted": sorted(self.accepted),
            "cases": [_carried_case(case) for _, case in sorted(self.cases.items())],
        }

    def _carry(self, carried: dict[str, Any]) -> None:
        self.accepted.update((principal, name, digest) for principal, name, digest in carried["accepted"])
        for body in carried["cases"]:
            self.cases[body["id"]] = replace(_case(body), approver=body["approver"])


def _case(body: Any) -> Case:  # noqa: ANN401 - JSON that a record's hash and signature vouch for.
    return Case(
        id=body["id"],
        principal=body["principal"],
        classes=tuple(body["classes"]),
        entry=body["entry"],
        domain=body["domain"],
        epoch=body["epoch"],
        marks=frozenset(body["tokens"]),
        reason=body["reason"],
        ticket=body["ticket"],
        expires_ms=body["expires_ms"],
    )


def _carried_case(case: Case) -> dict[str, Any]:
    return {
        "id": case.id,
        "principal": case.principal,
        "classes": list(case.classes),
        "entry": case.entry,
        "domain": case.domain,
        "epoch": case.epoch,
        "tokens": sorted(case.marks),
        "reason": case.reason,
        "ticket": case.ticket,
        "expires_ms": case.expires_ms,
        "approver": case.approver,
    }


def replay(records: Iterable[Record]) -> Ledger:
    """Return the state that records lead to."""
    ledger = Ledger()
    for record in records:
        ledger.apply(record)
    return ledger
