"""Batches as columns: what stands in them is what stands in the outcomes of single records, at the right places."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from tokenweir.core.batches import FATES, Leaving, OutputBatch, Record, RecordBatch, output_batches
from tokenweir.core.outcome import Fate, Outcome, Reason, Treated

_HEADERS = st.lists(st.tuples(st.text(max_size=2), st.none() | st.binary(max_size=2)), max_size=2)
_TREATED = st.dictionaries(st.sampled_from(Treated), st.integers(1, 9))
_SANITIZED = st.builds(
    Outcome,
    st.just(Fate.SANITIZED),
    st.none() | st.binary(max_size=3),
    st.none() | st.binary(max_size=3),
    st.integers(-1, 2**50),
    _HEADERS,
    treated=_TREATED,
)
_WITHHELD = st.builds(Outcome, st.just(Fate.WITHHELD), treated=_TREATED)
_REJECTED = st.builds(Outcome.rejected, st.sampled_from(Reason), st.text(max_size=3))
_OUTCOMES = st.lists(st.lists(_SANITIZED | _WITHHELD | _REJECTED, min_size=2, max_size=2), max_size=12)


class _Plan(NamedTuple):
    bound: str
    prefixes: tuple[bytes, ...]


_PLANS = [_Plan("one", (b"a", b"bb")), _Plan("other", (b"c", b""))]


def _batch(records: int) -> RecordBatch:
    values: list[bytes | None] = [b"frame" + bytes([row]) for row in range(records)]
    return RecordBatch([_PLANS[row % 2] for row in range(records)], values, values, list(range(records)), None, 5)


@given(_OUTCOMES)
def test_an_output_has_what_its_outcomes_have(outcomes: list[list[Outcome]]) -> None:
    """Each value behind the frame of its own plan and output."""
    for index, output in enumerate(output_batches(_batch(len(outcomes)), outcomes)):
        own = [entries[index] for entries in outcomes]
        assert [FATES[code] for code in output.fates] == [outcome.fate for outcome in own]
        assert output.withheld == sum(outcome.fate is Fate.WITHHELD for outcome in own)
        assert [tuple(entry) for entry in output.rejected] == [
            (row, outcome.reason, outcome.field_path) for row, outcome in enumerate(own) if outcome.reason is not None
        ]
        assert output.leaving() == {
            row: Leaving(
                None if outcome.value is None else _PLANS[row % 2].prefixes[index] + outcome.value,
                outcome.key,
                outcome.timestamp_ms,
                outcome.headers or (),
            )
            for row, outcome in enumerate(own)
            if outcome.fate is Fate.SANITIZED
        }
        assert output.treated == [sum(outcome.treated.get(way, 0) for outcome in own) for way in Treated]


@given(_OUTCOMES, st.data())
def test_records_that_were_rejected_before_stand_between_the_others(
    outcomes: list[list[Outcome]], data: st.DataObject
) -> None:
    """What the engine did not come to ends the larger batch, as if it had been given all of it."""
    kinds = data.draw(st.lists(st.booleans(), max_size=12))
    rows = [row for row, decidable in enumerate(kinds) if decidable]
    reasons = {row: Reason.NOT_FRAMED for row, decidable in enumerate(kinds) if not decidable}
    decided = outcomes[: len(rows)]
    found = iter(decided)
    expected: list[list[Outcome]] = []
    for row in range(len(kinds)):
        entries = [Outcome.rejected(reasons[row])] * 2 if row in reasons else next(found, None)
        if entries is None:
            break
        expected.append(entries)

    made = output_batches(_batch(len(rows)), decided) or [OutputBatch(), OutputBatch()]
    whole = [output.with_rejected(rows, reasons) for output in made]
    for index, output in enumerate(whole):
        assert [FATES[code] for code in output.fates] == [entries[index].fate for entries in expected]
        assert [entry.row for entry in output.rejected] == [
            row for row, entries in enumerate(expected) if entries[index].reason is not None
        ]
        assert list(output.leaving()) == [
            row for row, entries in enumerate(expected) if entries[index].fate is Fate.SANITIZED
        ]


def test_records_come_out_of_their_frames() -> None:
    """With the plan that the engine has bound, and without headers where no record has any."""
    batch = RecordBatch(_PLANS, [b"frame1", None], [b"k", None], [5, 6], [[("h", b"v")], []], 5)
    assert batch.records() == [("one", Record(b"1", b"k", 5, [("h", b"v")])), ("other", Record(None, None, 6, []))]
    assert _batch(3).of_rows([2]).records() == [("one", Record(b"\x02", b"frame\x02", 2, ()))]


def test_nothing_of_a_record_is_shown() -> None:
    """Not in any message or traceback that shows a batch."""
    canary = b"canary"
    batch = RecordBatch([_PLANS[0]], [canary], [canary], [0], [[("canary", canary)]])
    output = OutputBatch()
    output.add(Outcome(Fate.SANITIZED, canary, canary, 0, [("canary", canary)]), b"")
    assert "canary" not in f"{batch!r} {output!r} {output.leaving()!r} {batch.records()!r}"
