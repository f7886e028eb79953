"""What the API takes and gives, as models: they check requests and make the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from tokenweir.app.detokenize import LONGEST_TOKEN
from tokenweir.core.detokenize.decide import MOST_TOKENS

NAME: Final = r"^[a-z0-9][a-z0-9_-]{0,63}$"
CASE: Final = r"^[0-9a-f]{24}$"

Name = Annotated[str, StringConstraints(pattern=NAME)]


class Document(BaseModel):
    """Base of every document: unknown keys are errors, and a value is never shown by repr."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    __str__ = __repr__


def _whole(value: object) -> object:
    """Take 7.0 for the whole number that it is in JSON Schema."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class _Request(Document):
    """What every request has."""

    epoch: Annotated[int | None, BeforeValidator(_whole)] = Field(
        default=None, ge=1, le=1_000_000, description="Epoch of the tokens; needed where the key domain has several."
    )
    tokens: list[Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TOKEN)]] = Field(
        min_length=1, max_length=MOST_TOKENS, description="The tokens; the service may allow fewer."
    )
    reason: str = Field(min_length=1, max_length=200, description="Why; it stands in the audit log for ever.")
    ticket: str = Field(min_length=1, max_length=100, description="The case that it is for.")


class DetokenizeByEntry(_Request):
    """Tokens to reverse, by their token entry and key domain."""

    entry: Name = Field(description="Token entry of the policy.")
    domain: Name = Field(description="Key domain.")


class DetokenizeByField(_Request):
    """Tokens to reverse, by the field in which they were found."""

    stream: Name = Field(description="Stream in whose output the tokens were found.")
    field: str = Field(max_length=500, description="Path of the field there.")
    audience: Name | None = Field(default=None, description="Whose topic it was, where a field has several.")


DetokenizeRequest = DetokenizeByEntry | DetokenizeByField


class DetokenizeAnswer(Document):
    """The values, in the order of the tokens; null for what cannot be a token of the entry."""

    id: str = Field(description="Id of the request; the audit record has it too.")
    entry: str = Field(description="Token entry.")
    domain: str = Field(description="Key domain.")
    epoch: int = Field(description="Epoch that the tokens were reversed in.")
    values: list[str | None] = Field(description="One value for each token.")


class StatementAnswer(Document):
    """A statement that must be accepted before anything is answered."""

    name: str = Field(description="Its name.")
    text: str = Field(description="Its text.")
    digest: str = Field(description="SHA-256 of the text; send it back to accept this very text.")


class Acceptance(Document):
    """Acceptance of a statement's text."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="The digest of the text that was read.")


class CaseAnswer(Document):
    """A request that waits for a second person. Its tokens are not kept anywhere."""

    case: str = Field(description="Id of the request.")
    principal: str = Field(description="Who asks.")
    entry: str = Field(description="Token entry.")
    domain: str = Field(description="Key domain.")
    epoch: int = Field(description="Epoch.")
    tokens: int = Field(description="How many different tokens.")
    reason: str = Field(description="Why.")
    ticket: str = Field(description="For which case.")
    expires: str = Field(description="Until when it can be approved and answered: RFC 3339, UTC.")


class CasesAnswer(Document):
    """The requests that wait for the caller as the second person."""

    cases: list[CaseAnswer] = Field(description="The requests.")


ProblemCode = Literal[
    "unauthorized",
    "refused",
    "statement-required",
    "approval-required",
    "unfit",
    "invalid-request",
    "not-found",
    "method-not-allowed",
    "too-large",
    "unsupported-media-type",
    "timeout",
    "too-many-requests",
    "unavailable",
    "fault",
]


class Problem(Document):
    """What went wrong (RFC 9457), never with a part of what was sent."""

    type: str = Field(description="`urn:tokenweir:problem:` and a code of a closed list.")
    title: str = Field(description="The code in words; the same for every problem of the type.")
    status: int = Field(description="The status of the answer.")
    request: str | None = Field(default=None, description="Id of the request, where the audit log has it.")
    fault: Literal["reason", "ticket", "tokens"] | None = Field(
        default=None, description="With unfit: what the grants file does not take."
    )
    statement: str | None = Field(default=None, description="With statement-required: the statement to accept.")
    case: str | None = Field(default=None, description="With approval-required: the request to be approved.")
