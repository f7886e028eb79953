"""The OpenAPI document against the running API: whatever is sent, answers are those that it declares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import ignored_auth, unsupported_method
from schemathesis.core.result import Ok
from tests.support.canaries import Canary, leaked
from tests.support.issuers import Issuer
from tests.support.reversing import GRANTS, Reversing
from tests.support.serving import Serving

ADA = "0000000101"
WIDE = GRANTS.replace("requests: 5, values: 8", "requests: 100000, values: 1000000")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Return a running API with wide budgets."""
    directory: Path = tmp_path_factory.mktemp("openapi")
    with Issuer() as issuer, Serving(Reversing.make(directory, WIDE), issuer) as running:
        running.accept("alice-sub")
        yield running


@pytest.fixture(scope="module")
def document(api: Serving) -> dict[str, Any]:
    """Return the document as the API gives it."""
    answer = api.client.get("/v1/openapi.json", headers=api.headers("alice-sub"))
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["sound", "unsound"])
def test_every_answer_is_declared(api: Serving, document: dict[str, Any], mode: GenerationMode) -> None:
    """Sound and unsound requests for every operation: no fault, and a declared status, body and media type."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=api.url)
    headers = api.headers("alice-sub")
    tried: list[str] = []

    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()

        @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:  # noqa: ANN401 - schemathesis' own type has parameters that nobody can name.
            response = case.call(headers=headers, timeout=30)
            assert response.status_code < 500
            case.validate_response(response, headers=headers, excluded_checks=[ignored_auth, unsupported_method])
            tried.append(case.path)

        try:
            check()
        except Unsatisfiable:  # An operation without any parameter has no unsound request.
            assert mode is GenerationMode.NEGATIVE
    assert len(set(tried)) >= 5
    assert len(tried) > 100


def test_the_document_says_how_callers_are_recognised(document: dict[str, Any]) -> None:
    """And describes every operation and problem."""
    assert set(document["components"]["securitySchemes"]) == {"token", "certificate"}
    assert set(document["paths"]) == {
        "/v1/detokenize",
        "/v1/statements/{name}",
        "/v1/statements/{name}/acceptance",
        "/v1/cases",
        "/v1/cases/{case}/approval",
        "/v1/cases/{case}/rejection",
    }
    for path in document["paths"].values():
        for operation in path.values():
            assert {"401", "403", "422", "429", "503"} <= operation["responses"].keys()
            assert operation["summary"]


def test_the_document_holds_no_data(api: Serving, document: dict[str, Any]) -> None:
    """No name of the policy, no value, no principal."""
    canaries = [Canary.of_text("value", ADA), Canary.of_text("token", api.scene.token(ADA))]
    text = str(document)
    assert leaked(canaries, text.encode()) == []
    assert not any(word in text for word in ("alice", "crm", "id.customer"))
