"""The closed table of what can be wrong with a policy; the reference documentation is generated from it."""

from __future__ import annotations

from typing import Final

from tokenweir import validation, yamlsource

_OWN: Final[dict[str, str]] = {
    "interpolation": "`${…}` stands in the policy. Its digest must be the digest of the text that was reviewed.",
    # References.
    "unknown-purpose": "A purpose that `purposes` does not have.",
    "unknown-class": "A class that `classes` does not have.",
    "unknown-token": "A token entry that `tokens` does not have.",
    "unknown-audience": "An audience that `audiences` does not have.",
    "unknown-subject": "A subject type that `subjects` does not have.",
    "unserved-purpose": "`requires` names a purpose that the audience does not serve.",
    # Purposes and classes.
    "assessment-missing": "Every basis but consent and opt_out needs the reference of an `assessment`.",
    "no-treatment": "Neither the class nor one above it says what happens to it.",
    "two-treatments": "`do` is short for one treatment and cannot stand beside `treatments`.",
    "condition-without-do": "`when` and `for` of a class belong to its `do`.",
    "special-without-consent": "A special category may leave only under purposes with explicit consent.",
    "always-conditional": "`always` is for classes that are kept without a condition.",
    "unreachable-treatment": "A treatment that can never be the first that matches. (warning)",
    "subject-token": "The ids of a subject type do not fit the token entry of their class.",
    "small-domain": "The values of a token entry are so few that its tokens can be guessed.",
    "small-permutation": "A token entry permutes a small set, which hides little. (warning)",
    "subject-name": "The ids of a subject type are tokenized by a format whose tokens do not tell people apart.",
    # Audiences and streams.
    "never-without-class": "A `never` pattern that covers no class.",
    "never-not-below": "A `never` pattern covers a class but not the classes below it. (warning)",
    "invalid-path": "A path that does not follow the path grammar.",
    "schema-file": "`schema` goes with format json and only with it.",
    "pair-apart": "A pair is two different fields of one record.",
    "topic-name": "A topic name that Kafka does not allow.",
    "topic-twice": "Two outputs write to one topic.",
    "topic-reserved": "A topic has the name that a later key epoch of an output will need.",
    "audience-twice": "Two outputs of one stream are for one audience.",
    "output-is-source": "An output writes to the source of a stream.",
    "key-not-tokenized": "`key: subject`, but no class of the stream's subjects is tokenized for the audience.",
    "weak-requires": "An external recipient gets records of people who were never asked. (warning)",
    "unused": "Nothing in the policy uses this. (warning)",
}

#: Every rule with the sentence that explains it.
RULES: Final[dict[str, str]] = yamlsource.RULES | validation.RULES | _OWN
