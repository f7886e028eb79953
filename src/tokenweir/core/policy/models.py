"""The policy file as typed models: what may be written, and nothing else.

One model gives parsing, checking, the JSON Schema and the reference documentation. Every key has a description, and an
unknown key is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from tokenweir.core.generalize.specs import GeneralizeSpec
from tokenweir.core.tokens.specs import TokenSpec
from tokenweir.validation import Version

Basis = Literal[
    "consent", "opt_out", "legitimate_interest", "contract", "legal_obligation", "public_task", "vital_interest"
]

#: Bases that ask the data subject's decision; the others do not look at it.
ASKING: frozenset[str] = frozenset({"consent", "opt_out", "legitimate_interest"})

#: Purposes stand in consent records, where ``@`` and ``*`` have a meaning; audiences become part of Avro names.
PlainName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
#: Token entries, subject types and streams; streams become part of consumer groups and transactional ids.
DashedName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")]
ClassName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$")]
Text = Annotated[str, StringConstraints(min_length=1)]


class Model(BaseModel):
    """Base of every part of the policy: unknown keys are errors, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Controller(Model):
    """Who is responsible for the processing, for the public notice."""

    name: str = Field(description="Name of the controller.")
    country: str = Field(pattern=r"^[A-Z]{2}$", description="ISO 3166 country code.")
    contact: str = Field(description="Where people can write about privacy.")
    rights_url: str | None = Field(default=None, description="Page on which people can use their rights.")


class Purpose(Model):
    """Why data is processed."""

    title: str = Field(min_length=1, description="The purpose in words for the public notice.")
    basis: Basis = Field(description="The legal basis; it says what an absent decision means.")
    basis_by: dict[str, Basis] = Field(
        default_factory=dict, description="Other bases by the jurisdiction of the consent record, such as `US-CA`."
    )
    retention_days: int = Field(ge=1, description="For an event older than this the purpose does not pass.")
    assessment: str | None = Field(default=None, description="Reference of the assessment that the basis rests on.")
    explicit: bool = Field(default=False, description="Consent is explicit, as special categories need.")
    minors: Literal["refuse", "allow"] = Field(default="refuse", description="What applies to a subject marked minor.")
    covers_earlier: bool = Field(default=False, description="An allow also covers events from before it was given.")


class DigitsForm(Model):
    """Exactly this many decimal digits; integers are padded with zeros."""

    digits: int = Field(ge=1, le=64, description="Number of digits.")


def _form(value: object) -> str | None:
    """Return which way of writing a form ``value`` is."""
    if isinstance(value, Mapping | DigitsForm):
        return "digits"
    return "word" if value in ("uuid", "text", "lowercase") else None


Form = Annotated[
    Annotated[DigitsForm, Tag("digits")] | Annotated[Literal["uuid", "text", "lowercase"], Tag("word")],
    Discriminator(
        _form,
        custom_error_type="form",
        custom_error_message="must be uuid, text, lowercase or {digits: n}",
    ),
]


class SubjectType(Model):
    """A kind of data subject, and the one canonical form of its ids."""

    class_: str = Field(alias="class", description="The class of the id.")
    form: Form = Field(
        description="Canonical form: `{digits: n}`, `uuid` (lower case), `text` (as it is) or `lowercase`."
    )


class Tokenize(Model):
    """Replace the value by a token."""

    tokenize: str = Field(description="Name of the token entry.")


class Generalize(Model):
    """Replace the value by a coarser one of the same type."""

    generalize: GeneralizeSpec = Field(description="How to coarsen.")


def _do(value: object) -> str | None:
    """Return which treatment ``value`` is, or None if it is none or several of them."""
    if value in ("keep", "drop"):
        return "word"
    if isinstance(value, Mapping):
        named = [key for key in ("tokenize", "generalize") if key in value]
        return named[0] if len(named) == 1 else None
    if isinstance(value, Tokenize):
        return "tokenize"
    return "generalize" if isinstance(value, Generalize) else None


Do = Annotated[
    Annotated[Literal["keep", "drop"], Tag("word")]
    | Annotated[Tokenize, Tag("tokenize")]
    | Annotated[Generalize, Tag("generalize")],
    Discriminator(
        _do,
        custom_error_type="treatment",
        custom_error_message="must be keep, drop, {tokenize: ENTRY} or {generalize: …}",
    ),
]


class Treatment(Model):
    """One line of a class's treatments; the first that matches wins."""

    for_: list[str] | None = Field(
        default=None, alias="for", min_length=1, description="Audiences that it is limited to."
    )
    when: list[str] = Field(default_factory=list, min_length=1, description="Purposes that must all pass.")
    do: Do = Field(description="`keep`, `drop`, `{tokenize: ENTRY}` or `{generalize: …}`.")


class ClassRule(Model):
    """A category of data and what happens to it."""

    title: str | None = Field(default=None, description="The category in words for the public notice.")
    do: Do | None = Field(default=None, description="Short for one treatment.")
    when: list[str] | None = Field(default=None, min_length=1, description="With `do`: purposes that must all pass.")
    for_: list[str] | None = Field(
        default=None, alias="for", min_length=1, description="With `do`: audiences it is limited to."
    )
    treatments: list[Treatment] | None = Field(
        default=None, min_length=1, description="Instead of `do`: several, first match wins."
    )
    links: Literal["event", "person"] | None = Field(
        default=None, description="What would join two outputs; `person` is the default where tokenized."
    )
    special: bool = Field(default=False, description="A special category: needs purposes with `explicit: true`.")
    always: bool = Field(default=False, description="In every derived record, not nullable; unconditional `keep` only.")
    on_invalid: Literal["drop", "reject"] = Field(
        default="drop", description="What happens when a value does not fit its treatment."
    )


