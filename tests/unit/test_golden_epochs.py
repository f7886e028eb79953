"""Tokens of several key domains and epochs, pinned for ever: a consumer joins on tokens that were made years apart.

The root of each key domain and epoch is SHA-256 of ``tokenweir golden epochs, no secret: {domain} {epoch}``. A token of
the file never changes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import TypeAdapter
from tests.support.native import native_module

from tokenweir.core.keys import Keyset, TokenKey
from tokenweir.core.tokens import TokenSpec

ADAPTER: Final[TypeAdapter[TokenSpec]] = TypeAdapter(TokenSpec)
PINNED: Final[list[dict[str, Any]]] = json.loads((Path(__file__).parents[1] / "golden" / "epochs.json").read_text())


def _root(domain: str, epoch: int) -> TokenKey:
    return TokenKey(hashlib.sha256(f"tokenweir golden epochs, no secret: {domain} {epoch}".encode()).digest())


KEYSET: Final = Keyset(
    {(domain, epoch): _root(domain, epoch) for domain in ("crm", "ads") for epoch in (1, 2, 10)},
    {"crm": 10, "ads": 10},
    _root("state", 0),
)


@pytest.mark.parametrize("pinned", PINNED, ids=lambda row: f"{row['entry']}-{row['domain']}-{row['epoch']}")
def test_tokens_never_change(pinned: dict[str, Any]) -> None:
    """Neither with the version, nor with the engine."""
    spec = ADAPTER.validate_python(pinned["parameters"])
    place = (pinned["domain"], pinned["entry"], spec, pinned["epoch"])

    assert KEYSET.tokenizer(*place).tokenize(pinned["value"]) == pinned["token"]
    keys = KEYSET.entry_keys(*place)
    native = native_module().Tokenizer(
        spec.model_dump_json(exclude_none=True), keys.key.reveal(), keys.tweak_key.reveal()
    )
    assert native.encrypt_many([pinned["value"]]) == [pinned["token"]]


def test_no_two_sides_share_a_token() -> None:
    """Every key domain and epoch of the file has tokens of its own."""
    tokens = [(row["entry"], row["token"]) for row in PINNED]

    assert len(set(tokens)) == len(tokens) == 48
