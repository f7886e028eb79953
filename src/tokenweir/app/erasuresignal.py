"""What an erasure tells those who have received a person's records: the tokens under which they know the person.

Every output has a topic ``{output}.erasures``. Its records have a token as their key and no raw id anywhere. No two
outputs share anything but the day: not even the name of the erasure, because whoever reads both topics could join the
tokens of two key domains by it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from tokenweir.core.context import domain_of, topic_of
from tokenweir.core.keys import Keyset
from tokenweir.core.policy.classes import ClassTable
from tokenweir.core.policy.models import Policy, Tokenize
from tokenweir.core.subjects import Subject
from tokenweir.core.timestamps import format_date_time
from tokenweir.errors import InvalidValueError

DAY_MS: Final = 86_400_000
_SUFFIX: Final = ".erasures"


class Token(NamedTuple):
    """A token of the person: its entry in the policy, the epoch of its key, and itself."""

    entry: str
    epoch: int
    token: str

    def __repr__(self) -> str:
        return f"Token(entry={self.entry!r}, epoch={self.epoch}, ...)"


@dataclass(frozen=True, slots=True)
class Addressee:
    """One output whose readers are told.

    Attributes:
        stream: The stream.
        audience: Who gets the output.
        domain: The key domain of its tokens.
        topic: The output.
        tokens: Those of the person in it; none where its id does not leave.
    """

    stream: str
    audience: str
    domain: str
    topic: str
    tokens: tuple[Token, ...]

    @property
    def signal_topic(self) -> str:
        """Where its readers are told."""
        return signal_topic(self.topic)


def signal_topic(output_topic: str) -> str:
    """Return where the readers of an output are told of erasures."""
    return f"{output_topic}{_SUFFIX}"


def addressees(policy: Policy, keyset: Keyset, subject: Subject) -> list[Addressee]:
    """Return every output of a stream that speaks of subjects of this type, with the person's tokens in it.

    Tokens of a retired epoch are among them until it is destroyed: readers may still have records of it.

    Raises:
        KeysError: The keyset lacks a key domain.
    """
    table = ClassTable(policy)
    found = []
    for name, stream in policy.streams.items():
        if all(each.type != subject.type for each in stream.subjects):
            continue
        for output in stream.outputs:
            domain = domain_of(policy, output.audience)
            entries = dict.fromkeys(_entries(policy, table, subject.type, output.audience))
            tokens = tuple(_tokens(policy, keyset, domain, entries, subject.id))
            found.append(Addressee(name, output.audience, domain, topic_of(stream, output), tokens))
    return found


def _entries(policy: Policy, table: ClassTable, type_name: str, audience: str) -> Iterator[str]:
    """Yield the token entries that an id of this type can meet for an audience: by its class, or one below it."""
    own = policy.subjects[type_name].class_
    for name in policy.classes:
        if name == own or table.is_descendant(name, own):
            for rule in table.rules(name, audience):
                if isinstance(rule.do, Tokenize):
                    yield rule.do.tokenize


def _tokens(policy: Policy, keyset: Keyset, domain: str, entries: Mapping[str, None], id_: str) -> Iterator[Token]:
    for entry in entries:
        for epoch in keyset.epochs(domain):
            try:
                token = keyset.tokenizer(domain, entry, policy.tokens[entry], epoch).tokenize(id_)
            except InvalidValueError:
                # An id that does not fit the entry is never published under it.
                continue
            yield Token(entry, epoch, token)


def signalled_tokens(value: bytes) -> frozenset[bytes]:
    """Return the tokens that a record of a signal names, in every epoch; none where it is none that we wrote."""
    try:
        return frozenset(token["token"].encode() for token in json.loads(value)["tokens"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return frozenset()


def topics_of(output_topic: str, topics: Iterable[str]) -> list[str]:
    """Return those of some topics that carry an output: its own, and those of its later key epochs."""
    carries = re.compile(rf"{re.escape(output_topic)}(?:\.e[0-9]+)?")
    return sorted(topic for topic in topics if carries.fullmatch(topic))


def signal(addressee: Addressee, day_ms: int, ends: Mapping[str, Mapping[str, int]]) -> bytes:
    """Return the value of the record that tells an output's readers to delete what they have of the person.

    Args:
        addressee: The output.
        day_ms: The day of the erasure; a time of the day would join the tokens of two outputs.
        ends: By topic and partition of the output, the offset at or past which nothing of the person follows.
    """
    document = {
        "version": 1,
        "output": addressee.topic,
        "erased_on": format_date_time(day_ms)[:10],
        "tokens": [token._asdict() for token in addressee.tokens],
        "none_at_or_past": {topic: dict(sorted(ends[topic].items())) for topic in topics_of(addressee.topic, ends)},
    }
    return json.dumps(document, separators=(",", ":")).encode()
