"""What is looked at before a start, as far as no broker is needed for it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.engines import EngineName
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.app import demodata
from tokenweir.config import load_config
from tokenweir.runtime import preflight
from tokenweir.runtime.gateway import Gateway
from tokenweir.runtime.sources import open_registry, read_text


class _NoBroker:
    """An admin client of a cluster that does not answer."""

    def topics(self) -> dict[str, int]:
        """Raise what the real one would."""
        raise KafkaFault("list topics", "_TRANSPORT", "nobody is there", retriable=True)


def test_a_directory_of_schemas_hides_no_other_check(tmp_path: Path) -> None:
    """That schema ids are missing is one failure among others, so that one call shows them all."""
    demodata.write(tmp_path, 1_700_000_000_000, bytes(16))
    config = load_config(tmp_path / demodata.CONFIG, {})
    gateway = Gateway(config, read_text(config.policy.file), str(config.policy.file), "", EngineName.REFERENCE)

    done = list(preflight.checks(gateway, cast("Admin", _NoBroker()), open_registry(config)))

    assert [check.name for check in done if not check.ok] == ["keys", "registry", "kafka"]
