"""Damages a consent store, in a process that LMDB may crash, and says what its readers and its next writer make of it.

An answer is wrong if it is another one than before the damage and comes without an error: unknown where there was a
deny counts, because there are legal bases for which only a deny matters. TOKENWEIR_SEED chooses other damage.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.support.stores import engine_of, native_rows

from tokenweir.adapters import consentfiles
from tokenweir.adapters.consentstore import (
    MAX_UNCLEAN_OPENS,
    ConsentStoreReader,
    ConsentStoreWriter,
    OpenReason,
    StoreError,
)
from tokenweir.adapters.readersigns import forget_the_dead
from tokenweir.core.consent import ConsentRecord, Decision, SourceState, Verdict, Word, answer, to_value
from tokenweir.core.subjects import Subject

ROOT: Final = Path(__file__).parents[2]
KEYS: Final = bytes(range(32)), bytes(range(32, 64))
MAP_BYTES: Final = 2**26
_PAGE_BYTES: Final = 4096
NOW_MS: Final = 1_795_341_600_000
TOPIC_ID: Final = "dG9waWMtMS1pZC0xMjM0NQ"
_KNOWN: Final = 600
_UNKNOWN: Final = 100
_SEED: Final = os.environ.get("TOKENWEIR_SEED", "5")
FATAL: Final = {-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT}


def writer(directory: Path) -> ConsentStoreWriter:
    """Return a writer that is not open yet."""
    return ConsentStoreWriter(directory, *KEYS, "boot-1", engine=engine_of(directory), map_bytes=MAP_BYTES)


def reader_of(directory: Path) -> ConsentStoreReader:
    """Return a reader."""
    return ConsentStoreReader(directory, *KEYS, engine=engine_of(directory), map_bytes=MAP_BYTES)


def open_store(store: ConsentStoreWriter) -> OpenReason:
    """Open it."""
    return store.open(TOPIC_ID, 1, 3_600_000, NOW_MS)


def _subject(number: int) -> Subject:
    return Subject("customer", f"{number:010}")


def _last_word(number: int) -> Word:
    return "allow" if number % 2 else "deny"


def build(directory: Path) -> None:
    """Make a complete, closed store of several pages.

    Everyone has changed their mind twice, so that old pages lie between those that count.
    """
    store = writer(directory)
    open_store(store)
    offset = 0
    for round_number in range(3):
        for first in range(0, _KNOWN, 100):
            records = []
            for number in range(first, first + 100):
                value = to_value(SourceState(NOW_MS, {"a": Decision(_last_word(number + round_number), NOW_MS)}))
                records.append(ConsentRecord(0, offset, _subject(number).canonical.encode(), value, NOW_MS))
                offset += 1
            store.apply(records, {0: offset})
    store.mark_complete(NOW_MS)
    store.close()


# What does damage, in a process of its own.


def _flip(data: bytearray, dice: random.Random) -> None:
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _cut_short(data: bytearray, dice: random.Random) -> None:
    del data[dice.randrange(len(data)) :]


def _tear(data: bytearray, dice: random.Random) -> None:
    """Leave a part of a page as it was before it was ever written, as a write that did not finish does."""
    page = _PAGE_BYTES * dice.randrange(len(data) // _PAGE_BYTES)
    part = slice(page + 512 * dice.randrange(1, 8), page + _PAGE_BYTES)
    data[part] = bytes(part.stop - part.start)


def _u16(data: bytes | bytearray, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _live_pages(data: bytearray) -> tuple[list[int], list[int]]:
    """Return where the pages of branches and the leaves begin that belong to the newest root; see LMDB's ``mdb.c``."""
    metas = [_PAGE_BYTES * page for page in range(2)]
    newest = max(metas, key=lambda at: int.from_bytes(data[at + 144 : at + 152], "little"))
    found: tuple[list[int], list[int]] = [], []
    pages = [int.from_bytes(data[newest + 128 : newest + 136], "little")]
    while pages:
        page = _PAGE_BYTES * pages.pop()
        is_branch = _u16(data, page + 10) & 1
        found[0 if is_branch else 1].append(page)
        if is_branch:
            pages += [_u16(data, node) | _u16(data, node + 2) << 16 for node in _nodes(data, page)]
    return found


def _nodes(data: bytearray, page: int) -> list[int]:
    return [page + _u16(data, at) for at in range(page + 16, page + _u16(data, page + 12), 2)]


