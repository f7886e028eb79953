"""FF1 against the samples of NIST and the cases of ACVP, in both directions, one by one and in batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.native import ff1_class

from tokenweir.ff1 import FF1, TextFF1

HERE = Path(__file__).parent
NIST = json.loads((HERE / "nist" / "FF1samples.json").read_text())["tests"]
ACVP = json.loads((HERE / "acvp" / "ACVP-AES-FF1-1.0-internalProjection.json").read_text())["testGroups"]


@pytest.fixture(autouse=True, params=["reference", "native"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test with the FF1 of each engine."""
    monkeypatch.setattr(f"{__name__}.FF1", ff1_class(request.param))


def bind(case: dict[str, Any], alphabet: str, *, strict: bool) -> tuple[TextFF1, bytes]:
    """Return FF1 and the tweak of a case."""
    return FF1.over(bytes.fromhex(case["key"]), alphabet, strict=strict), bytes.fromhex(case["tweak"])


@pytest.mark.parametrize("case", NIST, ids=lambda case: f"sample{case['sample']}")
def test_nist_sample(case: dict[str, Any]) -> None:
    """Every NIST sample encrypts and decrypts to the published text, as text and as numerals, in strict mode."""
    ff1, tweak = bind(case, case["alphabet"], strict=True)
    plain = [case["alphabet"].index(character) for character in case["pt"]]
    cipher = [case["alphabet"].index(character) for character in case["ct"]]
    numerals = FF1(bytes.fromhex(case["key"]), case["radix"])

    assert ff1.encrypt_text(case["pt"], tweak) == case["ct"]
    assert ff1.decrypt_text(case["ct"], tweak) == case["pt"]
    assert numerals.encrypt(plain, tweak) == cipher
    assert numerals.decrypt(cipher, tweak) == plain


@pytest.mark.parametrize("group", ACVP, ids=lambda group: f"group{group['tgId']}")
def test_acvp_group(group: dict[str, Any]) -> None:
    """Every ACVP case encrypts and decrypts to the published text, alone and in a batch."""
    for case in group["tests"]:
        ff1, tweak = bind(case, group["alphabet"], strict=False)

        assert ff1.encrypt_text(case["pt"], tweak) == case["ct"], case["tcId"]
        assert ff1.decrypt_text(case["ct"], tweak) == case["pt"], case["tcId"]
        assert ff1.encrypt_many([case["pt"]] * 2, tweak) == [case["ct"]] * 2, case["tcId"]
        assert ff1.decrypt_many([case["ct"]] * 2, tweak) == [case["pt"]] * 2, case["tcId"]


def test_all_cases_are_there() -> None:
    """The files are complete: 9 samples and 750 cases, with keys of each size and inputs of 512 numerals."""
    cases = [case for group in ACVP for case in group["tests"]]

    assert (len(NIST), len(cases)) == (9, 750)
    assert {len(case["key"]) for case in cases} == {32, 48, 64}
    assert max(len(case["pt"]) for case in cases) >= 512
