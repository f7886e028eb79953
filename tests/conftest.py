"""Fixtures that every test may ask for: a real Kafka broker and a real schema registry, where this machine has them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import pytest

# Helpers are imported as `tests.support.…`, whether pytest, mypy or `python -m` looks for them.
sys.path.insert(0, str(Path(__file__).parents[1]))

# pytest-xdist gives its workers a terminal's width, which the output that tests read would follow.
os.environ.pop("COLUMNS", None)

from tests.support.artifacts import PartMissingError
from tests.support.native import native_module
from tests.support.rig import Broker, KafkaBroker, Registry, SchemaRegistry

_REAL_PARTS = {"kafka", "registry", "broker_factory"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that uses a real part outside the integration folder or without a mark that says so."""
    for item in items:
        if not _REAL_PARTS.intersection(getattr(item, "fixturenames", ())):
            continue
        marked = item.get_closest_marker("integration") or item.get_closest_marker("chaos")
        if "integration" not in item.path.parts or not marked:
            raise pytest.UsageError(f"{item.nodeid} uses a real part: move it to tests/integration and mark it")


def _missing(reason: PartMissingError) -> NoReturn:
    """Skip with the reason, or fail where every part is promised."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have every part: {reason}", pytrace=False)
    pytest.skip(str(reason))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for the whole session. Use own topic names and groups, and never kill it."""
    broker = _new_broker(tmp_path_factory.mktemp("kafka"), {})
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def broker_factory(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Give brokers of the test's own, not started: it may kill and restart them. They end with the test.

    Call it with broker properties as one mapping, or with nothing.
    """
    brokers: list[Broker] = []

    def new(settings: Mapping[str, str] | None = None) -> Broker:
        brokers.append(_new_broker(tmp_path / f"kafka-{len(brokers)}", settings or {}))
        return brokers[-1]

    yield new
    for broker in brokers:
        broker.kill()


def _new_broker(directory: Path, settings: Mapping[str, str]) -> Broker:
    try:
        return KafkaBroker(directory, settings=settings)
    except PartMissingError as error:
        from tests.support.containers import ContainerBroker, docker_answers  # noqa: PLC0415 - slow and rarely needed.

        if not docker_answers():
            _missing(error)
        return ContainerBroker(settings)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SchemaRegistry]:
    """One schema registry for the whole session. Use own subject names."""
    server: SchemaRegistry
    try:
        server = Registry(tmp_path_factory.mktemp("registry"))
    except PartMissingError as error:
        from tests.support.containers import ContainerRegistry, docker_answers  # noqa: PLC0415 - as above.

        if not docker_answers():
            _missing(error)
        server = ContainerRegistry()
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["native", "reference"])
def each_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let every gateway of a test run with this engine, once for each."""
    if request.param == "native":
        native_module()
    monkeypatch.setenv("TOKENWEIR__GATEWAY__ENGINE", request.param)
    return str(request.param)