def _mislead(data: bytearray, dice: random.Random) -> None:
    """Let a page of branches name a page of other keys, one bit being another where that is possible.

    What an older page of the same keys says cannot be told from the truth.
    """
    branches, leaves = _live_pages(data)
    node = dice.choice(_nodes(data, dice.choice(branches)))
    right = _u16(data, node)
    wrong = [page // _PAGE_BYTES for page in (*branches, *leaves) if page // _PAGE_BYTES != right]
    near = [page for page in wrong if (page ^ right).bit_count() == 1]
    data[node : node + 2] = dice.choice(near or wrong).to_bytes(2, "little")


def _hide(data: bytearray, dice: random.Random) -> None:
    """Let a page say that it has fewer entries than it has, one bit being another."""
    page = dice.choice(dice.choice(_live_pages(data)))
    lower = _u16(data, page + 12)
    fewer = [less for bit in range(1, 12) if 16 < (less := lower ^ 1 << bit) < lower]
    data[page + 12 : page + 14] = dice.choice(fewer).to_bytes(2, "little")


_DAMAGES: Final[dict[str, Callable[[bytearray, random.Random], None]]] = {
    "flip": _flip,
    "cut_short": _cut_short,
    "tear": _tear,
    "mislead": _mislead,
    "hide": _hide,
}


def put(path: Path, content: bytes) -> None:
    """Change a file in place: who has it mapped sees it at once."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate(len(content))


def _judge_answers(reader: ConsentStoreReader, dice: random.Random) -> str:
    """Look everyone up, in any order; where the native engine does so itself, it must come to the same."""
    numbers = list(range(_KNOWN + _UNKNOWN))
    dice.shuffle(numbers)
    ways = [_judge_lookups]
    if engine_of(reader.directory) == "native":
        ways.insert(dice.randrange(2), _judge_native_lookups)
    found = {way(reader, numbers) for way in ways}
    return found.pop() if len(found) == 1 else "different"


def _judge_lookups(reader: ConsentStoreReader, numbers: list[int]) -> str:
    """Ask for one after the other; the first error ends it, as it ends a worker's batch."""
    try:
        with reader.snapshot() as snapshot:
            for number in numbers:
                expected = _last_word(number + 2) if number < _KNOWN else Verdict.UNKNOWN
                if answer(snapshot.lookup(_subject(number)), "a", NOW_MS).kind != expected:
                    return "wrong"
    except StoreError:
        return "found"
    return "exact"


def _judge_native_lookups(reader: ConsentStoreReader, numbers: list[int]) -> str:
    try:
        with reader.snapshot() as snapshot:
            rows = native_rows(snapshot, [_subject(number) for number in numbers])
    except StoreError:
        return "found"
    written = [
        [[("a", _last_word(number + 2) == "deny", NOW_MS, None)]] if number < _KNOWN else [] for number in numbers
    ]
    return "exact" if rows == [(states, False, False, [], []) for states in written] else "wrong"


def _read_while_damaged(directory: Path, original: bytes, damaged: bytes, dice: random.Random) -> str:
    data = directory / consentfiles.DATA
    put(data, original)
    reader = reader_of(directory)
    reader.snapshot().close()
    put(data, damaged)
    found = _judge_answers(reader, dice)
    reader.close()
    (directory / consentfiles.CORRUPT).unlink(missing_ok=True)
    return found


def _start_damaged(directory: Path, original: bytes, damaged: bytes, dice: random.Random) -> str:
    del original
    data, mark = directory / consentfiles.DATA, directory / consentfiles.MARK
    closed = mark.read_bytes()
    put(data, damaged)
    store = writer(directory)
    reason, complete = open_store(store), store.complete
    store.close()
    if reason is OpenReason.KEPT and complete:
        reader = reader_of(directory)
        found = _judge_answers(reader, dice)
        reader.close()
    else:
        # Of the two roots that LMDB keeps, the older one is from before the store was complete: it goes on from there.
        found = "resumed" if reason is OpenReason.KEPT else "rebuilt"
    (directory / consentfiles.CORRUPT).unlink(missing_ok=True)
    mark.write_bytes(closed)
    return found


def _work(kind: str, damage: str, numbers: range, *, directory: Path, original: Path) -> None:
    """Do one damage after the other, and say what each came to."""
    body = {"live": _read_while_damaged, "start": _start_damaged}[kind]
    content = original.read_bytes()
    for number in numbers:
        dice = random.Random(f"{_SEED}/{damage}/{number}")
        damaged = bytearray(content)
        _DAMAGES[damage](damaged, dice)
        print(body(directory, content, bytes(damaged), dice), flush=True)  # noqa: T201  # The protocol with the test.


def do_damage(directory: Path, kind: str, damage: str, count: int, after_crash: Callable[[], None]) -> Counter[str]:
    """Have damage done to a built store, and return what it came to.

    A crash of the process that reads it is an outcome too, and the next process goes on behind it.
    """
    original = directory.with_name("original")
    original.write_bytes((directory / consentfiles.DATA).read_bytes())
    mark = (directory / consentfiles.MARK).read_bytes()
    outcomes: list[str] = []
    while len(outcomes) < count:
        command = [sys.executable, "-m", "tests.support.storedamage", str(directory), str(original), kind, damage]
        done = subprocess.run(
            [*command, str(len(outcomes)), str(count)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
            timeout=120,
        )
        outcomes += done.stdout.split()
        if done.returncode:
            assert done.returncode in FATAL, done.stderr
            outcomes.append("crashed")
            after_crash()
            # The next one begins with a store that was closed in order.
            (directory / consentfiles.DATA).write_bytes(original.read_bytes())
            (directory / consentfiles.MARK).write_bytes(mark)
            forget_the_dead(directory)
    return Counter(outcomes)


def after_a_reader_died(directory: Path) -> None:
    """Assert that the next look of the writer finds it, and that the store is begun anew."""
    store = writer(directory)
    assert store.corruption_reported()
    assert open_store(store) is OpenReason.CORRUPT
    assert not store.corruption_reported()
    store.close()


def after_the_writer_died(directory: Path) -> None:
    """Assert that this ends: after a few more crashes at most, the store is begun anew."""
    for _ in range(MAX_UNCLEAN_OPENS):
        code = f"from tests.support.storedamage import *; print(open_store(writer(Path({str(directory)!r}))))"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60
        )
        if done.returncode == 0:
            break
        assert done.returncode in FATAL, done.stderr
    assert done.stdout.strip() in {OpenReason.UNCLEAN, OpenReason.CORRUPT}


if __name__ == "__main__":
    _work(
        sys.argv[3],
        sys.argv[4],
        range(int(sys.argv[5]), int(sys.argv[6])),
        directory=Path(sys.argv[1]),
        original=Path(sys.argv[2]),
    )
