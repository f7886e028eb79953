"""A policy made by rule for any schema: numbers stay, identifiers become tokens, times become days, the rest goes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from tokenweir.core.schema import CONTAINERS, Kind, Node, Schema

STREAM: Final = "events"
TOPIC: Final = "auto.events"
INSIDE: Final = "inside"
"""The audience that gets what nobody objected to."""
PARTNER: Final = "partner"
"""The audience that gets what was allowed."""
PURPOSE: Final = "offers"
"""The purpose that the partner needs an allow for."""

_NUMBERS: Final = frozenset(
    {Kind.BOOLEAN, Kind.ENUM, Kind.INT, Kind.LONG, Kind.FLOAT, Kind.DOUBLE, Kind.INTEGER, Kind.NUMBER}
)
_IDENTIFIER: Final = re.compile(r"(?i)(id|user|name|e-?mail|ip|phone|address|city)\"?\Z")
#: A place that is in every record at most once.
_SINGLE: Final = re.compile(r"[\w.\" -]+\Z")


def auto_policy(schema: Schema, *, careless: bool = False) -> str:
    """Return the text of a policy with a class for every place of the schema.

    Args:
        schema: The schema.
        careless: Keep also what the schema does not describe, and types that contain themselves. Nothing can do that,
            so a schema with such places must be refused.
    """
    fields = dict(_classes(schema.root, careless=careless))
    subject = next((path for path, name in fields.items() if name == "id" and _SINGLE.match(path)), None)
    if subject is not None:
        fields[subject] = "person"
    return json.dumps(_document(schema, fields, subject or "$key"), ensure_ascii=False, indent=1)


def subject_path(policy: str) -> str:
    """Return where an automatic policy finds the data subject."""
    path: str = json.loads(policy)["streams"][STREAM]["subjects"][0]["path"]
    return path


def _classes(node: Node, *, careless: bool) -> Iterator[tuple[str, str]]:
    if node.kind is Kind.MAP:
        yield f"{node.path}{{@key}}", "key"
    if node.kind not in CONTAINERS:
        yield node.path or "**", _class(node, careless=careless)
    for child in node.children():
        if node.kind is not Kind.UNION or child.kind is not Kind.NULL:
            yield from _classes(child, careless=careless)


def _class(node: Node, *, careless: bool) -> str:
    if node.kind in {Kind.REFERENCE, Kind.ANY}:
        return "number" if careless else "rest"
    if node.logical.startswith(("timestamp", "local-timestamp")) or node.logical in {"date", "date-time"}:
        return "time"
    if node.kind in _NUMBERS or node.logical == "decimal":
        return "number"
    if node.logical == "uuid":
        return "uuid"
    if node.kind is Kind.STRING and _IDENTIFIER.search(re.sub(r"<[^>]*>\Z", "", node.path)):
        return "id"
    return "rest"


def _document(schema: Schema, fields: dict[str, str], subject: str) -> dict[str, Any]:
    return {
        "version": 1,
        "purposes": {
            "analytics": {
                "title": "Analysis",
                "basis": "legitimate_interest",
                "assessment": "A-1",
                "retention_days": 9,
            },
            PURPOSE: {"title": "Offers", "basis": "consent", "retention_days": 9},
        },
        "subjects": {"person": {"class": "person", "form": "text"}},
        "classes": {
            "person": {"do": {"tokenize": "person"}},
            "id": {"do": {"tokenize": "id"}},
            "uuid": {"do": {"tokenize": "uuid"}},
            "time": {"do": {"generalize": {"time": "month"}}},
            "number": {"do": "keep"},
            "key": {"do": "keep"},
            "rest": {"do": "drop"},
        },
        "tokens": {"person": {"format": "opaque"}, "id": {"format": "opaque"}, "uuid": {"format": "uuid"}},
        "audiences": {
            INSIDE: {"title": "Inside", "purposes": ["analytics"], "recipients": [_recipient("team", "internal")]},
            PARTNER: {"title": "Partner", "purposes": [PURPOSE], "recipients": [_recipient("acme", "controller")]},
        },
        "streams": {
            STREAM: {
                "source": {"topic": TOPIC, "format": "avro" if schema.format == "avro" else "json_schema"},
                "subjects": [{"type": "person", "path": subject}],
                "no_subject": "anonymous",
                "fields": fields,
                "outputs": [{"audience": INSIDE}, {"audience": PARTNER}],
            }
        },
    }


def _recipient(name: str, role: str) -> dict[str, str]:
    return {"id": name, "name": name.title(), "role": role}
