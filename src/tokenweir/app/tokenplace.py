"""From what people know of a token to its entry and key domain: the stream and field in which they found it."""

from __future__ import annotations

from tokenweir.app.detokenize import Place
from tokenweir.app.plans import rules_by_path
from tokenweir.app.workspace import Workspace
from tokenweir.core.planning import PlannedStream
from tokenweir.errors import FileFormatError, UsageError
from tokenweir.validation import suggest


def field_places(planned: PlannedStream) -> dict[tuple[str, str], set[Place]]:
    """Return where the tokens of each field of a stream come from, by path and audience, in any version."""
    found: dict[tuple[str, str], set[Place]] = {}
    for version in planned.versions:
        for output in version.compiled.plan.outputs:
            for path, rules in rules_by_path(output).items():
                for action in rules.actions():
                    if action.kind == "tokenize":
                        place = Place(action.token, output.domain)
                        found.setdefault((path, output.audience), set()).add(place)
    return found


def place_of_field(workspace: Workspace, stream: str, path: str, audience: str | None) -> Place:
    """Return the token entry and key domain of a field of a stream.

    Raises:
        UsageError: the field has no token there, or more than one; the message says what to name.
        FileFormatError: the stream has no schema.
        FindingsError: the policy and the schemas do not fit together.
    """
    planned = workspace.plan(workspace.stream(stream))
    workspace.require_clean()
    if not planned.versions:
        raise FileFormatError(f"stream '{stream}' has no schema")
    found = field_places(planned)
    audiences = {output.audience for output in planned.context.stream.outputs}
    if audience is not None and audience not in audiences:
        raise UsageError(f"stream '{stream}' has no output for '{audience}': there is {', '.join(sorted(audiences))}")
    places = {
        place
        for (where, who), each in found.items()
        if where == path and (audience is None or who == audience)
        for place in each
    }
    if not places:
        known = sorted({where for where, _ in found})
        hint = suggest(path, known) or f"tokens stand in {', '.join(known) or 'no field'}"
        raise UsageError(f"no field '{path}' of stream '{stream}' leaves as a token there ({hint})")
    if len(places) > 1:
        listed = ", ".join(sorted(f"--entry {place.entry} --domain {place.domain}" for place in places))
        raise UsageError(f"field '{path}' has tokens of several kinds; name the --audience, or one of: {listed}")
    return places.pop()
