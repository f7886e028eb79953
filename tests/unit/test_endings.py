"""What a child's last error makes of its gateway."""

from __future__ import annotations

import pytest

from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.schemacache import SchemaChangedError
from tokenweir.errors import RegistryError
from tokenweir.runtime.endings import ExitCode, of_kafka_fault, of_registry_error


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("_TRANSPORT", ExitCode.UNSERVED),
        ("_AUTHENTICATION", ExitCode.UNSERVED),
        ("_FENCED", ExitCode.FENCED),
        ("INVALID_PRODUCER_EPOCH", ExitCode.FENCED),
        ("TOPIC_AUTHORIZATION_FAILED", ExitCode.REFUSED),
        ("GROUP_AUTHORIZATION_FAILED", ExitCode.REFUSED),
        ("CLUSTER_AUTHORIZATION_FAILED", ExitCode.REFUSED),
        ("TRANSACTIONAL_ID_AUTHORIZATION_FAILED", ExitCode.REFUSED),
    ],
)
def test_a_fault_of_kafka_decides_whether_to_start_again(
    code: str, expected: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not permitted will not be permitted a second later; the person who starts the gateway is told."""
    assert of_kafka_fault(KafkaFault("begin", code), "clicks", 0) is expected
    said = capsys.readouterr().err
    assert (f"error: begin: {code}; 'tokenweir doctor'" in said) == (expected is ExitCode.REFUSED)


def test_only_a_schema_that_has_changed_stops_the_gateway(capsys: pytest.CaptureFixture[str]) -> None:
    """A registry that fails may be well a second later; one that gives an id away twice will not."""
    assert of_registry_error(RegistryError("unavailable", "no answer"), "clicks") is ExitCode.UNSERVED
    assert capsys.readouterr().err == ""
    assert of_registry_error(SchemaChangedError(7, "schema id 7 has changed"), "clicks") is ExitCode.REFUSED
    assert "error: schema id 7 has changed" in capsys.readouterr().err
