"""Proofs of freshness: an answer counts from the start of its round trip, once the position has reached it."""

from __future__ import annotations

from tokenweir.runtime.proofs import FreshnessProofs


def test_an_answer_counts_when_it_is_reached() -> None:
    """Not before, and then with the time at which it was asked for."""
    proofs = FreshnessProofs(2)
    proofs.hear(100, {0: 5, 1: 7}, {0: 5, 1: 7})
    assert proofs.prove((5, 6)) == {0: 100}
    assert proofs.oldest_ns == 0
    assert proofs.prove((5, 7)) == {1: 100}
    assert proofs.oldest_ns == 100
    assert proofs.prove((9, 9)) == {}


def test_the_newest_answer_that_is_reached_counts() -> None:
    """Older ones that are reached with it say less; those beyond the position wait."""
    proofs = FreshnessProofs(1)
    for at_ns, end in ((100, 5), (200, 6), (300, 9)):
        proofs.hear(at_ns, {0: end}, {0: end})
    assert proofs.prove((8,)) == {0: 200}
    assert proofs.prove((9,)) == {0: 300}


def test_an_undecided_transaction_proves_nothing() -> None:
    """The last stable offset below the high watermark: what lies between may become a withdrawal."""
    proofs = FreshnessProofs(1)
    proofs.hear(100, {0: 5}, {0: 4})
    assert proofs.prove((5,)) == {}
    proofs.hear(200, {0: 5}, {0: 5})
    assert proofs.prove((5,)) == {0: 200}


def test_answers_that_are_never_reached_do_not_pile_up() -> None:
    """A position that stands still for long keeps the newest answers only."""
    proofs = FreshnessProofs(1)
    for at_ns in range(1, 1_001):
        proofs.hear(at_ns, {0: at_ns}, {0: at_ns})
    assert len(proofs._pending[0]) < 100
    assert proofs.prove((1_000,)) == {0: 1_000}


def test_no_partitions_are_never_fresh() -> None:
    """Before the topic is known there is no proof."""
    assert FreshnessProofs(0).oldest_ns == 0
