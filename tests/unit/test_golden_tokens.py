"""Tokens that are pinned for ever, in both engines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.goldentokens import ADAPTER, DOMAIN, ENTRY, golden_keyset, golden_tokens
from tests.support.native import native_module

from tokenweir.core.plan import to_plain

GOLDEN = golden_tokens()


@pytest.mark.parametrize(("parameters", "value", "token"), GOLDEN)
def test_native_golden_token(parameters: dict[str, Any], value: str, token: str) -> None:
    """The native engine makes the pinned tokens too; those of the reference engine are in ``test_tokens.py``."""
    native = native_module()
    spec = ADAPTER.validate_python(parameters)
    keys = golden_keyset().entry_keys(DOMAIN, ENTRY, spec)
    tokenizer = native.Tokenizer(json.dumps(to_plain(spec)), keys.key.reveal(), keys.tweak_key.reveal())

    assert tokenizer.encrypt_many([value]) == [token]


def test_pinned_entries_are_unique() -> None:
    """No entry is there twice, so that none can be pinned to two tokens."""
    named = [(json.dumps(parameters, sort_keys=True), value) for parameters, value, _ in GOLDEN]

    assert len(set(named)) == len(named)
