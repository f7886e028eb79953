"""Tokens that are pinned for ever: ``tests/golden/tokens.json``, and the keys that made them."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from tokenweir.core.keys import Keyset
from tokenweir.core.tokens import TokenSpec

FILE: Final = Path(__file__).parents[1] / "golden" / "tokens.json"
DOMAIN: Final = "crm"
ENTRY: Final = "entry"
ADAPTER: Final[TypeAdapter[TokenSpec]] = TypeAdapter(TokenSpec)


def golden_keyset() -> Keyset:
    """Return the keyset of the file."""
    count = itertools.count()
    return Keyset.ephemeral([DOMAIN, "ads"], lambda size: hashlib.sha256(b"root %d" % next(count)).digest()[:size])


def golden_tokens() -> list[tuple[dict[str, Any], str, str]]:
    """Return parameters, value and token of each entry."""
    entries = json.loads(FILE.read_text("utf-8"))
    return [(entry["parameters"], entry["value"], entry["token"]) for entry in entries]


def main() -> None:
    """Fill in the tokens that are missing; those that are there stay as they are."""
    keyset = golden_keyset()
    entries = json.loads(FILE.read_text("utf-8"))
    for entry in entries:
        if "token" not in entry:
            spec = ADAPTER.validate_python(entry["parameters"])
            entry["token"] = keyset.tokenizer(DOMAIN, ENTRY, spec).tokenize(entry["value"])
    lines = ",\n".join(json.dumps(entry, ensure_ascii=True) for entry in entries)
    FILE.write_text(f"[\n{lines}\n]\n", "utf-8")


if __name__ == "__main__":
    main()
