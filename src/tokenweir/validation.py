"""Plain data to a pydantic model, and what does not fit to findings in the words of the file's author.

pydantic reports a fault by the way through its own schema, with a segment for every branch of a union. Here that way
is followed through the model's annotations, so that each fault has the path, and so the line, of the file, and a
union gives one finding and not one for each branch. No finding repeats a value: a value may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from tokenweir.errors import Finding
from tokenweir.yamlsource import Document, Path

#: What the rules of this stage stand for; part of the documentation.
RULES: Final[dict[str, str]] = {
    "unknown-key": "A key that does not exist here.",
    "missing-key": "A key that must be given is not.",
    "wrong-type": "A value of another type than the key takes, such as a number where text is wanted.",
    "wrong-value": "A value that the key does not take.",
    "out-of-range": "A number, or a number of elements, below or above its bounds.",
    "other-file": "A policy stands where a configuration is wanted, or the other way round.",
    "bad-name": "A name with characters that such names do not have.",
}

ModelType = TypeVar("ModelType", bound=BaseModel)

_WORD: Final = re.compile(r"[a-z][a-z_0-9]+")
#: A key in the text that a model of this project gives its error.
_NAMED: Final = re.compile(r"`([a-z_]+)`")


def _whole(value: object) -> object:
    """Refuse what only equals the number: ``true`` and ``1.0`` are no version."""
    if type(value) is not int:
        raise PydanticCustomError("version", "must be 1")
    return value


#: The version of a file format.
Version = Annotated[Literal[1], BeforeValidator(_whole)]

#: What pydantic's type errors ask for, in our words.
_TYPES: Final[dict[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "path_type": "text",
}

#: Bounds of numbers and lengths; the text is filled with the error's own context.
_BOUNDS: Final[dict[str, str]] = {
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "is too short, the shortest length is {min_length}",
    "string_too_long": "is too long, the longest length is {max_length}",
    "too_short": "has too few entries, at least {min_length} must stand here",
    "too_long": "has too many entries, at most {max_length} may stand here",
}


class Place(NamedTuple):
    """Where in the data, and where in the model, an error belongs."""

    path: Path
    #: The model in which the last key of the path is looked for.
    owner: type[BaseModel] | None
    #: The field that the last key names, if it names one.
    field: FieldInfo | None
    #: The annotation of what stands at the path, as far as it is known.
    annotation: Any
    is_key: bool = False


def suggest(word: str, choices: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the choice that is most like ``word``, or "" if none is."""
    close = get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else ""


def keys_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the keys of a model as they are written in a file."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def validate(
    model: type[ModelType], document: Document, *, context: Mapping[str, Any] | None = None
) -> tuple[ModelType | None, list[Finding]]:
    """Return the document's data as a model, or None and everything about it that does not fit.

    An empty document counts as an empty mapping, so that its findings name the keys that are missing.
    """
    data = {} if document.data is None and not document.unusable else document.data
    try:
        return model.model_validate(data, by_alias=True, by_name=False, context=context), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    findings: dict[Path, Finding] = {}
    for detail in details:
        place = locate(model, detail["loc"])
        if any(place.path[: len(path)] == path for path in document.unusable):
            continue
        finding = _finding(document, place, detail)
        findings[place.path] = _merge(findings[place.path], finding) if place.path in findings else finding
    return None, sorted(findings.values())


def locate(model: type[BaseModel], location: tuple[int | str, ...]) -> Place:
    """Return the place in the data that a location of pydantic speaks of."""
    place = Place((), None, None, model)
    for segment in location:
        place = _step(place, segment)
    return place


def annotation_at(model: type[BaseModel], path: Path) -> Any:  # noqa: ANN401 - An annotation may be anything.
    """Return the annotation of what stands at ``path``, or None if nothing is declared there."""
    current: Any = model
    for key in path:
        current = _plain(current)
        if _is_model(current):
            field = _field(current, key)
            current = None if field is None else field.annotation
        elif get_origin(current) is dict:
            current = get_args(current)[1]
        else:
            return None
    return _plain(current)


