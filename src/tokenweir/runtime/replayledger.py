"""What a replay has done, told by its child line by line so that the parent's sums are right whoever dies when.

Before a transaction commits, the child tells what it will have done (the intent) and up to which offsets. After the
commit it says that this is settled. Where it cannot know, because the answer to the commit was lost or it was killed
right then, the committed offsets of the group tell: nobody else moves them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Final

from tokenweir.runtime.replayletters import Counts, Handled, Kind

_SETTLED: Final = "settled"
_VOID: Final = "void"
#: What a chosen letter can have become.
CHOSEN: Final = frozenset({Handled.SANITIZED, Handled.WITHHELD, Handled.REJECTED, Handled.GONE})


def chosen(counts: Counts) -> int:
    """Return how many of the letters were chosen."""
    return sum(number for kind, number in counts.items() if kind.handled in CHOSEN)


@dataclass(frozen=True, slots=True)
class Intent:
    """What a transaction does.

    Attributes:
        counts: Letters by kind.
        next_offsets: The next offset of each partition of letters that it moves.
        gone: Partition and offset of the source records that are gone.
    """

    counts: tuple[tuple[str, str, str, int], ...]
    next_offsets: tuple[tuple[int, int], ...]
    gone: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, counts: Counts, next_offsets: Mapping[int, int], gone: Iterable[tuple[int, int]] = ()) -> Intent:
        """Return the intent with these counts, offsets and places."""
        flat = tuple((kind.audience, kind.reason, kind.handled.value, number) for kind, number in counts.items())
        return cls(flat, tuple(sorted(next_offsets.items())), tuple(gone))

    @classmethod
    def of_plain(cls, told: Mapping[str, Any]) -> Intent:
        """Return the intent that a line of JSON holds."""
        counts, next_offsets, gone = (tuple(map(tuple, told[name])) for name in ("counts", "next", "gone"))
        return cls(counts, next_offsets, gone)

    def counted(self) -> Counts:
        """Return the counts."""
        return Counter({Kind(audience, reason, Handled(word)): n for audience, reason, word, n in self.counts})

    def happened(self, committed: Mapping[int, int | None]) -> bool | None:
        """Whether the transaction was committed, as the group's offsets say; None where they do not say it."""
        if not self.next_offsets or any(number not in committed for number, _ in self.next_offsets):
            return None
        return all((committed[number] or 0) >= offset for number, offset in self.next_offsets)


class Ledger:
    """The child's side: tells each transaction before and after its commit.

    Args:
        out: Where lines go.
        unsettled: What the child before this one intended last and did not settle.
        on_gone: Told of each source record that is gone, once its letter is done with for good.

    Attributes:
        chosen: How many chosen letters were settled.
    """

    def __init__(
        self,
        out: IO[str],
        unsettled: Intent | None = None,
        on_gone: Callable[[int, int], None] = lambda _partition, _offset: None,
    ) -> None:
        self._out = out
        self._on_gone = on_gone
        self._intent = unsettled
        self.chosen = 0

    def intend(self, intent: Intent) -> None:
        """Tell what a transaction is going to do."""
        self._intent = intent
        self._write({"counts": intent.counts, "next": intent.next_offsets, "gone": intent.gone})

    def settle(self) -> None:
        """Tell that it is committed."""
        if self._intent is not None:
            intent, self._intent = self._intent, None
            self.chosen += chosen(intent.counted())
            self._write(_SETTLED)
            for place in intent.gone:
                self._on_gone(*place)

    def void(self) -> None:
        """Tell that it was aborted."""
        if self._intent is not None:
            self._intent = None
            self._write(_VOID)

    def resolve(self, committed: Mapping[int, int | None]) -> None:
        """Tell what became of a transaction whose end is not known, from stably committed offsets."""
        happened = None if self._intent is None else self._intent.happened(committed)
        if happened:
            self.settle()
        elif happened is False:
            self.void()

    def _write(self, line: object) -> None:
        self._out.write(f"{json.dumps(line)}\n")
        self._out.flush()


class Account:
    """The parent's side: the sums of all settled transactions."""

    def __init__(self) -> None:
        self.counts: Counts = Counter()
        self.unsettled: Intent | None = None

    def hear(self, lines: Iterable[str]) -> int:
        """Take lines into account; return how many transactions they settle."""
        settled = 0
        for line in lines:
            told = json.loads(line)
            if told == _SETTLED and self.unsettled is not None:
                self.counts += self.unsettled.counted()
                settled += 1
            self.unsettled = Intent.of_plain(told) if isinstance(told, dict) else None
        return settled
