"""Fetches the real parts (Kafka's jars, the schema registry) through Maven, once, into a cache directory."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

_POM = Path(__file__).parent / "kafka" / "pom.xml"
_PROJECT = Path(__file__).parents[2]
_LEAST_JAVA = 17
"""Kafka 4 brokers need Java 17 (KIP-1013)."""


class PartMissingError(Exception):
    """A part that a test needs is not on this machine; the text says which and is shown to the user."""


def cache_directory() -> Path:
    """Return where fetched parts are kept: ``TOKENWEIR_TEST_CACHE``, or ``.cache`` in the project."""
    return Path(os.environ.get("TOKENWEIR_TEST_CACHE", _PROJECT / ".cache"))


def pinned_version(name: str) -> str:
    """Return a version that the pom pins, such as ``kafka`` or ``apicurio``."""
    # The file is part of this project, so no defence against hostile XML is needed.
    element = ET.parse(_POM).getroot().find(f".//{{*}}{name}.version")  # noqa: S314 - our own file.
    if element is None or not element.text:
        raise LookupError(name)
    return element.text


def java() -> str:
    """Return the path of a Java that can run a broker.

    Raises:
        PartMissingError: There is none, or it is too old.
    """
    path = shutil.which("java")
    if path is None:
        raise PartMissingError("Java is not installed")
    answer = subprocess.run([path, "-version"], capture_output=True, text=True, check=False, timeout=60)
    match = re.search(r'version "(\d+)', answer.stderr)
    if match is None or int(match[1]) < _LEAST_JAVA:
        raise PartMissingError(f"Java {_LEAST_JAVA} or later is needed")
    return path


def kafka_jars(version: str | None = None) -> Path:
    """Return a directory with the jars of a Kafka broker, the pinned version if none is given.

    Raises:
        PartMissingError: The jars are not cached and Maven is missing or cannot resolve them.
    """
    version = version or pinned_version("kafka")
    return _fetched(f"kafka-{version}", "dependency:copy-dependencies@kafka", f"-Dkafka.version={version}")


def registry_distribution() -> Path:
    """Return a directory with the unpacked schema registry.

    Raises:
        PartMissingError: It is not cached and Maven is missing or cannot resolve it.
    """
    version = pinned_version("apicurio")
    return _fetched(f"apicurio-{version}", "dependency:unpack@registry", f"-Dapicurio.version={version}")


def _fetched(name: str, goal: str, setting: str) -> Path:
    target = cache_directory() / name
    if not target.is_dir():
        with _locked(cache_directory() / f"{name}.lock"):
            if not target.is_dir():
                _fetch(target, goal, setting)
    return target


def _fetch(target: Path, goal: str, setting: str) -> None:
    """Let Maven fill a new directory beside the target, then rename it: a broken download leaves no half cache."""
    maven = shutil.which("mvn")
    if maven is None:
        raise PartMissingError(f"{target.name} is not in {target.parent} and Maven is not installed")
    print(f"tests: fetching {target.name} with Maven (once) …", file=sys.stderr, flush=True)  # noqa: T201 - progress.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.") as scratch:
        command = [maven, "-q", "-B", "-Dstyle.color=never", "-f", str(_POM), goal, setting, f"-Dtarget={scratch}/new"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
        if done.returncode:
            raise PartMissingError(f"Maven could not resolve {target.name}:\n{(done.stdout + done.stderr)[-2000:]}")
        Path(scratch, "new").rename(target)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file, so that two test runs at once do not download the same part twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
