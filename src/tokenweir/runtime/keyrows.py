"""What the keyset's file says without being opened: which epochs each output of a stream has."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from tokenweir.adapters.keysource import KeyRow, active_epochs, describe_keyset
from tokenweir.config import Config
from tokenweir.core.context import EpochOutput, epoch_outputs
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


def outputs_of(
    policy: Policy, stream: str, rows: Collection[KeyRow], statuses: Collection[str] = FED
) -> tuple[EpochOutput, ...]:
    """Return the outputs of a stream in every epoch with one of these statuses, the active epoch first."""
    others: dict[str, tuple[int, ...]] = {}
    for row in sorted(rows, key=lambda row: -row.epoch):
        if row.status != "active" and row.status in statuses:
            others[row.domain] = (*others.get(row.domain, ()), row.epoch)
    return epoch_outputs(policy, stream, active_epochs(rows), others)
