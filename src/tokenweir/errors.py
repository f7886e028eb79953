"""Every error that tokenweir raises on purpose, and the findings that a user is shown.

The tree::

    TokenweirError                 exit code 1
    ├── FindingsError              1  what the files alone show; carries a list of Finding
    ├── UsageError                 2  the command line itself is wrong
    ├── RefusedError               3  refused for safety; it takes the world (broker, registry, keys) to know
    │   ├── KeysError              3  keyset or KEK missing, wrong, or readable by others
    │   │   ├── KekUnreachableError  3  the KEK's provider did not answer usefully in time
    │   │   └── WrappedRootError   3  a root does not open under its KEK for its place
    │   └── PreflightError         3  a topic, permission or plan is not fit to start
    ├── RegistryError              3  the schema registry did not answer usefully; carries a kind
    ├── FileFormatError            1  a file given on the command line cannot be read
    ├── SchemaError                1  a schema that the gateway cannot work with
    ├── InvalidValueError          1  a value does not fit its format; carries no part of the value
    └── DecodeError                1  bytes that do not follow their schema; carries (reason, path, position)

No message holds a value, a token or a key: messages may be logged, values never.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal


class TokenweirError(Exception):
    """Root of all errors that tokenweir raises on purpose."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is wrong in a file, with its place, its rule and what to do about it.

    Lines and columns count from 1; 0 means that the place is not known.
    """

    file: str
    line: int
    column: int
    rule: str
    message: str
    remedy: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        """Return ``policy.yaml:14:7: unknown-key: … (remedy)``, the form that editors and CI understand."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        level = "" if self.severity == "error" else "warning: "
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{place}: {level}{self.rule}: {self.message}{remedy}"


class FindingsError(TokenweirError):
    """A file does not say what it must; ``findings`` has every reason at once."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = findings


class UsageError(TokenweirError):
    """The command line cannot be understood or contradicts itself."""

    exit_code: ClassVar[int] = 2


class RefusedError(TokenweirError):
    """tokenweir will not do this because it would not be safe."""

    exit_code: ClassVar[int] = 3


class KeysError(RefusedError):
    """The keyset or its key-encryption key is missing, does not open, or is not protected."""


class KekUnreachableError(KeysError):
    """The provider of the KEK did not answer usefully in time; it has not said that the KEK may not be used."""


class WrappedRootError(KeysError):
    """A wrapped root does not open: it was changed, or sealed for another place or by another KEK."""

    def __init__(self) -> None:
        super().__init__("a wrapped root does not open")


class PreflightError(RefusedError):
    """Something that a running gateway needs is missing or unfit; ``problems`` lists all of it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class FileFormatError(TokenweirError):
    """A file cannot be read as what it should be."""


class SchemaError(TokenweirError):
    """A schema is malformed, over a limit, or uses something that cannot be sanitized.

    ``path`` is the path inside the schema where known.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.message = message
        self.path = path


class RegistryError(TokenweirError):
    """The schema registry could not be used.

    ``kind`` is one of ``not_found``, ``unavailable``, ``timeout``, ``denied``, ``incompatible``, ``malformed``,
    ``changed``; it is the label of a metric and decides what the caller does.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class InvalidValueError(TokenweirError, ValueError):
    """A value does not fit its format. The text says what was expected and never what was found."""


class DecodeError(TokenweirError):
    """Bytes that do not follow their schema or pass a limit.

    ``reason`` is a :class:`tokenweir.core.outcome.Reason` value, ``path`` the schema path (never a map's key or
    another part of the data), ``position`` the byte offset or -1.
    """

    def __init__(self, reason: str, path: str = "", position: int = -1) -> None:
        super().__init__(f"{reason} at {path or '(root)'}" + (f", byte {position}" if position >= 0 else ""))
        self.reason = reason
        self.path = path
        self.position = position
