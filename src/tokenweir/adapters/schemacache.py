"""A registry that remembers on disk, answers from there while the real one does not, and pins what each id means.

Only silence makes it answer from memory: a registry that cannot be reached, answers 5xx, or takes too long. Whatever
the registry says clearly, as that there is no such schema or that it is not compatible, counts. And memory only ever
confirms: that something was there. That something was *not* there is never remembered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from tokenweir.adapters.registry import NO_ID, Kind, Reference, RegisteredSchema, Registry
from tokenweir.adapters.schemafiles import (
    SchemaFiles,
    StoredSchema,
    fingerprint,
    text_digest,
    with_registered,
    with_version,
    with_versions,
)
from tokenweir.errors import RegistryError, SchemaError

#: Kinds of errors that are silence and no answer.
SILENCE: Final = frozenset({"unavailable", "timeout"})

_FIRST_REST_SECONDS: Final = 0.5
_LONGEST_REST_SECONDS: Final = 5.0
_MAX_SUBJECTS: Final = 1_000

_Answer = TypeVar("_Answer")


class SchemaChangedError(RegistryError):
    """A schema id is another schema than it was: records would be read with the wrong one."""

    def __init__(self, schema_id: int, message: str) -> None:
        super().__init__("changed", message)
        self.schema_id = schema_id


class PinningRegistry:
    """Wraps a registry; see the module. May be shared by threads.

    After a silence the registry is left alone for a moment, longer each time, up to five seconds: questions that the
    files can answer are then answered at once, and the others fail at once. So a registry that hangs costs each
    process one time-out and not one for every question.
    """

    def __init__(  # noqa: PLR0913 - built in one place
        self,
        registry: Registry,
        files: SchemaFiles,
        monotonic: Callable[[], float],
        *,
        subject: str | None = None,
        on_failure: Callable[[str], None] = lambda _kind: None,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        """Wrap a registry.

        Args:
            registry: Who is asked.
            files: What was answered before.
            monotonic: A clock in seconds that never goes back.
            subject: The registry subject whose ids matter: for an id that was not its own when the registry last
                answered, :meth:`subjects_of` does not answer from memory, since it may have become its own.
            on_failure: Told the kind of each error that is the registry's own fault.
            on_answer: Told of each answer that is none.
        """
        self._registry = registry
        self._files = files
        self._monotonic = monotonic
        self._subject = subject
        self._on_failure = on_failure
        self._on_answer = on_answer
        self._lock = threading.Lock()
        self._silent: RegistryError | None = None
        self._rest_seconds = 0.0
        self._rest_until = 0.0
        self._pins: dict[int, str] = {}
        self._subjects: dict[int, frozenset[tuple[str, int]]] = {}
        self.answered_from_files = False

    def schema_by_id(self, schema_id: int) -> RegisteredSchema:
        """Return a schema.

        Raises:
            SchemaChangedError: It is another one than before.
        """
        try:
            found = self._ask(lambda: self._registry.schema_by_id(schema_id))
        except RegistryError as error:
            return self._remembered(error, self._files.schema(schema_id)).schema
        with self._lock:
            subjects = self._subjects.pop(schema_id, frozenset())
        self._keep(found, subjects)
        return found

    def verify(self, schema_id: int) -> None:
        """Ask the registry, and nobody else, whether an id still is the schema that it was.

        Raises:
            SchemaChangedError: It is another one.
            RegistryError: It does not say.
        """
        self._check(self._ask(lambda: self._registry.schema_by_id(schema_id)))

    def subjects_of(self, schema_id: int) -> list[tuple[str, int]]:
        """Return the subjects and versions under which an id is registered."""
        try:
            found = self._ask(lambda: self._registry.subjects_of(schema_id))
        except RegistryError as error:
            subjects = self._remembered(error, self._files.schema(schema_id)).subjects
            if self._subject is not None and self._subject not in {subject for subject, _version in subjects}:
                raise
            return sorted(subjects)
        # Kept with the schema, if that is asked for too: ids of other topics leave nothing behind.
        with self._lock:
            while len(self._subjects) >= _MAX_SUBJECTS:
                self._subjects.pop(next(iter(self._subjects)))
            self._subjects[schema_id] = frozenset(found)
        return found

    def versions(self, subject: str) -> list[int]:
        """Return the versions of a subject, oldest first."""
        try:
            found = self._ask(lambda: self._registry.versions(subject))
        except RegistryError as error:
            return sorted(self._remembered(error, self._files.subject(subject).versions or None))
        self._files.update_subject(subject, with_versions(found))
        return found

    def version(self, subject: str, version: int) -> RegisteredSchema:
        """Return one version of a subject.

        Raises:
            SchemaChangedError: Its id is another schema than before.
        """
        try:
            found = self._ask(lambda: self._registry.version(subject, version))
        except RegistryError as error:
            schema_id = self._remembered(error, self._files.subject(subject).versions.get(version))
            return self._remembered(error, self._files.schema(schema_id)).schema
        self._keep(found, frozenset({(subject, version)}))
        return found

    def latest(self, subject: str) -> RegisteredSchema:
        """Return the newest version of a subject; never from memory, which may lack it."""
        return self._ask(lambda: self._registry.latest(subject))

    def lookup(self, subject: str, text: str, kind: Kind) -> int:
        """Return the id of a schema that is registered under a subject already, in this very text."""
        return self._registered(subject, text, kind, lambda: self._registry.lookup(subject, text, kind))

    def register(self, subject: str, text: str, kind: Kind, references: Sequence[Reference] = ()) -> int:
        """Register a schema, or find it, and return its id."""
        if references:
            return self._ask(lambda: self._registry.register(subject, text, kind, references))
        return self._registered(subject, text, kind, lambda: self._registry.register(subject, text, kind))

    def set_compatibility(self, subject: str, level: str) -> None:
        """Set the rule for the next versions of a subject."""
        self._ask(lambda: self._registry.set_compatibility(subject, level))

    def is_compatible(self, subject: str, text: str, kind: Kind) -> bool:
        """Tell whether a schema could follow the newest version; from memory, whether it is registered."""
        try:
            return self._ask(lambda: self._registry.is_compatible(subject, text, kind))
        except RegistryError as error:
            self._remembered(error, self._files.subject(subject).registered.get(text_digest(text, kind)))
            return True

    def _registered(self, subject: str, text: str, kind: Kind, question: Callable[[], int]) -> int:
        digest = text_digest(text, kind)
        try:
            found = self._ask(question)
        except RegistryError as error:
            return self._remembered(error, self._files.subject(subject).registered.get(digest))
        self._files.update_subject(subject, with_registered(digest, found))
        return found

    def _remembered(self, error: RegistryError, answer: _Answer | None) -> _Answer:
        """Return what the files say in place of a silent registry; whatever else it was, the error stands."""
        if error.kind not in SILENCE or answer is None:
            raise error
        self.answered_from_files = True
        return answer

    def _keep(self, schema: RegisteredSchema, subjects: frozenset[tuple[str, int]]) -> None:
        if schema.id == NO_ID:
            return
        self._check(schema)
        self._files.add_schema(schema, subjects)
        for subject, version in subjects:
            self._files.update_subject(subject, with_version(version, schema.id))

    def _check(self, schema: RegisteredSchema) -> None:
        """Compare a schema with the pin of its id, or make that pin.

        The pin in memory holds even if the file is damaged while the process runs.
        """
        found = fingerprint(schema)
        stored: StoredSchema | None = self._files.schema(schema.id)
        pins = {self._pins.setdefault(schema.id, found if stored is None else stored.fingerprint)}
        if stored is not None:
            pins.add(stored.fingerprint)
        if pins != {found}:
            raise SchemaChangedError(
                schema.id,
                f"schema id {schema.id} is another schema than it was: what was written with the old one would be "
                "read wrongly, so nothing is processed. If the registry was restored or set up anew, give it back "
                "its schemas with their ids; only if no record with the old schema is left, remove "
                f"{self._files.schema_path(schema.id)} and start again",
            )

    def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        with self._lock:
            if self._silent is not None and self._monotonic() < self._rest_until:
                raise RegistryError(self._silent.kind, str(self._silent))
        try:
            answer = question()
        except RegistryError as error:
            self._note(error)
            raise
        except SchemaError:
            self._note(None)
            raise
        self._note(None)
        return answer

    def _note(self, error: RegistryError | None) -> None:
        """Keep whether the registry is silent, and tell how it is."""
        if error is None or error.kind in {"not_found", "incompatible"}:
            with self._lock:
                self._silent, self._rest_seconds = None, 0.0
            self._on_answer()
            return
        if error.kind in SILENCE:
            with self._lock:
                rest_seconds = min(max(self._rest_seconds * 2, _FIRST_REST_SECONDS), _LONGEST_REST_SECONDS)
                self._silent, self._rest_seconds = error, rest_seconds
                self._rest_until = self._monotonic() + rest_seconds
        self._on_failure(error.kind)
