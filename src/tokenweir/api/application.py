"""The routes of the HTTP API, and nothing else: what a request means is decided in :mod:`tokenweir.app.detokenize`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

from fastapi import FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tokenweir import __version__
from tokenweir.adapters.auditfiles import AuditError
from tokenweir.api.documents import (
    CASE,
    NAME,
    Acceptance,
    CaseAnswer,
    CasesAnswer,
    DetokenizeAnswer,
    DetokenizeByEntry,
    DetokenizeRequest,
    Problem,
    StatementAnswer,
)
from tokenweir.api.gate import IDENTITY
from tokenweir.api.problems import BY_STATUS, MEDIA_TYPE, PROBLEMS, ProblemError, problem
from tokenweir.app.detokenize import Detokenizer, Outcome, Place
from tokenweir.core.detokenize.chain import time_text
from tokenweir.core.detokenize.decide import Cause, Identity
from tokenweir.core.detokenize.ledger import Case
from tokenweir.errors import FileFormatError, FindingsError
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log

#: Places by stream, field and audience; several where versions of a schema differ.
Fields = Mapping[tuple[str, str, str], set[Place]]
Count = Callable[..., None]

CasePath = Annotated[str, Path(pattern=CASE, description="Id of the request.")]
StatementPath = Annotated[str, Path(pattern=NAME, description="Name of the statement.")]

_FAULTS: Final = frozenset({Cause.REASON, Cause.TICKET, Cause.TOKENS})
_DOCUMENTED: Final = (401, 403, 404, 408, 413, 415, 422, 429, 500, 503)


def application(service: Detokenizer, fields: Fields, count: Count) -> FastAPI:
    """Return the application; the gate that recognises callers stands before it.

    Args:
        service: Decides, records and reverses.
        fields: Where the tokens of each field come from.
        count: Counts an outcome (its word, answered and invalid tokens) or a fault of the audit log (``audit=``).
    """
    # Telemetry of other libraries would see paths, and the pages of documentation would load scripts from elsewhere.
    app = FastAPI(
        title="tokenweir detokenize",
        version=__version__,
        description="Turns tokens back into values for those whom the grants file lets, with a durable record first.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        responses={status: _documented(status) for status in _DOCUMENTED},
    )
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI documents this way to extend it
    _add_answers(app, service, fields, count)
    _add_conditions(app, service)
    _add_problems(app, count)
    return app


def _documented(status: int) -> dict[str, Any]:
    title = ", or: ".join(title for each, title in PROBLEMS.values() if each == status)
    return {"description": title, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with what FastAPI cannot know: problems, and how callers are recognised."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            separate_input_output_schemas=False,
        )
        components = document["components"]
        components["schemas"]["Problem"] = Problem.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(unused, None)
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            "certificate": {"type": "mutualTLS"},
        }
        document["security"] = [{"token": []}, {"certificate": []}, {"token": [], "certificate": []}]
        app.openapi_schema = document
    return app.openapi_schema


def _caller(request: Request) -> Identity:
    identity = request.scope[IDENTITY]
    assert isinstance(identity, Identity)  # noqa: S101 - the gate has put it there.
    return identity


def _add_answers(app: FastAPI, service: Detokenizer, fields: Fields, count: Count) -> None:
    """Add what gives values. The functions run in threads: they wait for the disk."""

    @app.post("/v1/detokenize", summary="Turn tokens back into values")
    def detokenize(request: Request, wanted: DetokenizeRequest) -> DetokenizeAnswer:
        place = _place(wanted, fields)
        outcome = service.detokenize(
            _caller(request), place, wanted.tokens, reason=wanted.reason, ticket=wanted.ticket, channel="api"
        )
        if outcome.cause is not None:
            count(outcome.cause.value)
            raise _refusal(outcome)
        invalid = sum(value is None for value in outcome.values)
        count("granted", answered=len(outcome.values) - invalid, invalid=invalid)
        return DetokenizeAnswer(
            id=outcome.id, entry=place.entry, domain=place.domain, epoch=outcome.epoch, values=list(outcome.values)
        )


def _add_conditions(app: FastAPI, service: Detokenizer) -> None:
    """Add what must be done before values are given: statements, and approval of other people's requests."""

    @app.get("/v1/statements/{name}", summary="Read a statement")
    def statement(request: Request, name: StatementPath) -> StatementAnswer:
        found = service.statement(_caller(request), name)
        if found is None:
            raise ProblemError("refused")
        return StatementAnswer(name=name, text=found[0], digest=found[1])

    @app.post("/v1/statements/{name}/acceptance", status_code=204, summary="Accept a statement's text")
    def accept(request: Request, name: StatementPath, acceptance: Acceptance) -> None:
        if not service.accept(_caller(request), name, acceptance.digest):
            raise ProblemError("refused")

    @app.get("/v1/cases", summary="Show the requests that wait for you as the second person")
    def cases(request: Request) -> CasesAnswer:
        return CasesAnswer(cases=[_case(case) for case in service.cases(_caller(request))])

    @app.post("/v1/cases/{case}/approval", status_code=204, summary="Approve another person's request")
    def approve(request: Request, case: CasePath) -> None:
        if not service.decide_case(_caller(request), case, approve=True):
            raise ProblemError("refused")

    @app.post("/v1/cases/{case}/rejection", status_code=204, summary="Reject another person's request")
    def reject(request: Request, case: CasePath) -> None:
        if not service.decide_case(_caller(request), case, approve=False):
            raise ProblemError("refused")


