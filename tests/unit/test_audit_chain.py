"""The chain of the audit log: every change of a byte, a line or its end is found."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import cast

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tokenweir.adapters.auditfiles import SigningKey
from tokenweir.core.detokenize.chain import (
    START,
    ChainError,
    Checkpoint,
    Kind,
    Position,
    Record,
    Verdict,
    decode,
    encode,
    first_record,
    parse_checkpoint,
    time_text,
    verify,
)

KEY = SigningKey(bytes(range(32)))
OTHER_KEY = SigningKey(bytes(32))
LOG = "00112233445566778899aabbccddeeff"
AT_MS = 1_764_600_000_123

Segments = list[tuple[str, bytes]]

ANSWER = {
    "kind": "answer",
    "id": "0a1b",
    "principal": "alice",
    "by": {"user": "alice"},
    "channel": "cli",
    "classes": ["id.customer"],
    "entry": "customer",
    "domain": "crm",
    "epoch": 1,
    "reason": "Chargeback",
    "ticket": "CASE-7",
    "tokens": ["54b3221e6be64cc96c8f7b9def913f7e"],
    "case": None,
    "grants": "48ab",
}


class RememberingKey:
    """A public key that checks each pair of signature and message once, so that many mutants are quickly tried."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key.public()
        self._valid: dict[tuple[bytes, bytes], bool] = {}

    def verify(self, signature: bytes, data: bytes) -> None:
        """As the key does it."""
        if (signature, data) not in self._valid:
            try:
                self._key.verify(signature, data)
            except InvalidSignature:
                self._valid[signature, data] = False
            else:
                self._valid[signature, data] = True
        if not self._valid[signature, data]:
            raise InvalidSignature


REMEMBERING = cast("Ed25519PublicKey", RememberingKey(KEY))


def chain(bodies: Sequence[dict[str, object]], key: SigningKey = KEY, log: str = LOG) -> tuple[bytes, list[Record]]:
    """Return the lines and records of a log with these bodies."""
    before, data, records = START, b"", []
    for number, body in enumerate(bodies):
        line, record = encode(log, before, AT_MS + number, body, key.sign)
        data += line
        records.append(record)
        before = record.position
    return data, records


def sample() -> tuple[Segments, list[Record]]:
    """Return a log of two segments with seven records."""
    accept: dict[str, object] = {"kind": "accept", "id": "01", "principal": "alice", "statement": "s", "digest": "d"}
    bodies: list[dict[str, object]] = [
        {"kind": "genesis", "log": LOG, "key": "00"},
        accept,
        ANSWER,
        ANSWER | {"kind": "refuse", "cause": "budget", "entry": None},
        {"kind": "segment", "log": LOG, "carried": {"accepted": [["alice", "s", "d"]], "cases": []}},
        ANSWER | {"reason": "Fraud"},
        {"kind": "recover", "bytes": 3, "sha256": "ab"},
    ]
    data, records = chain(bodies)
    lines = data.splitlines(keepends=True)
    return [("audit-000001.jsonl", b"".join(lines[:4])), ("audit-000002.jsonl", b"".join(lines[4:]))], records


SAMPLE, RECORDS = sample()


def checkpoint(record: Record, log: str = LOG) -> Checkpoint:
    """Return the checkpoint of a record."""
    return Checkpoint(log, record.position, record.time_ms, record.signature)


def check(segments: Segments, *anchors: Record, key: SigningKey = KEY) -> Verdict:
    """Verify with checkpoints of these records."""
    return verify(segments, key.public(), {f"c{each.position.seq}": checkpoint(each) for each in anchors})


def test_the_lines_are_pinned() -> None:
    """The stored form never changes: another program must be able to check old logs."""
    line = chain([{"kind": "genesis", "log": LOG, "key": "00"}])[0]
    assert line == (
        b'{"v":1,"seq":0,"time":"2025-12-01T14:40:00.123Z","kind":"genesis","log":"00112233445566778899aabbccddeeff",'
        b'"key":"00","prev":"' + b"0" * 64 + b'","hash":"'
        b"418f821a2058393cdf1a837d48e99674b09f7e50e650d42ab548c47578a59c78"
        b'","sig":"'
        b"0c24662a4cd9d83259dc8d13862290f5a6f106d40c012ca892cc20e5ffe8bebc"
        b"ab312fb81d773f272ed95efc9de10960ee27684ea35c2346dd174c72db71e90a"
        b'"}\n'
    )


