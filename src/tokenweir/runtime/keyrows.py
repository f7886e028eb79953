"""What the keyset's file says without being opened: which epochs each output of a stream has."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from tokenweir.adapters.keysource import DESTROYED, KeyRow, active_epochs, describe_keyset
from tokenweir.config import Config
from tokenweir.core.context import EpochOutput, epoch_outputs, topic_of
from tokenweir.core.epochs import epoch_topic
from tokenweir.core.policy.models import Policy
from tokenweir.runtime.gateway import keyset_path

#: Epochs that a gateway feeds.
FED: Final = frozenset({"active", "retiring"})
#: Epochs that one may still feed that has not been restarted since the keyset was changed.
EVER_FED: Final = frozenset({"active", "retiring", "retired", "destroying", "destroyed"})


def read_rows(config: Config) -> list[KeyRow]:
    """Return the roots that the keyset names, none where there is no keyset.

    Raises:
        KeysError: it is malformed.
    """
    path = keyset_path(config)
    return describe_keyset(path) if path.exists() else []


def destroyed_roots(config: Config) -> frozenset[tuple[str, int]]:
    """Return key domain and epoch of each root that is destroyed, or being destroyed, as the file says now.

    Raises:
        KeysError: the file is missing or malformed.
    """
    rows = describe_keyset(keyset_path(config))
    return frozenset((row.domain, row.epoch) for row in rows if row.status in DESTROYED)


def newer_than(policy: Policy, stream: str, rows: Collection[KeyRow], fed: Sequence[Sequence[int]]) -> list[str]:
    """Return the topics of outputs that were fed in an epoch which the keyset does not know yet.

    ``fed`` are the epochs of each output of the stream, in the order of the policy.
    """
    found = policy.streams[stream]
    return [
        epoch_topic(topic_of(found, found.outputs[output.index]), max(fed[output.index]))
        for output in outputs_of(policy, stream, rows, ())
        if max(fed[output.index]) > output.epoch
    ]


def outputs_of(
    policy: Policy, stream: str, rows: Collection[KeyRow], statuses: Collection[str] = FED
) -> tuple[EpochOutput, ...]:
    """Return the outputs of a stream in every epoch with one of these statuses, the active epoch first."""
    others: dict[str, tuple[int, ...]] = {}
    for row in sorted(rows, key=lambda row: -row.epoch):
        if row.status != "active" and row.status in statuses:
            others[row.domain] = (*others.get(row.domain, ()), row.epoch)
    return epoch_outputs(policy, stream, active_epochs(rows), others)
