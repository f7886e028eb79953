"""The body of the applier's process: builds the applier from what a spawned process is told, and runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tokenweir.adapters.consentstore import ConsentStoreWriter, store_directory
from tokenweir.adapters.freshness import FILE_NAME, FreshnessWriter
from tokenweir.core.librdkafka import PropertyValue
from tokenweir.runtime.applier import CLIENT_ID, ConsentApplier, Progress, Stop, nobody


@dataclass(frozen=True, slots=True)
class ApplierSettings:
    """What a spawned applier process needs to know.

    ``boot_id`` comes from :func:`tokenweir.adapters.consentstore.boot_id`, asked once for all processes.
    """

    properties: Mapping[str, PropertyValue]
    topic: str
    state_directory: Path
    id_key: bytes = field(repr=False)
    mac_key: bytes = field(repr=False)
    boot_id: str
    purposes: frozenset[str] | None = None
    client_id: str = CLIENT_ID
    engine: str = "reference"


def run_applier(settings: ApplierSettings, stop: Stop, on_progress: Callable[[Progress], None] = nobody) -> None:
    """Run the applier of a gateway until ``stop`` is set; the body of its process. Raises as :class:`ConsentApplier`.

    The store and the freshness file ``consent.fresh`` lie in the state directory.
    """
    store = ConsentStoreWriter(
        store_directory(settings.state_directory, settings.engine),
        settings.id_key,
        settings.mac_key,
        settings.boot_id,
        purposes=settings.purposes,
        engine=settings.engine,
    )
    # Before the freshness of another gateway's applier is overwritten.
    store.claim()
    freshness = FreshnessWriter(settings.state_directory / FILE_NAME, settings.boot_id)
    try:
        ConsentApplier(
            settings.properties,
            settings.topic,
            store,
            freshness,
            on_progress=on_progress,
            client_id=settings.client_id,
        ).run(stop)
    finally:
        freshness.close()
