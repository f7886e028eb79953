"""The embedded list of librdkafka's properties agrees with the installed library and is checked as promised."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import confluent_kafka
import pytest

from tokenweir.core.librdkafka import (
    OWNED,
    PROPERTIES,
    PropertyValue,
    check_properties,
    for_admin,
    for_consumer,
    for_producer,
    text,
)

_ROW = re.compile(r"^(?P<name>\S+) +\| +(?P<scope>[CP*]) +\|")


def _installed_properties(directory: Path) -> dict[str, str]:
    """Ask the library inside the installed wheel for its own table."""
    package = Path(confluent_kafka.__file__).parent
    libraries = sorted((package.parent / "confluent_kafka.libs").glob("librdkafka*"))
    if not libraries:
        pytest.skip("this confluent-kafka was built against a librdkafka of the system")
    library = ctypes.CDLL(str(libraries[0]))
    system = ctypes.CDLL(None)
    system.fopen.restype = ctypes.c_void_p
    system.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    system.fclose.argtypes = [ctypes.c_void_p]
    library.rd_kafka_conf_properties_show.argtypes = [ctypes.c_void_p]
    path = directory / "properties.txt"
    stream = system.fopen(bytes(path), b"w")
    library.rd_kafka_conf_properties_show(stream)
    system.fclose(stream)
    rows = path.read_text(encoding="utf-8").splitlines()
    matches = [(row, _ROW.match(row)) for row in rows if "see dedicated API" not in row]
    return {match["name"]: match["scope"] for row, match in matches if match is not None}


def test_the_list_is_that_of_the_installed_library(tmp_path: Path) -> None:
    """Shared names have the same scope, and the release that the list was taken from has exactly its names."""
    installed = _installed_properties(tmp_path)

    assert len(installed) > 150
    shared = set(PROPERTIES) & set(installed)
    assert {name: PROPERTIES[name] for name in shared} == {name: installed[name] for name in shared}
    assert len(shared) > 0.9 * len(PROPERTIES)
    if confluent_kafka.libversion()[0].startswith("2.16."):
        assert set(PROPERTIES) == set(installed)


def test_every_owned_property_exists() -> None:
    """No rule is written for a name that librdkafka does not have."""
    assert set(OWNED) <= set(PROPERTIES)


@pytest.mark.parametrize(
    "key",
    [
        "isolation.level",
        "enable.auto.commit",
        "auto.offset.reset",
        "transactional.id",
        "enable.idempotence",
        "group.id",
    ],
)
def test_owned_properties_are_refused(key: str) -> None:
    """A property that the gateway owns is refused by name, without its value."""
    [problem] = check_properties({key: "canary-value", "client.rack": "a"})

    assert problem.key == key
    assert problem.problem == "is set by the gateway"
    assert "canary" not in "".join(problem)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("sasl.pasword", "sasl.password"),
        ("ssl_ca_location", "ssl.ca.location"),
        ("Security.Protocol", "security.protocol"),
    ],
)
def test_an_unknown_property_gets_the_nearest_name(key: str, meant: str) -> None:
    """A misspelt name is answered with the right one."""
    [problem] = check_properties({key: "x"})

    assert problem.problem == "is not a property of librdkafka"
    assert problem.remedy == f"did you mean '{meant}'?"


def test_an_unknown_property_without_a_neighbour_gets_no_guess() -> None:
    """Nothing is suggested where nothing is near."""
    [problem] = check_properties({"zzz.qqq": 1})

    assert "did you mean" not in problem.remedy


def test_a_fit_mapping_has_no_problem() -> None:
    """Security and tuning properties pass."""
    assert check_properties({"security.protocol": "sasl_ssl", "linger.ms": 5, "fetch.max.bytes": 1_000_000}) == []


def test_each_client_gets_its_own_properties() -> None:
    """Scopes decide, unknown names go to every client so that it refuses them, and values become text."""
    properties: dict[str, PropertyValue] = {
        "fetch.min.bytes": 1,
        "linger.ms": 0.5,
        "socket.keepalive.enable": True,
        "unknown.key": "x",
    }
    common = {"socket.keepalive.enable": "true", "unknown.key": "x"}

    assert for_consumer(properties) == {"fetch.min.bytes": "1", **common}
    assert for_producer(properties) == {"linger.ms": "0.5", **common}
    assert for_admin(properties) == common
    assert [text(False), text(0)] == ["false", "0"]
