"""The grants file as typed models: who may reverse which tokens, how many, and under which conditions."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from tokenweir.core.policy.models import DashedName, Model, Text
from tokenweir.validation import Version

Per = Literal["minute", "hour", "day", "week", "month"]

#: How far back a budget looks, in milliseconds. The window slides; it does not begin anew at midnight.
WINDOW_MS: Final[dict[Per, int]] = {
    "minute": 60_000,
    "hour": 3_600_000,
    "day": 86_400_000,
    "week": 7 * 86_400_000,
    "month": 30 * 86_400_000,
}

LONGEST_WINDOW_MS: Final = max(WINDOW_MS.values())

#: A principal's own name: it stands in audit records, so it is a plain word.
PrincipalName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]

Day = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]


class Budget(Model):
    """How much a principal may ask of a class within a window that slides."""

    per: Per = Field(description="Length of the window; a month is 30 days.")
    requests: int = Field(ge=1, le=100_000, description="Answered requests.")
    values: int = Field(ge=1, le=1_000_000, description="Different tokens; one that is asked again counts once.")


class Approval(Model):
    """A second person must approve each request."""

    by: list[DashedName] = Field(min_length=1, description="Roles of which one makes a principal an approver.")
    valid_hours: int = Field(default=24, ge=1, le=720, description="Hours for approval and answer, from the request.")


class Grant(Model):
    """What a role may reverse."""

    classes: list[Text] = Field(min_length=1, description="Classes or patterns of classes, such as `contact.**`.")
    domains: list[Text] = Field(min_length=1, description="Key domains; there is no pattern for all of them.")
    budgets: list[Budget] = Field(min_length=1, description="Every one of them must have room for a request.")
    statement: DashedName = Field(description="The statement that a principal must have accepted before.")
    approval: Approval | None = Field(default=None, description="Four eyes: who must approve. Default: nobody.")
    until: Day | None = Field(default=None, description="The last day (UTC) of the grant. Default: no end.")


class Role(Model):
    """A set of grants; a role without any is for approvers."""

    title: str | None = Field(default=None, description="The role in words.")
    grants: list[Grant] = Field(default_factory=list, description="The first that covers a request decides.")


class Principal(Model):
    """A person or program, and how it is recognised."""

    roles: list[DashedName] = Field(min_length=1, description="Its roles, in the order in which they are tried.")
    user: Text | None = Field(default=None, description="User of the operating system, for the command line.")
    oidc: Text | None = Field(default=None, description="Subject (`sub`) of its access tokens, for the HTTP API.")
    certificate: Text | None = Field(
        default=None, description="Subject of its client certificate as RFC 4514 text, such as `CN=fraud,O=Example`."
    )
    until: Day | None = Field(default=None, description="The last day (UTC) of all its roles. Default: no end.")


class Statement(Model):
    """What a principal promises before it sees anything. Who accepted another text must accept again."""

    title: str | None = Field(default=None, description="The statement in a few words.")
    text: str = Field(min_length=20, max_length=10_000, description="The text; its digest stands in the audit log.")


class Tickets(Model):
    """Which tickets count."""

    pattern: Text = Field(description="Regular expression that the whole ticket must match, such as `CASE-[0-9]+`.")


class Grants(Model):
    """A whole grants file."""

    version: Version = Field(description="Version of the grants format.")
    statements: dict[DashedName, Statement] = Field(min_length=1, description="Statements by name.")
    tickets: Tickets | None = Field(default=None, description="Which tickets count. Default: any.")
    reasons: list[Text] | None = Field(
        default=None, min_length=1, description="The only reasons that may be given. Default: free text."
    )
    roles: dict[DashedName, Role] = Field(min_length=1, description="Roles by name.")
    principals: dict[PrincipalName, Principal] = Field(min_length=1, description="Principals by name.")