class Recipient(Model):
    """Who reads an audience's topics."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="Short name.")
    name: str = Field(description="Name for the public notice.")
    role: Literal["internal", "processor", "controller", "joint_controller"] = Field(description="Role in law.")
    country: str | None = Field(default=None, pattern=r"^[A-Z]{2}$", description="ISO 3166 country code.")
    transfer: str | None = Field(default=None, description="Instrument of a transfer to a third country.")
    contract: str | None = Field(default=None, description="Reference of the contract.")


class Audience(Model):
    """Who receives, and for which purposes."""

    title: str = Field(min_length=1, description="The audience in words for the public notice.")
    purposes: list[str] = Field(min_length=1, description="Purposes that it serves.")
    recipients: list[Recipient] = Field(min_length=1, description="Who reads its topics.")
    key_domain: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        description="Tokens join inside a key domain and nowhere else. Default: the audience's own name.",
    )
    never: list[str] = Field(default_factory=list, description="Class patterns that it never gets, whatever else says.")


class Source(Model):
    """Where raw records come from."""

    topic: str = Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$", description="Topic name.")
    format: Literal["avro", "json_schema", "json"] = Field(
        description="`avro` and `json_schema` are framed, with the registry; `json` is bare, with `schema`."
    )
    schema_: str | None = Field(default=None, alias="schema", description="With `json`: the JSON Schema file.")


class StreamSubject(Model):
    """Where a record says whom it is about."""

    type: str = Field(description="Subject type.")
    path: Text = Field(description="Path of the id; may start with `$key` or `$headers{name}`.")


class Overlay(Model):
    """A class for a field that contradicts what the schema says of it."""

    class_: str = Field(alias="class", description="The class.")
    overrides: str = Field(description="The class that the schema gives and this replaces.")
    reason: str = Field(min_length=1, description="Why.")


def _field_class(value: object) -> str | None:
    """Return which way of giving a field's class ``value`` is."""
    if isinstance(value, Mapping | Overlay):
        return "overlay"
    return "class" if isinstance(value, str) else None


FieldClass = Annotated[
    Annotated[str, Tag("class")] | Annotated[Overlay, Tag("overlay")],
    Discriminator(
        _field_class,
        custom_error_type="field_class",
        custom_error_message="must be a class or {class: …, overrides: …, reason: …}",
    ),
]


class AnyOf(Model):
    """At least one of these purposes."""

    any: list[str] = Field(min_length=1, description="Purposes of which one must pass.")


def _requires(value: object) -> str | None:
    """Return which way of requiring purposes ``value`` is."""
    if isinstance(value, Mapping | AnyOf):
        return "any_of"
    if value == "any":
        return "word"
    return "all" if isinstance(value, list) else None


RequiresPurposes = Annotated[
    Annotated[Literal["any"], Tag("word")]
    | Annotated[list[str], Field(min_length=1), Tag("all")]
    | Annotated[AnyOf, Tag("any_of")],
    Discriminator(
        _requires,
        custom_error_type="requires",
        custom_error_message="must be any, a list of purposes or {any: […]}",
    ),
]


class Output(Model):
    """One sanitized topic."""

    audience: str = Field(description="Who receives it.")
    topic: str | None = Field(
        default=None, pattern=r"^[a-zA-Z0-9._-]{1,249}$", description="Topic name. Default: `{source}.{audience}`."
    )
    requires: RequiresPurposes = Field(
        default="any", description="Purposes without which nothing of the record leaves."
    )
    key: Literal["subject", "none"] = Field(
        default="none", description="`subject`: the token of the primary subject; `none`: null."
    )
    timestamp: Literal["keep", "hour", "day"] | None = Field(
        default=None, description="Record timestamp. Default `day`, or `keep` if all recipients are internal."
    )


class Stream(Model):
    """A source topic and its outputs."""

    source: Source = Field(description="The raw topic.")
    subjects: list[StreamSubject] = Field(min_length=1, description="Data subjects; the first present id is primary.")
    no_subject: Literal["withhold", "anonymous"] = Field(
        default="withhold", description="What happens to a record without any id."
    )
    event_time: Text | None = Field(default=None, description="Path of the event's own time.")
    pairs: list[Annotated[list[Text], Field(min_length=2, max_length=2)]] = Field(
        default_factory=list, description="Latitude and longitude: two fields of one record."
    )
    tags: dict[str, str] = Field(default_factory=dict, description="What tags mean: a class, or `ignore`.")
    fields: dict[str, FieldClass] = Field(default_factory=dict, description="Classes by path, over the schema's tags.")
    headers: dict[str, str] = Field(default_factory=dict, description="Classes of headers by exact name.")
    outputs: list[Output] = Field(min_length=1, description="Sanitized topics.")


class Policy(Model):
    """A whole policy file."""

    version: Version = Field(description="Version of the policy language.")
    revision: int = Field(default=0, ge=0, description="Your own counter; shown in metrics and evidence.")
    controller: Controller | None = Field(default=None, description="Who is responsible.")
    unclassified: Literal["refuse", "drop"] = Field(
        default="refuse", description="Fields without a class: refuse to start, or drop them. They never leave."
    )
    purposes: dict[PlainName, Purpose] = Field(min_length=1, description="Why data is processed.")
    subjects: dict[DashedName, SubjectType] = Field(min_length=1, description="Kinds of data subject.")
    classes: dict[ClassName, ClassRule] = Field(min_length=1, description="Categories of data; dots are a hierarchy.")
    tokens: dict[DashedName, TokenSpec] = Field(default_factory=dict, description="Token entries.")
    audiences: dict[PlainName, Audience] = Field(min_length=1, description="Who receives.")
    streams: dict[DashedName, Stream] = Field(min_length=1, description="Source topics and their outputs.")
