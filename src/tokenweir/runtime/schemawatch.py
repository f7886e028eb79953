"""Asks the registry again and again, slowly, whether the schema ids in use still are the schemas that they were.

A plan is kept for as long as its process lives, so nobody else would notice that the registry was restored with other
schemas under the same ids; records of new producers would then be read with the wrong schema.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from tokenweir.adapters.schemacache import PinningRegistry, SchemaChangedError
from tokenweir.errors import RegistryError, SchemaError

#: Each id is asked for once in this time, but there is at most one question a second.
ROUND_SECONDS: Final = 30.0
_SHORTEST_PAUSE_SECONDS: Final = 1.0


class SchemaWatch:
    """A thread that stops its process in good order once an id has changed.

    Args:
        registry: Who is asked.
        ids: Gives the ids in use; called from the thread.
        stop: Set when an id has changed; ends the thread if others set it.
        round_seconds: How long it takes to ask for each id once.
    """

    def __init__(
        self,
        registry: PinningRegistry,
        ids: Callable[[], Sequence[int]],
        stop: threading.Event,
        round_seconds: float = ROUND_SECONDS,
    ) -> None:
        self._registry = registry
        self._ids = ids
        self._stop = stop
        self._round_seconds = round_seconds
        self._changed: SchemaChangedError | None = None
        self._thread = threading.Thread(target=self._run, name="schema-watch", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def raise_if_changed(self) -> None:
        """Raise what was found.

        Raises:
            SchemaChangedError: A schema id is another schema than it was.
        """
        if self._changed is not None:
            raise self._changed

    def _run(self) -> None:
        last = -1
        while True:
            ids = self._ids()
            pause_seconds = max(self._round_seconds / max(len(ids), 1), _SHORTEST_PAUSE_SECONDS)
            if self._stop.wait(min(pause_seconds, self._round_seconds)):
                return
            if not ids:
                continue
            last = next((number for number in ids if number > last), ids[0])
            try:
                self._registry.verify(last)
            except SchemaChangedError as error:
                self._changed = error
                self._stop.set()
                return
            except (RegistryError, SchemaError):
                continue  # A registry that does not say changes nothing; its faults are told elsewhere.
