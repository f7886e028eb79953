"""Budgets over any history of requests: what a naive count over all answers would say, also after any restart."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.reversing import GRANTS

from tokenweir.app import demodata
from tokenweir.core.detokenize.chain import Kind, Position, Record
from tokenweir.core.detokenize.decide import Asked, Identity, accept_body, decide
from tokenweir.core.detokenize.grants import load_grants
from tokenweir.core.detokenize.ledger import Ledger, replay
from tokenweir.core.detokenize.models import LONGEST_WINDOW_MS, WINDOW_MS
from tokenweir.core.policy.loader import load_policy

BUDGETS = {"minute": (3, 4), "day": (6, 7), "month": (9, 10)}
TEXT = (
    GRANTS.replace(
        "[{per: day, requests: 5, values: 8}]",
        "["
        + ", ".join(f"{{per: {per}, requests: {most}, values: {values}}}" for per, (most, values) in BUDGETS.items())
        + "]",
    )
    .replace("USER", "alice")
    .replace("{roles: [fraud], user: frank", "{roles: [support], user: frank")
)
LOADED = load_grants(TEXT, "grants.yaml", load_policy(demodata.text("policy.yaml"), "policy.yaml"))
START_MS = 1_764_600_000_000


class Step(NamedTuple):
    """Somebody asks after a while, and perhaps the process is started anew before."""

    after_ms: int
    who: str
    marks: frozenset[str]
    restart: bool


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from([0, 1, 30_000, 59_999, 60_000, 3_600_000, 86_399_999, 86_400_000, 20 * 86_400_000]),
        st.sampled_from(["alice", "frank"]),
        st.frozensets(st.sampled_from("abcdefghijkl"), min_size=1, max_size=5),
        st.booleans(),
    ),
    max_size=40,
)


def naive(history: list[tuple[int, str, frozenset[str]]], now_ms: int, who: str, marks: frozenset[str]) -> bool:
    """Say whether there is room, by looking at every answer that there ever was."""
    for per, (most, values) in BUDGETS.items():
        window = [each for at, by, each in history if by == who and at > now_ms - WINDOW_MS[per]]  # type: ignore[index]
        if len(window) + 1 > most or len(marks.union(*window)) > values:
            return False
    return True


@settings(deadline=None)
@given(STEPS)
def test_decisions_are_those_of_a_naive_count(steps: list[Step]) -> None:
    """For every request; a restart reads a segment's first record and what lies within the longest window."""
    now_ms = START_MS
    records: list[Record] = []
    ledger = Ledger()

    def note(body: object) -> None:
        assert isinstance(body, dict)
        record = Record(Position(len(records), "0" * 64), now_ms, Kind(body["kind"]), body, "")
        records.append(record)
        ledger.apply(record)

    for who in ("alice", "frank"):
        digest = LOADED.statement_digest("confidentiality")
        note(accept_body(Identity("user", who), "confidentiality", digest, LOADED, "id"))
    history: list[tuple[int, str, frozenset[str]]] = []
    for number, step in enumerate(steps):
        now_ms += step.after_ms
        if step.restart:
            begun = Record(Position(0, "0" * 64), now_ms, Kind.SEGMENT, {"carried": ledger.carried()}, "")
            recent = [record for record in records if record.time_ms > now_ms - LONGEST_WINDOW_MS]
            ledger = replay([*recent, begun])
        marks = tuple(sorted(step.marks))
        asked = Asked(str(number), Identity("user", step.who), "customer", "crm", 1, marks, "Fraud", "CASE-1", "api")
        decision = decide(asked, LOADED, ledger, now_ms)
        assert decision.granted == naive(history, now_ms, step.who, step.marks)
        if decision.granted:
            history.append((now_ms, step.who, step.marks))
        note(decision.body)
