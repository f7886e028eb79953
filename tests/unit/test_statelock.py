"""The lock of a state directory: who has it is named, and a replay never waits for another engine's consent."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tokenweir.errors import RefusedError
from tokenweir.runtime.gateway import Gateway
from tokenweir.runtime.replay import _Consent
from tokenweir.runtime.statelock import Holder, held_in_passing, holder, open_lock, try_lock


def _gateway(state: Path, engine: str) -> Gateway:
    config: Any = SimpleNamespace(
        state=SimpleNamespace(directory=state), consent=SimpleNamespace(max_staleness_seconds=5)
    )
    return cast("Gateway", SimpleNamespace(config=config, engine=engine, slots_directory=state / "slots"))


def test_the_process_that_has_the_lock_is_named(tmp_path: Path) -> None:
    """Whoever is refused knows which process to look for."""
    with open_lock(tmp_path) as lock:
        assert holder(lock) == Holder()
        assert try_lock(lock, passing=False, engine="native")
        assert holder(lock) == Holder(passing=False, pid=os.getpid(), engine="native")
        with pytest.raises(RefusedError, match=rf"\(process {os.getpid()}\): stop it first"), held_in_passing(tmp_path):
            pass


def test_what_another_version_wrote_names_nobody(tmp_path: Path) -> None:
    """A file that is empty, as a gateway of an older version left it, is no fault."""
    (tmp_path / "lock").write_text("something else entirely")
    with open_lock(tmp_path) as lock:
        assert holder(lock).words == "another process"


@pytest.mark.parametrize(("gateway", "replay"), [("native", "reference"), ("reference", "native")])
def test_a_replay_beside_a_gateway_of_another_engine_is_refused(tmp_path: Path, gateway: str, replay: str) -> None:
    """It would wait for ever for a store that nobody fills; it is told which engine to take instead."""
    with open_lock(tmp_path) as lock:
        assert try_lock(lock, passing=False, engine=gateway)
        consent = _Consent(_gateway(tmp_path, replay))
        with pytest.raises(RefusedError, match=f"TOKENWEIR__GATEWAY__ENGINE={gateway}") as refused:
            consent.open()
        consent.close()
    assert refused.value.exit_code == 3


def test_a_replay_beside_a_gateway_of_its_engine_uses_its_consent(tmp_path: Path) -> None:
    """So it does beside one that does not say its engine."""
    for engine in ("native", ""):
        with open_lock(tmp_path) as lock:
            assert try_lock(lock, passing=False, engine=engine)
            consent = _Consent(_gateway(tmp_path, "native"))
            consent.open()
            assert consent.tend() is None
            consent.close()


def test_a_gateway_of_another_engine_that_comes_later_is_noticed(tmp_path: Path) -> None:
    """A replay outlives restarts of the gateway whose consent it uses, but no change of its engine."""
    with open_lock(tmp_path) as lock:
        assert try_lock(lock, passing=True)
        consent = _Consent(_gateway(tmp_path, "native"))
        consent.open()
        assert consent.tend() is None
    with open_lock(tmp_path) as lock:
        assert try_lock(lock, passing=False, engine="reference")
        with pytest.raises(RefusedError, match="keeps consent for the reference engine"):
            consent.tend()
    consent.close()