def _step(place: Place, segment: int | str) -> Place:
    """Follow one segment of a location: a key, an index, or the branch of a union, which the data does not have."""
    annotation = _plain(place.annotation)
    if segment == "[key]":
        return place._replace(is_key=True)
    if get_origin(annotation) in {Union, UnionType}:
        return place._replace(annotation=_branch(annotation, segment))
    path = (*place.path, segment)
    if _is_model(annotation):
        field = _field(annotation, segment)
        return Place(path, annotation, field, None if field is None else field.annotation)
    arguments = get_args(annotation)
    inner = arguments[1 if get_origin(annotation) is dict else 0] if arguments else None
    return Place(path, None, place.field, inner)


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _field(model: type[BaseModel], key: int | str) -> FieldInfo | None:
    return next((field for name, field in model.model_fields.items() if (field.alias or name) == key), None)


def _plain(annotation: Any) -> Any:  # noqa: ANN401 - An annotation may be anything.
    """Return an annotation without its metadata and without ``| None``, which make no segment of a location."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in {Union, UnionType} and NoneType in get_args(annotation):
            annotation = Union[tuple(part for part in get_args(annotation) if part is not NoneType)]  # noqa: UP007 - Made of a tuple.
        else:
            return annotation


def _branch(union: Any, segment: int | str) -> Any:  # noqa: ANN401 - An annotation may be anything.
    """Return the branch of a union that a location's segment names: by its tag, or by its discriminating literal."""
    for branch in get_args(union):
        metadata = getattr(branch, "__metadata__", ())
        if any(isinstance(item, Tag) and item.tag == segment for item in metadata):
            return branch
        plain = _plain(branch)
        if _is_model(plain) and any(get_args(field.annotation) == (segment,) for field in plain.model_fields.values()):
            return branch
    return None


class _Explanation(NamedTuple):
    rule: str
    message: str
    remedy: str = ""


def _finding(document: Document, place: Place, detail: ErrorDetails) -> Finding:
    """Return the finding for an error: at the key where the key is at fault, otherwise at the value."""
    kind = detail["type"]
    if kind == "union_tag_invalid":
        discriminator = str(detail["ctx"]["discriminator"]).strip("'")
        place = place._replace(path=(*place.path, discriminator))
    at_key = place.is_key or kind in {"missing", "extra_forbidden"}
    explanation = _explain(place, detail)
    if kind == "value_error" and (finding := _finding_elsewhere(document, place.path, explanation)) is not None:
        return finding
    rule, message, remedy = explanation
    return document.finding(place.path, rule, message, remedy, at_key=at_key)


def _finding_elsewhere(document: Document, path: Path, explanation: _Explanation) -> Finding | None:
    """Return the finding about keys that do not fit together, if one that it names does not come from the file."""
    names = dict.fromkeys(_NAMED.findall(explanation.message))
    origins = {name: document.origins[*path, name] for name in names if (*path, name) in document.origins}
    if not origins:
        return None
    sources = [f"'{name}' comes from {origin}" for name, origin in origins.items()]
    if path in document.positions.values:
        line, column = document.positions.value(path)
        sources.append(f"the rest of {_label(path)} from {document.file}:{line}:{column}")
    return Finding(next(iter(origins.values())), 0, 0, explanation.rule, explanation.message, ", ".join(sources))


def _explain(place: Place, detail: ErrorDetails) -> _Explanation:
    """Return what an error of pydantic means for the author of the file."""
    context, name = detail.get("ctx", {}), _label(place.path)
    if place.is_key:
        return _Explanation("bad-name", f"the name {name} cannot be used here", f"names match {context['pattern']}")
    match detail["type"]:
        case "missing":
            return _Explanation("missing-key", f"the key {name} is missing", _description(place))
        case "union_tag_not_found":
            return _Explanation("missing-key", f"the key {context['discriminator']} is missing in {name}")
        case "extra_forbidden":
            keys = keys_of(place.owner) if place.owner is not None else ()
            remedy = suggest(str(place.path[-1]), keys) or f"one of: {', '.join(keys)}"
            return _Explanation("unknown-key", name, remedy)
    return _explain_value(place, detail, name)


