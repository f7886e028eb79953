"""What validators of others say of 10,000 tokens of each format."""

from __future__ import annotations

import pytest
from tests.support.validators import LIBRARIES, PAGE, TOKENS, Row, accepted, rows


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.parameters} {row.validator}")
def test_tokens_pass_or_fail_as_promised(row: Row) -> None:
    """As many tokens as the format promises are valid to a public validator: all, none, or most."""
    assert row.least <= accepted(row) <= row.most


def test_page_has_every_row() -> None:
    """The page of the documentation is that of these rows, and says which versions were asked."""
    text = PAGE.read_text("utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| `{")]

    assert len(lines) == len(rows())
    for row, line in zip(rows(), lines, strict=True):
        entry = ", ".join(f"{key}: {value}" for key, value in row.parameters.items())
        _, first, _, validator, count, _ = (cell.strip() for cell in line.split("|"))
        assert (first, validator) == (f"`{{{entry}}}`", row.validator)
        assert row.least <= int(count.replace(",", "")) <= row.most
    assert all(library in text for library in LIBRARIES)
    assert f"{TOKENS:,}" in text
