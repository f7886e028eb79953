"""Epochs of a key domain, and the topics that carry them: a topic has the tokens of one epoch for as long as it lives.

The first epoch of an output has the bare topic; epoch n has ``{topic}.e{n}``, beside it while consumers move over. The
name follows from topic and epoch alone, so that no process can write the tokens of one epoch into the topic of another.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

FIRST_EPOCH: Final = 1

#: What a later epoch appends to the name of a topic, and what the mapping that leads to it appends.
_LATER: Final = re.compile(r"(.+)\.e([2-9]|[1-9][0-9]+)(?:\.mapping)?")


def epoch_topic(topic: str, epoch: int) -> str:
    """Return the topic of an output in an epoch."""
    return topic if epoch == FIRST_EPOCH else f"{topic}.e{epoch}"


def mapping_topic(topic: str, epoch: int) -> str:
    """Return the topic that leads from the tokens of the epoch before to those of this one."""
    return f"{epoch_topic(topic, epoch)}.mapping"


def reserved_by(topic: str, outputs: Collection[str]) -> str:
    """Return the output for one of whose later epochs a topic's name is kept, "" where it is free."""
    found = _LATER.fullmatch(topic)
    return found[1] if found is not None and found[1] in outputs else ""


def shown_epochs(outputs: Iterable[Iterable[int]]) -> str:
    """Return the epochs of a stream's outputs as they stand in the metadata of its offsets: ``2+1,1``.

    Outputs are in the order of the policy. Where each is in the first epoch alone there is nothing to say: "".
    """
    each = [tuple(epochs) for epochs in outputs]
    if all(epochs == (FIRST_EPOCH,) for epochs in each):
        return ""
    return ",".join("+".join(map(str, epochs)) for epochs in each)


def read_epochs(text: str, outputs: int) -> list[tuple[int, ...]] | None:
    """Return what :func:`shown_epochs` was given, or None where the text is that of no stream with so many outputs."""
    if not text:
        return [(FIRST_EPOCH,)] * outputs
    found: list[tuple[int, ...]] = []
    for part in text.split(","):
        numbers = part.split("+")
        if not all(number.isdecimal() for number in numbers):
            return None
        found.append(tuple(map(int, numbers)))
    return found if len(found) == outputs else None