def _explain_value(place: Place, detail: ErrorDetails, name: str) -> _Explanation:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _BOUNDS:
        return _Explanation("out-of-range", f"{name} {_BOUNDS[kind].format_map(context)}", _description(place))
    if kind in _TYPES:
        return _wrong_type(detail, name)
    match kind:
        case "literal_error" | "union_tag_invalid":
            return _choice(place, detail, name)
        case "string_pattern_mismatch":
            return _Explanation("wrong-value", f"{name} must match {context['pattern']}", _description(place))
        case "value_error":
            return _Explanation("wrong-value", f"{name}: {context['error']}")
    # What is left was worded by a model of this project, which is why it can be shown as it is.
    return _Explanation("wrong-value", f"{name} {detail['msg']}", _suggest_inside(detail["input"], detail["msg"]))


def _description(place: Place) -> str:
    return (place.field.description or "").removesuffix(".") if place.field is not None else ""


def _label(path: Path) -> str:
    """Return the name of a place as the file's author would call it: ``'purposes'``, ``'purposes[0]'``."""
    if not path:
        return "the file"
    indexes = ""
    for key in reversed(path):
        if isinstance(key, str):
            return f"'{key}{indexes}'"
        indexes = f"[{key}]{indexes}"
    return f"'{indexes}'"


def _choice(place: Place, detail: ErrorDetails, name: str) -> _Explanation:
    """Return the finding for a value that is none of a closed list."""
    if detail["type"] == "union_tag_invalid":
        choices = str(detail["ctx"]["expected_tags"]).replace("'", "").split(", ")
        value: object = detail["ctx"]["tag"]
    else:
        choices = [str(choice) for choice in get_args(_plain(place.annotation))]
        value = detail["input"]
    listed = f"must be {'' if len(choices) == 1 else 'one of '}{', '.join(choices)}"
    return _Explanation("wrong-value", f"{name} {listed}", suggest(value, choices) if isinstance(value, str) else "")


def _wrong_type(detail: ErrorDetails, name: str) -> _Explanation:
    wanted = _TYPES[detail["type"]]
    remedy = ""
    if detail["input"] is None:
        remedy = "nothing is given"
    elif wanted == "text" and isinstance(detail["input"], bool | int | float):
        remedy = "write it in quotes"
    return _Explanation("wrong-type", f"{name} must be {wanted}", remedy)


def _suggest_inside(value: object, message: str) -> str:
    """Return a suggestion for a word or key that is almost one of those that the message speaks of."""
    words = [value] if isinstance(value, str) else list(value) if isinstance(value, dict) else []
    known = _WORD.findall(message.partition("must be")[2])
    return next((hint for word in words if word not in known and (hint := suggest(word, known))), "")


def _merge(first: Finding, second: Finding) -> Finding:
    """Return one finding for two branches of a union that both refuse a value for its type."""
    wanted = second.message.partition(" must be ")[2]
    if first.rule == second.rule == "wrong-type" and wanted and wanted not in first.message:
        return replace(first, message=f"{first.message} or {wanted}")
    return first


def json_schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    """Return the JSON Schema of a model in draft 7, the newest that YAML language servers read.

    A description beside a ``$ref`` would be ignored there, so such references stand in an ``allOf``.
    """
    schema = _draft7(model.model_json_schema(by_alias=True))
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema, "title": title}


def _draft7(part: Any) -> Any:  # noqa: ANN401 - JSON of any kind.
    if isinstance(part, list):
        return [_draft7(element) for element in part]
    if not isinstance(part, dict):
        return part
    result = {("definitions" if key == "$defs" else key): _draft7(value) for key, value in part.items()}
    if isinstance(result.get("discriminator"), dict) and "propertyName" in result["discriminator"]:
        del result["discriminator"]  # OpenAPI's, unknown to JSON Schema.
    if "patternProperties" in result:
        result.setdefault("additionalProperties", False)
    reference = result.get("$ref")
    if isinstance(reference, str):
        result["$ref"] = reference.replace("#/$defs/", "#/definitions/")
        if len(result) > 1:
            result["allOf"] = [{"$ref": result.pop("$ref")}]
    return result
