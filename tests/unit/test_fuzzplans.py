"""The plans that the fuzz targets of the native engine read are those that are made now."""

from __future__ import annotations

from tests.support import fuzzplans


def test_the_plans_of_the_fuzz_targets_are_current() -> None:
    """Each file says what its policy and schema come to, and there is no other."""
    made = {f"{name}.json": fuzzplans.text_of(policy, plan) for name, (policy, plan) in fuzzplans.plans().items()}
    found = {path.name: path.read_text("utf-8") for path in (fuzzplans.FUZZ / "plans").iterdir()}
    assert found == made, "python -m tests.support.fuzzplans"