def _place(wanted: DetokenizeRequest, fields: Fields) -> Place:
    """Return where the tokens come from; a field that is not known, or has several, is a place without a grant."""
    if isinstance(wanted, DetokenizeByEntry):
        return Place(wanted.entry, wanted.domain, wanted.epoch)
    found = {
        place
        for (stream, path, audience), places in fields.items()
        if (stream, path) == (wanted.stream, wanted.field) and wanted.audience in (None, audience)
        for place in places
    }
    place = found.pop() if len(found) == 1 else Place("", "")
    return Place(place.entry, place.domain, wanted.epoch)


def _refusal(outcome: Outcome) -> ProblemError:
    """Return what a caller may know of a refusal; everything that could tell of entries or budgets is one thing."""
    if outcome.cause in _FAULTS:
        return ProblemError("unfit", request=outcome.id, fault=outcome.cause)
    if outcome.cause is Cause.STATEMENT:
        return ProblemError("statement-required", request=outcome.id, statement=outcome.statement)
    if outcome.cause is Cause.APPROVAL:
        return ProblemError("approval-required", request=outcome.id, case=outcome.case)
    return ProblemError("refused", request=outcome.id)


def _case(case: Case) -> CaseAnswer:
    return CaseAnswer(
        case=case.id,
        principal=case.principal,
        entry=case.entry,
        domain=case.domain,
        epoch=case.epoch,
        tokens=len(case.marks),
        reason=case.reason,
        ticket=case.ticket,
        expires=time_text(case.expires_ms),
    )


def _add_problems(app: FastAPI, count: Count) -> None:
    """Turn every error into a problem; the texts of errors stay here."""

    @app.exception_handler(ProblemError)
    async def own(_request: Request, error: ProblemError) -> Response:
        return problem(error.code, **error.details)

    @app.exception_handler(RequestValidationError)
    async def malformed(_request: Request, _error: RequestValidationError) -> Response:
        count("invalid")
        return problem("invalid-request")

    @app.exception_handler(HTTPException)
    async def framework(_request: Request, error: HTTPException) -> Response:
        count("invalid")
        return problem(BY_STATUS.get(error.status_code, "fault"), dict(error.headers or {}))

    @app.exception_handler(AuditError)
    async def unrecorded(_request: Request, error: AuditError) -> Response:
        log(Event.AUDIT_FAILED, kind=error.kind)
        count("failed", audit=error.kind)
        return problem("unavailable", {"Retry-After": "5"})

    @app.exception_handler(FindingsError)
    @app.exception_handler(FileFormatError)
    async def ungranted(_request: Request, _error: Exception) -> Response:
        log(Event.GRANTS_REFUSED)
        count("failed")
        return problem("unavailable", {"Retry-After": "5"})
