"""Every rule that a finding can name, with its sentence: one table for lint, SARIF and the reference."""

from __future__ import annotations

from typing import Final

from tokenweir import config
from tokenweir.core.detokenize import grants
from tokenweir.core.policy import rules as policy

#: What can be wrong between a policy and a schema.
PLANNING: Final[dict[str, str]] = {
    "schema": "A schema is malformed, over a limit, or uses what cannot be sanitized.",
    "schemas": "The schemas of a stream could not be had.",
    "unclassified-field": "A field has no class, and `unclassified: refuse` is set.",
    "unmatched-rule": "A path under `fields` matches nothing in any known schema.",
    "unmatched-metadata": "A tag in the registry's metadata matches nothing in its schema.",
    "unknown-tag": "A tag of the schema is neither a class nor under `tags`.",
    "unused-tag": "An entry of `tags` that no schema uses. (warning)",
    "unknown-path": "A path of the stream that the schema does not have.",
    "bad-path": "A path in the schema's metadata does not follow the path grammar.",
    "tags-conflict": "Several tags on one field name classes of which none is below the others.",
    "tags-disagree": "The schema's tags and the registry's tags give one field different classes.",
    "overlay-conflict": "Two rules under `fields` give one place different classes.",
    "overlay-contradicts-tag": "A rule under `fields` contradicts the tag of its place or of what encloses it, "
    "and needs `overrides` and `reason`.",
    "override-mismatch": "`overrides` names another class than the schema's tag gives.",
    "override-unused": "`overrides` stands at a field that the schema does not tag. (warning)",
    "subject-type": "The id of a data subject is neither text nor a whole number.",
    "subject-class": "The class of an id's field is not the class of its subject type.",
    "subject-forms": "Two subject types share a class, and their ids have different forms.",
    "framed-key": "The id of a data subject stands inside a framed record key.",
    "event-time-type": "`event_time` names something that is no time.",
    "event-time-text": "`event_time` names a text of which the schema does not say that it is a time. (warning)",
    "pair-classes": "The two fields of a pair have different classes.",
    "always-optional": "A class says `always`, and the schema does not require the field.",
    "always-missing": "A class says `always`, and the field is not in every known version of the schema.",
    "ambiguous-union": "Branches of a union that a value cannot tell apart have different classes, or only one "
    "has a subject's id or the event time.",
    "map-keys": "The keys of a map can only be kept or dropped.",
    "treatment-type": "A treatment that cannot work on a field, because of its type or of what else leaves.",
    "cannot-treat": "A treatment that would break what the schema promises of a field.",
    "underivable-schema": "No schema can be derived for an audience.",
}

#: What can be wrong with a configuration beyond what its loader sees.
CONFIGURATION: Final[dict[str, str]] = {
    "kafka-property": "A property that librdkafka does not know, or that the gateway sets itself.",
    "topic-clash": "The consent topic or a dead-letter topic is also a source, an output, or one another.",
}

#: What can be wrong with other files.
FILES: Final[dict[str, str]] = {
    "consent-line": "A line of a consent file that cannot be read; the file is then not used at all.",
}

#: Where two files have a rule of one name, the policy's sentence stands.
RULES: Final[dict[str, str]] = grants.RULES | policy.RULES | PLANNING | config.RULES | CONFIGURATION | FILES
