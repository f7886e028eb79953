"""The places that a stream itself names in a schema: ids of subjects, the event's time, pairs of coordinates."""

from __future__ import annotations

from tokenweir.core import access, paths, timestamps, tokens
from tokenweir.core.branches import Comparison, Pair
from tokenweir.core.fields import Classification
from tokenweir.core.plan import SubjectSource
from tokenweir.core.policy.classes import ClassTable
from tokenweir.core.policy.models import DigitsForm, Form, Policy, Stream, SubjectType, Tokenize
from tokenweir.core.schema import Kind, Node
from tokenweir.core.tagging import Problem
from tokenweir.errors import SchemaError

#: The rule of a problem that another version of the schema may answer: this version does not have the place at all.
UNKNOWN_PATH = "unknown-path"


class Places:
    """What a stream names, found in one schema.

    Attributes:
        subjects: Where a record says whom it is about, in the order of the stream; those that are found.
        subject_nodes: The index in ``subjects`` of each scalar place that holds an id.
        event_time: Path of the event's own time, "" for none.
        event_time_nodes: The places that the path means.
        pairs: Of each leaf of a pair, and of the union around it: the indexes of both in the record around.
        beside_pairs: All places inside of the records in which a pair stands.
        confused: Of each JSON union, places of an earlier branch with those of a later one that may be read as them.
    """

    def __init__(
        self,
        policy: Policy,
        table: ClassTable,
        stream: Stream,
        classification: Classification,
        problems: list[Problem],
    ) -> None:
        self._policy = policy
        self._table = table
        self._stream = stream
        self._classification = classification
        self._schema = classification.schema
        self._problems = problems
        self.subject_nodes: dict[Node, int] = {}
        #: What the stream takes a scalar place for.
        self._named: dict[Node, set[str]] = {}
        self.subjects = self._subjects()
        self.event_time_nodes: set[Node] = set()
        self.event_time = self._event_time()
        self.pairs: dict[Node, tuple[int, int]] = {}
        self.beside_pairs: set[Node] = set()
        for index, (latitude, longitude) in enumerate(stream.pairs):
            self._pair(latitude, longitude, index)
        self.confused: dict[Node, tuple[Pair, ...]] = {}
        if self._schema.format == "json":
            self._compare_branches()

    def class_at(self, node: Node) -> str | None:
        """Return the class of a place as :attr:`confused` has it, which for a map is that of its keys."""
        classification = self._classification
        return classification.key_class.get(node) if node.kind is Kind.MAP else classification.class_of(node)

    def _problem(self, rule: str, message: str, path: str, policy_key: tuple[str, ...], remedy: str) -> None:
        self._problems.append(Problem(rule, message, path, policy_key, remedy))

    def _locate(self, path: str, policy_key: tuple[str, ...], *, single_value: bool) -> list[Node]:
        """Return the places that a path means; several where it goes through a union without naming the branch."""
        try:
            paths.parse_path(path)
        except paths.PathError as error:
            self._problem("invalid-path", str(error), path, policy_key, "see the path grammar")
            return []
        try:
            nodes = access.locate_all(self._schema, path)
        except paths.PathError as error:
            self._problem(UNKNOWN_PATH, str(error), path, policy_key, "name a field of the schema")
            return []
        if single_value:
            try:
                access.accessor(self._schema, path)
            except paths.PathError as error:
                self._problem("invalid-path", str(error), path, policy_key, "name one value")
                return []
        return nodes

    def _subjects(self) -> tuple[SubjectSource, ...]:
        found: list[SubjectSource] = []
        for index, subject in enumerate(self._stream.subjects):
            kind = self._policy.subjects[subject.type]
            self._check_form_of_class(subject.type, kind, index)
            policy_key = ("subjects", str(index), "path")
            try:
                source = paths.SourcePath.parse(subject.path)
            except paths.PathError as error:
                self._problem("invalid-path", str(error), subject.path, policy_key, "see the path grammar")
                continue
            if source.origin == "key" and source.path:
                message = "ids inside framed keys are not read by this version"
                remedy = "use $key for a text key, or a field of the value"
                self._problem("framed-key", message, subject.path, policy_key, remedy)
                continue
            if source.origin == "value":
                nodes = self._locate(source.path, policy_key, single_value=True)
                if not nodes or not all(self._holds_id(node, kind.form, policy_key) for node in nodes):
                    continue
                for node in nodes:
                    self.subject_nodes[node.optional_of or node] = len(found)
                    self._named.setdefault(node.optional_of or node, set()).add(f"the id of a '{subject.type}'")
            null_values = self._null_values(kind.class_)
            found.append(SubjectSource(subject.type, source.origin, source.path, kind.form, kind.class_, null_values))
        return tuple(found)

    def _check_form_of_class(self, name: str, kind: SubjectType, index: int) -> None:
        """Refuse one class for ids of two forms: one of both would not have the token that is its record key."""
        for other_name, other in self._policy.subjects.items():
            if other.class_ == kind.class_ and other.form != kind.form:
                message = f"the subjects '{name}' and '{other_name}' have the class '{kind.class_}' in different forms"
                self._problem(
                    "subject-forms", message, "", ("subjects", str(index), "type"), "give each of them its own class"
                )
                return

    def _holds_id(self, node: Node, form: Form, policy_key: tuple[str, ...]) -> bool:
        scalar = node.optional_of or node
        if _fits_form(scalar, form):
            return True
        wanted = f"{form.digits} digits" if isinstance(form, DigitsForm) else f"form {form}"
        message = f"'{node.path}' is a {scalar.kind}, which never holds an id of {wanted}"
        self._problem("subject-type", message, node.path, policy_key, "name a field of another type, or another form")
        return False

    def _null_values(self, class_name: str) -> tuple[str, ...]:
        """Return the texts that mean "no id" in any token entry that this class uses."""
        values: set[str] = set()
        for audience in self._policy.audiences:
            for rule in self._table.rules(class_name, audience):
                if isinstance(rule.do, Tokenize) and rule.do.tokenize in self._policy.tokens:
                    values.update(tokens.build(self._policy.tokens[rule.do.tokenize]).null_values)
        return tuple(sorted(values))

    def _event_time(self) -> str:
        path = self._stream.event_time
        if path is None:
            return ""
        nodes = [node.optional_of or node for node in self._locate(path, ("event_time",), single_value=True)]
        for node in nodes:
            self.event_time_nodes.add(node)
            self._named.setdefault(node, set()).add("the event time")
            try:
                timestamps.event_time_reader(node)
            except SchemaError as error:
                remedy = "name a timestamp, a long in milliseconds or RFC 3339 text"
                self._problem("event-time-type", error.message, node.path, ("event_time",), remedy)
                continue
            if node.kind is Kind.STRING and not node.logical:
                message = f"'{node.path}' is any text to its schema; a record without RFC 3339 text there is rejected"
                remedy = "let the schema say so (format date-time), or name a timestamp"
                self._problems.append(
                    Problem("event-time-text", message, node.path, ("event_time",), remedy, severity="warning")
                )
        if len({(node.kind, node.logical) for node in nodes}) > 1:
            message = f"'{path}' has a different type in each branch of the union"
            self._problem("event-time-type", message, nodes[0].path, ("event_time",), "give it one type everywhere")
        return path if nodes else ""

    def _compare_branches(self) -> None:
        """Find what data of one branch may be read as, and refuse to read past what the stream names there."""
        named = self._named

        def meaning(node: Node) -> tuple[str | None, frozenset[str]]:
            return self.class_at(node), frozenset(named.get(node, ()))

        comparison = Comparison(meaning, named.__contains__)
        for union in self._schema.root.walk():
            if union.kind is not Kind.UNION:
                continue
            try:
                pairs = self.confused[union] = comparison.confused(union)
            except SchemaError as error:
                self._problem("ambiguous-union", error.message, error.path, (), "use fewer branches, or smaller ones")
                return
            for first, second in pairs:
                differing = named.get(first, set()) ^ named.get(second, set())
                if differing:
                    what = ", ".join(sorted(differing))
                    message = f"a value of '{second.path}' may be read as '{first.path}', and only one is {what}"
                    remedy = "tell the branches apart by a required property with an enum, or name the fuller one first"
                    self._problem("ambiguous-union", message, union.path, (), remedy)
                    break

    def _pair(self, latitude: str, longitude: str, index: int) -> None:
        policy_key = ("pairs", str(index))
        latitudes, longitudes = (
            set(self._locate(path, policy_key, single_value=False)) for path in (latitude, longitude)
        )
        if not latitudes or not longitudes:
            return
        found = False
        for record in self._schema.root.walk():
            by_node = {entry.node: position for position, entry in enumerate(record.fields)}
            pair = (latitudes & by_node.keys(), longitudes & by_node.keys())
            if record.kind is Kind.RECORD and all(pair):
                found = True
                self._add_pair(record, pair[0].pop(), pair[1].pop(), policy_key)
        if not found:
            message = f"'{latitude}' and '{longitude}' are not two fields of one record"
            self._problem("pair-apart", message, latitude, policy_key, "name two fields of one record")

    def _add_pair(self, record: Node, latitude: Node, longitude: Node, policy_key: tuple[str, ...]) -> None:
        class_of = self._classification.class_of
        if class_of(latitude) != class_of(longitude):
            # Otherwise one of both could stay exact beside the cell of the other.
            message = f"'{latitude.path}' and '{longitude.path}' have different classes"
            self._problem("pair-classes", message, latitude.path, policy_key, "give both the same class")
        positions = {entry.node: position for position, entry in enumerate(record.fields)}
        pair = (positions[latitude], positions[longitude])
        for node in (latitude, longitude):
            self.pairs.update(dict.fromkeys(node.walk(), pair))
        self.beside_pairs.update(record.walk())


def _fits_form(node: Node, form: Form) -> bool:
    """Return whether values of this type can have this form at all."""
    if isinstance(form, DigitsForm):
        return node.kind in {Kind.STRING, Kind.INT, Kind.LONG, Kind.INTEGER}
    if form == "uuid" and node.kind is Kind.FIXED:
        return node.size == 16
    return node.kind is Kind.STRING
