"""What denies every subject: keys of the consent topic that cannot be read, unless somebody has acknowledged them.

Tools that read the topic themselves find such keys, and the gateway of this machine says which ones it has met, also
those that are compacted away since. What was acknowledged here counts for both, as it does for the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tokenweir.adapters.consentfiles import acknowledged, told_blocked
from tokenweir.config import Config
from tokenweir.runtime.gateway import store_of


@dataclass(frozen=True, slots=True)
class Blocks:
    """What denies every subject.

    Attributes:
        offsets: By consent partition, the offset of the last record that has to be acknowledged.
        acknowledgements_read: Whether those of this machine's gateway are counted; if not, some of these may be done.
        gateway_heard: Whether that gateway has said what it has met.
    """

    offsets: Mapping[int, int] = field(default_factory=dict)
    acknowledgements_read: bool = False
    gateway_heard: bool = False

    @property
    def commands(self) -> list[str]:
        """What a person types to end it, once it is known what the records meant."""
        return [f"tokenweir consent acknowledge {partition} {at}" for partition, at in sorted(self.offsets.items())]


def blocks_of(config: Config, topic_id: str, seen: Mapping[int, int]) -> Blocks:
    """Return what denies every subject.

    Args:
        config: Names the state directory.
        topic_id: The consent topic as it is now.
        seen: By consent partition, the offset of the last unreadable key that a read of the topic found.
    """
    directory = store_of(config)
    try:
        if not directory.is_dir():
            return Blocks(seen)
        accepted = acknowledged(config.state.directory, topic_id)
        told = told_blocked(directory, topic_id)
    except OSError:
        return Blocks(seen)
    met = told or {}
    last = {partition: max(seen.get(partition, -1), met.get(partition, -1)) for partition in seen.keys() | met.keys()}
    open_ = {partition: offset for partition, offset in last.items() if offset > accepted.get(partition, -1)}
    return Blocks(open_, acknowledgements_read=True, gateway_heard=told is not None)