def test_a_sound_log_is_found_sound() -> None:
    """Without a change there is no fault, with any checkpoint of it."""
    verdict = check(SAMPLE, *RECORDS)
    assert (verdict.faults, verdict.records, verdict.last, verdict.log) == ([], 7, RECORDS[-1].position, LOG)


def _mutants(data: bytes) -> Iterator[bytes]:
    """Yield the data with each byte changed in every single bit and in two other ways, removed, and doubled."""
    for index, byte in enumerate(data):
        before, after = data[:index], data[index + 1 :]
        for other in dict.fromkeys([*(byte ^ 1 << bit for bit in range(8)), 0x0A, 0x20]):
            if other != byte:
                yield before + bytes([other]) + after
        if data[index : index + 1] != data[index + 1 : index + 2]:
            yield before + after
            yield before + bytes([byte, byte]) + after
    yield data + b"\n"
    yield data + b"x"


def test_every_mutation_of_every_byte_is_found() -> None:
    """Each byte of each segment, in every bit, replaced, removed or doubled."""
    tried = 0
    for number, (name, data) in enumerate(SAMPLE):
        for mutant in _mutants(data):
            segments = [*SAMPLE[:number], (name, mutant), *SAMPLE[number + 1 :]]
            assert verify(segments, REMEMBERING, {}).faults, (name, mutant)
            tried += 1
    assert tried > 10 * sum(len(data) for _, data in SAMPLE)


def test_every_mutation_of_a_checkpoint_is_found() -> None:
    """A checkpoint that was changed is none."""
    text = checkpoint(RECORDS[3]).text()
    assert parse_checkpoint(text, KEY.public()) == checkpoint(RECORDS[3])
    for mutant in _mutants(text.encode()):
        with pytest.raises(ChainError):
            parse_checkpoint(mutant.decode("latin-1"), KEY.public())
    with pytest.raises(ChainError):
        parse_checkpoint(text, OTHER_KEY.public())


def _with_lines(lines: Sequence[bytes]) -> Segments:
    """Return the sample's segments with these lines, cut where the second begins."""
    cut = next((index for index, line in enumerate(lines) if b'"kind":"segment"' in line), len(lines))
    return [("audit-000001.jsonl", b"".join(lines[:cut])), ("audit-000002.jsonl", b"".join(lines[cut:]))]


LINES = b"".join(data for _, data in SAMPLE).splitlines(keepends=True)


def test_every_deletion_before_the_end_is_found_without_a_checkpoint() -> None:
    """Any run of lines that is missing from before the last line."""
    for start, end in itertools.combinations(range(len(LINES)), 2):
        assert check(_with_lines([*LINES[:start], *LINES[end:]])).faults, (start, end)


def test_every_exchange_and_repetition_is_found() -> None:
    """Any two lines that change places, and any line that stands twice, anywhere."""
    for one, other in itertools.combinations(range(len(LINES)), 2):
        lines = list(LINES)
        lines[one], lines[other] = lines[other], lines[one]
        assert check(_with_lines(lines)).faults, (one, other)
    for line, place in itertools.product(LINES, range(len(LINES) + 1)):
        assert check(_with_lines([*LINES[:place], line, *LINES[place:]])).faults


def test_every_truncation_is_found_with_a_checkpoint_behind_it() -> None:
    """Cut at any byte: a checkpoint of the last record shows it, at a record's end only that."""
    data = b"".join(LINES)
    ends = set(itertools.accumulate(map(len, LINES)))
    for length in range(len(data)):
        segments = _with_lines(data[:length].splitlines(keepends=True))
        assert check([each for each in segments if each[1]], RECORDS[-1]).faults
    for end in sorted(ends)[:-1]:
        segments = [each for each in _with_lines(data[:end].splitlines(keepends=True)) if each[1]]
        assert check(segments).faults == []
        found = check(segments, RECORDS[-1]).faults
        assert [(fault.segment, fault.line) for fault in found] == [("c6", 0)]
        assert "it was cut" in found[0].message


