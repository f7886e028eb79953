"""JSON Schemas (draft 7, which editors read) of the files that people write."""

from __future__ import annotations

from typing import Any, Final

from tokenweir.config import config_json_schema
from tokenweir.core.detokenize.grants import grants_json_schema
from tokenweir.core.policy.loader import policy_json_schema

#: RFC 3339, in UTC or with an offset.
_INSTANT: Final = {"type": "string", "format": "date-time"}


def consent_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of one line of a consent file; without ``subject`` it is the value of a consent record."""
    word: dict[str, Any] = {"enum": ["allow", "deny"]}
    decision: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["decision"],
        "properties": {
            "decision": {**word, "description": "What was decided."},
            "decided_at": {**_INSTANT, "description": "When. Default: the record's own `decided_at`."},
            "expires_at": {
                "type": ["string", "null"],
                "format": "date-time",
                "description": "When an allow becomes unknown; a deny never expires.",
            },
            "notice": {"type": ["string", "null"], "description": "Which text the person saw."},
            "evidence": {"type": ["string", "null"], "description": "Where the decision is documented."},
        },
    }
    only_deny = {
        "anyOf": [
            {"const": "deny"},
            {**decision, "properties": {**decision["properties"], "decision": {"const": "deny"}}},
        ]
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "tokenweir consent line",
        "description": "The full state of one data subject at one source. A line with `decisions: null` forgets it.",
        "type": "object",
        "additionalProperties": False,
        "required": ["subject", "decisions"],
        "properties": {
            "subject": {
                "type": "string",
                "pattern": "^[^:#]+:[^:]+$",
                "description": "`type:id`, or `type:id#source`; other characters than [A-Za-z0-9._~@+-] are escaped.",
            },
            "version": {"const": 1, "description": "Version of the consent format."},
            "decided_at": {**_INSTANT, "description": "When the person last decided anything."},
            "expires_at": {
                "type": ["string", "null"],
                "format": "date-time",
                "description": "When the allows below that name no date of their own expire.",
            },
            "jurisdiction": {
                "type": ["string", "null"],
                "maxLength": 64,
                "description": "Whose law applies, such as `DE` or `US-CA`.",
            },
            "minor": {"type": "boolean", "default": False, "description": "The person is a minor."},
            "decisions": {
                "type": ["object", "null"],
                "description": "By purpose; `*` is every purpose, `purpose@recipient` one recipient: both only deny.",
                "properties": {"*": only_deny},
                "patternProperties": {"@": only_deny},
                "additionalProperties": {"anyOf": [word, decision]},
            },
        },
        "if": {"properties": {"decisions": {"type": "object"}}},
        "then": {"required": ["version", "decided_at"]},
    }


#: What each kind of file looks like, by its name on the command line.
FILE_SCHEMAS: Final = {
    "config": config_json_schema,
    "policy": policy_json_schema,
    "consent": consent_json_schema,
    "grants": grants_json_schema,
}
