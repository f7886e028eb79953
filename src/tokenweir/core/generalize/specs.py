"""What may stand under ``generalize:`` in a policy: a closed list of ways to make a value coarser."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator
from pydantic_core import PydanticCustomError

#: Numbers of the policy are smaller than this, so that exact arithmetic with them stays cheap.
LARGEST: Final = 10**100

#: A hundred years. Beyond it a birthday would tell by its century that it was moved.
LARGEST_SHIFT: Final = 36_525

TimeUnit = Literal["hour", "day", "month", "year"]


def _finite(value: object) -> object:
    """Refuse what is no plain number, with one error instead of one for each type that a number may have."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise PydanticCustomError("plain_number", "must be a number between -10**100 and 10**100")
    return value


#: A number as YAML and JSON write it. A float stands for its shortest decimal text: ``0.1`` is a tenth.
Number = Annotated[int | float, BeforeValidator(_finite)]


class _Spec(BaseModel):
    """Base of every entry: unknown keys are errors, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class CellSpec(_Spec):
    """Both members of a pair of coordinates become the centre of their H3 cell."""

    cell: Literal["h3"] = Field(description="The grid: `h3`.")
    resolution: int = Field(
        ge=0,
        le=15,
        description="H3 resolution; an average cell has 36 km² at 6, 5.2 km² at 7 and 0.7 km² at 8.",
    )


class TimeSpec(_Spec):
    """A time becomes the start of its hour, day, month or year, always in UTC."""

    time: TimeUnit = Field(description="What the time is cut down to, in UTC.")


class RoundSpec(_Spec):
    """A number becomes the nearest multiple of a step."""

    round: Annotated[Number, Field(gt=0)] = Field(
        description="The step. The result is the nearest multiple; halfway between two it is the even one."
    )


class BucketsSpec(_Spec):
    """A number becomes the lower bound of its bucket."""

    buckets: list[Number] = Field(
        min_length=2,
        description=(
            "Lower bounds, each larger than the one before. A value becomes the largest bound that is not above it. "
            "What is below the first bound becomes the first bound, so the first bucket is open below, as the last is "
            "open above."
        ),
    )

    @field_validator("buckets")
    @classmethod
    def _increasing(cls, bounds: list[Number]) -> list[Number]:
        exact = [decimal_of(bound) for bound in bounds]
        if any(left >= right for left, right in itertools.pairwise(exact)):
            raise ValueError("each bound must be larger than the one before")
        return bounds


class PrefixSpec(_Spec):
    """Only the beginning of a text, or the network of an IP address, stays."""

    prefix: int = Field(ge=1, description="How many characters, or with `of: ip` how many bits, stay.")
    of: Literal["text", "ip"] = Field(
        default="text",
        description=(
            "`text`: the first characters of any text. `ip`: the text is an IPv4 or IPv6 address and becomes the first "
            "address of its network. A value that would stay whole is invalid."
        ),
    )


class MapSpec(_Spec):
    """A text or enum symbol becomes another one from a table."""

    map: dict[str, str] = Field(min_length=1, description="What each value becomes. For an enum only its own symbols.")
    else_: str | None = Field(
        default=None,
        alias="else",
        description="What every other value becomes. Without it every other value is invalid.",
    )


class UserAgentSpec(_Spec):
    """A User-Agent header becomes the name of the browser's family, from a closed list."""

    user_agent: Literal["family"] = Field(
        description="`family`: `Chrome`, `Safari`, `Firefox`, `Edge`, `Samsung Internet`, `Opera`, "
        "`Internet Explorer`, `Android Browser`, `Yandex Browser`, `UC Browser`, `Bot` or `Other`. No version, device "
        "or system stays."
    )


class ShiftSpec(_Spec):
    """All dates and times of one person move by the same secret number of whole days."""

    shift_days: int = Field(
        ge=1,
        le=LARGEST_SHIFT,
        description="By how many days at most, in either direction. Each person's own number of days is never 0 and "
        "follows from a key of the key domain and epoch, so that it repeats and intervals within one person stay. "
        "Without a person the value is withheld.",
    )


class NoiseSpec(_Spec):
    """Both members of a pair of coordinates become a point near the place that they are in."""

    noise: Literal["laplace"] = Field(description="How the distance is distributed: `laplace`, the planar Laplace.")
    metres: int = Field(
        ge=10,
        le=50_000,
        description="The mean distance between the published point and the centre of the place, which is a square with "
        "sides of the same length; ε is 2 divided by it, per metre. The same person, place and epoch always give the "
        "same point. Without a person the pair is withheld.",
    )


class UrlParts(_Spec):
    """What stays of a URL beside its scheme and host."""

    path: int = Field(default=0, ge=0, le=64, description="How many segments of the path stay.")
    query: list[str] = Field(default_factory=list, description="Names of the query parameters that stay.")


class UrlSpec(_Spec):
    """A URL loses its user, port, fragment, and all of path and query that is not named."""

    url: UrlParts = Field(description="What stays beside scheme and host.")


_MODELS: Final[dict[str, type[_Spec]]] = {
    "cell": CellSpec,
    "time": TimeSpec,
    "round": RoundSpec,
    "buckets": BucketsSpec,
    "prefix": PrefixSpec,
    "map": MapSpec,
    "url": UrlSpec,
    "user_agent": UserAgentSpec,
    "shift_days": ShiftSpec,
    "noise": NoiseSpec,
}

#: Every key that says how to generalize.
KINDS: Final = tuple(_MODELS)


def _kind(value: object) -> str | None:
    """Return which entry of the list ``value`` means, or None if it is none or more than one of them."""
    if isinstance(value, Mapping):
        named = [kind for kind in KINDS if kind in value]
        return named[0] if len(named) == 1 else None
    return next((kind for kind, model in _MODELS.items() if isinstance(value, model)), None)


GeneralizeSpec = Annotated[
    Annotated[CellSpec, Tag("cell")]
    | Annotated[TimeSpec, Tag("time")]
    | Annotated[RoundSpec, Tag("round")]
    | Annotated[BucketsSpec, Tag("buckets")]
    | Annotated[PrefixSpec, Tag("prefix")]
    | Annotated[MapSpec, Tag("map")]
    | Annotated[UrlSpec, Tag("url")]
    | Annotated[UserAgentSpec, Tag("user_agent")]
    | Annotated[ShiftSpec, Tag("shift_days")]
    | Annotated[NoiseSpec, Tag("noise")],
    Discriminator(
        _kind,
        custom_error_type="generalize_kind",
        custom_error_message=f"must be a mapping with exactly one of: {', '.join(KINDS)}",
    ),
]

#: What works on both members of a pair of coordinates at once.
PairSpec = CellSpec | NoiseSpec
#: What depends on a key and on whom the record is about.
KeyedSpec = ShiftSpec | NoiseSpec


def decimal_of(number: Number) -> Decimal:
    """Return the exact decimal that a number of the policy stands for: ``0.1`` is a tenth, not its binary neighbour."""
    return Decimal(repr(float(number)) if isinstance(number, float) else int(number))
