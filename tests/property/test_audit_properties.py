"""Whatever stands in the place of an audit log, reading it ends with a record or with one kind of error."""

from __future__ import annotations

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from tokenweir.adapters.auditfiles import SigningKey
from tokenweir.core.detokenize.chain import (
    START,
    ChainError,
    Checkpoint,
    Position,
    decode,
    encode,
    first_record,
    parse_checkpoint,
    signed_bytes,
    verify,
)

KEY = SigningKey(bytes(range(32)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
TIMES = st.datetimes().map(str) | st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z")


def hashed(text: bytes) -> bytes:
    """Return a line whose hash is right."""
    digest = hashlib.sha256(b"tokenweir-audit1\n" + text[:-1]).hexdigest()
    return text[:-1] + f',"hash":"{digest}","sig":"{"0" * 128}"}}\n'.encode()


@given(st.binary(max_size=400))
def test_any_bytes_are_no_log(data: bytes) -> None:
    """Nor a line, a segment or a checkpoint; and nothing but that is said."""
    assert verify([("audit-000001.jsonl", data)], KEY.public(), {}).faults
    assert first_record(data) is None
    for read in (lambda: decode(data, START), lambda: parse_checkpoint(data.decode("latin-1"), KEY.public())):
        try:
            read()
        except ChainError:
            continue
        raise AssertionError("bytes that nobody made were taken")


@given(
    st.fixed_dictionaries(
        {"v": st.just(1) | JSON, "seq": st.just(0) | JSON, "time": TIMES | JSON, "kind": st.just("genesis") | JSON},
        optional={"prev": st.just("0" * 64) | JSON, "log": JSON},
    )
)
def test_a_right_hash_alone_is_no_record(body: dict[str, object]) -> None:
    """A line whose hash fits is a record of this version or an error; its signature is then still wrong."""
    line = hashed(json.dumps(body, separators=(",", ":")).encode())
    try:
        record = decode(line, START)
    except ChainError:
        pass
    else:
        assert (record.position.seq, record.kind) == (0, "genesis")
    assert verify([("audit-000001.jsonl", line)], KEY.public(), {}).faults


@given(st.text(max_size=60), st.text(max_size=60), st.integers(0, 253_402_300_799_999))
def test_what_is_written_is_read_again(principal: str, reason: str, time_ms: int) -> None:
    """Any text, in any language, and any time; the checkpoint of a record is read again too."""
    body = {"kind": "genesis", "log": "ab", "principal": principal, "reason": reason}
    line, record = encode("ab", START, time_ms, body, KEY.sign)
    read = decode(line, START)
    assert (read.position, read.time_ms, dict(read.body)) == (record.position, time_ms, dict(record.body))
    assert line.count(b"\n") == 1
    checkpoint = Checkpoint("ab", record.position, time_ms, record.signature)
    assert parse_checkpoint(checkpoint.text(), KEY.public()) == checkpoint
    assert not verify([("audit-000001.jsonl", line)], KEY.public(), {"c": checkpoint}).faults


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.text("0123456789abcdef", min_size=64, max_size=64))
def test_what_is_signed_is_unambiguous(one: int, other: int, digest: str) -> None:
    """Two records that differ in number or time never have the same signed bytes."""
    first = signed_bytes("ab", Position(one, digest), other)
    second = signed_bytes("ab", Position(other, digest), one)
    assert (first == second) == (one == other)
