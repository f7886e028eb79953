"""Problems as answers (RFC 9457): one body for each code, so that nothing can be read from how a refusal looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from tokenweir.api.documents import Problem, ProblemCode

MEDIA_TYPE: Final = "application/problem+json"

#: Status and title of every code.
PROBLEMS: Final[dict[ProblemCode, tuple[int, str]]] = {
    "unauthorized": (401, "The caller is not known"),
    "refused": (403, "The request is refused"),
    "statement-required": (403, "A statement must be accepted first"),
    "approval-required": (403, "A second person must approve the request"),
    "unfit": (403, "The grants file does not take such a reason or ticket, or so many tokens"),
    "invalid-request": (422, "The request does not have the form that is wanted"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "too-large": (413, "The body is too long"),
    "unsupported-media-type": (415, "The body must be application/json"),
    "timeout": (408, "The body did not arrive in time"),
    "too-many-requests": (429, "There were too many requests"),
    "unavailable": (503, "Nothing can be answered now"),
    "fault": (500, "A fault in the service"),
}

#: Codes by status, for what the framework refuses by itself.
BY_STATUS: Final[dict[int, ProblemCode]] = {
    400: "invalid-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media-type",
    422: "invalid-request",
}


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(self, code: ProblemCode, **details: str | None) -> None:
        super().__init__(code)
        self.code: ProblemCode = code
        self.details = details


def problem(code: ProblemCode, headers: Mapping[str, str] | None = None, /, **details: str | None) -> Response:
    """Return the answer for a problem; ``details`` are the optional members."""
    status, title = PROBLEMS[code]
    body = Problem.model_validate(
        {"type": f"urn:tokenweir:problem:{code}", "title": title, "status": status, **details}
    ).model_dump_json(exclude_none=True)
    own = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return Response(body, status, {**own, **(headers or {})}, MEDIA_TYPE)