def test_segments_that_are_missing_or_exchanged_are_found() -> None:
    """Whole files: the first gone, the order changed, one twice, one joined to the other."""
    one, two = SAMPLE
    for segments in ([two], [two, one], [one, one], [one, two, two], [("audit-000001.jsonl", one[1] + two[1])], []):
        assert check(list(segments)).faults
    assert check([one]).faults == []
    assert check([one], RECORDS[-1]).faults


def test_a_log_rewritten_by_who_has_the_key_is_found_by_an_older_checkpoint() -> None:
    """A forger with the signing key makes a sound log of its own; a checkpoint from before shows it."""
    bodies = [dict(record.body) for record in RECORDS]
    bodies[2]["principal"] = "bob"
    for body in bodies:
        for name in ("v", "seq", "time", "prev"):
            body.pop(name)
    lines = chain(bodies)[0].splitlines(keepends=True)
    segments = _with_lines(lines)
    assert check(segments).faults == []
    assert check(segments, RECORDS[1]).faults == []
    assert "rewritten" in check(segments, RECORDS[2]).faults[0].message
    assert "rewritten" in check(segments, RECORDS[6]).faults[0].message


def test_another_log_and_another_key_are_found() -> None:
    """A new log in the place of the old one, and one that another key signed."""
    other = [("audit-000001.jsonl", chain([{"kind": "genesis", "log": "ff", "key": "00"}], log="ff")[0])]
    assert check(other).faults == []
    assert "replaced" in check(other, RECORDS[0]).faults[0].message
    assert check(SAMPLE, key=OTHER_KEY).faults
    forged = [("audit-000001.jsonl", chain([{"kind": "genesis", "log": LOG, "key": "00"}], OTHER_KEY)[0])]
    assert "signature" in check(forged).faults[0].message


def test_a_record_signed_in_another_log_does_not_fit() -> None:
    """The signature is over the log's id, so a record cannot move to another log of the same key."""
    line, _ = encode("ff" * 16, RECORDS[-1].position, AT_MS + 9, ANSWER, KEY.sign)
    segments = [SAMPLE[0], (SAMPLE[1][0], SAMPLE[1][1] + line)]
    assert "signature" in check(segments).faults[0].message


def test_time_never_goes_back() -> None:
    """A record that is older than the one before it is no record of this log."""
    line, _ = encode(LOG, RECORDS[-1].position, AT_MS - 1, ANSWER, KEY.sign)
    with pytest.raises(ChainError, match="older"):
        decode(line, RECORDS[-1].position, RECORDS[-1].time_ms)


@pytest.mark.parametrize(
    "change", [{"v": 2}, {"seq": True}, {"kind": "other"}, {"time": "2025-12-01T14:40:00Z"}, {"time": 7}, {"kind": []}]
)
def test_records_of_other_versions_are_refused(change: dict[str, object]) -> None:
    """A hash that fits is not enough: version, number, kind and time have one form."""
    import hashlib  # noqa: PLC0415 - only here a line is made by hand.
    import json  # noqa: PLC0415 - as above.

    body = {"v": 1, "seq": 0, "time": time_text(AT_MS), "kind": "genesis", "log": LOG, "prev": "0" * 64} | change
    text = json.dumps(body, separators=(",", ":")).encode()[:-1]
    digest = hashlib.sha256(b"tokenweir-audit1\n" + text).hexdigest()
    with pytest.raises(ChainError):
        decode(text + f',"hash":"{digest}","sig":"{"0" * 128}"}}\n'.encode(), START)


def test_no_line_is_endless() -> None:
    """What could not be read again is not written."""
    with pytest.raises(ValueError, match="too long"):
        encode(LOG, START, AT_MS, {"kind": "genesis", "log": "x" * 1_100_000}, KEY.sign)


def test_the_first_record_of_a_segment_is_found_without_those_before() -> None:
    """Reading may begin at any segment; what is no segment has no first record."""
    found = first_record(SAMPLE[1][1])
    assert found is not None
    assert (found.position, found.kind) == (RECORDS[4].position, Kind.SEGMENT)
    assert [first_record(data) for data in (b"", b"{}", b"[]\n", b'{"seq":1}\n', SAMPLE[1][1][1:])] == [None] * 5


def test_positions_compare() -> None:
    """A position is number and hash."""
    assert Position(-1, "0" * 64) == START
