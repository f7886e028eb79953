"""The key under which an erased person stays denied: a hash stands in place of the id.

``type:~h.<key id>.<digest>`` has only characters that ids need no escapes for, so that it is a key of the consent topic
like any other: a reader that knows nothing of erasure takes it for a person of whom no event ever speaks. The digest is
the name that the subject has in the consent stores of all gateways with one keyset, HMAC-SHA-256 truncated to 128 bits;
the key id says under which key it was made, and tells nothing about that key. Whoever has another keyset cannot know
whom the record denies, and must take it for a key that cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from tokenweir.core.consent.states import EVERY_PURPOSE, UNDECODABLE, SourceState
from tokenweir.core.consent.topic import ConsentKey, ConsentKeyError, parse_key
from tokenweir.core.subjects import Subject

#: Where an erasure stands among the sources of a subject in the store; no source has a colon in its name.
ERASED_SOURCE: Final = ":erased"

DIGEST_BYTES: Final = 16
_PREFIX: Final = "~h."
_HASHED: Final = re.compile(r"~h\.([0-9a-f]{16})\.([0-9a-f]{32})\Z")


class HashedSubject(NamedTuple):
    """A data subject without its id: the type, the id of the key that hides it, and the hidden id."""

    type: str
    key_id: str
    digest: bytes

    @property
    def canonical(self) -> str:
        """The key of the consent topic."""
        return Subject(self.type, f"{_PREFIX}{self.key_id}.{self.digest.hex()}").canonical


#: Hides the id of a subject, with the key of one keyset.
Hasher = Callable[[Subject], HashedSubject]


def is_reserved(subject: Subject) -> bool:
    """Whether an id has the form of a hidden one; nobody's decisions can be written under such an id."""
    return _HASHED.match(subject.id) is not None


def hashed_subject(key: ConsentKey) -> HashedSubject | None:
    """Return what the key of an erasure says, None where the key is a person's."""
    found = None if key.source else _HASHED.match(key.subject.id)
    return None if found is None else HashedSubject(key.subject.type, found[1], bytes.fromhex(found[2]))


def read_key(data: bytes | None, key_id: str) -> ConsentKey:
    """Return whom a record speaks of, as a gateway sees it whose key has this id.

    Raises:
        ConsentKeyError: No subject can be told from it, or it is an erasure that was made with another keyset. With ""
            for the id of the key every erasure is believed.
    """
    key = parse_key(data)
    hashed = hashed_subject(key)
    if hashed is not None and key_id not in {"", hashed.key_id}:
        raise ConsentKeyError("the erasure was made with another keyset")
    return key


def erasure_of(state: SourceState | None) -> SourceState | None:
    """Return what an erasure's record makes of its subject: denied for every basis that asks, or None once lifted.

    It is stored as a state that cannot be read, which no decision of any source overrules, however new.
    """
    if state is None:
        return None
    every = state.decisions.get(EVERY_PURPOSE)
    stands = state.undecodable or (every is not None and every.decision == "deny")
    return UNDECODABLE if stands else None
