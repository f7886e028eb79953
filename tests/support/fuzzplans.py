"""Plans and records for the fuzz targets of the native engine, as files in ``src/rust/fuzz``.

``python -m tests.support.fuzzplans`` writes the plans, and with ``--seeds`` records of them as seeds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from tests.support.engines import json_schema_of, rig
from tests.support.examples import EXAMPLES
from tests.support.nativepeople import People

from tokenweir.app.files import open_source
from tokenweir.app.workspace import schema_file
from tokenweir.core import nativeplan
from tokenweir.core.consent import PurposeRule
from tokenweir.core.derive import derive
from tokenweir.core.engineapi import Record
from tokenweir.core.plan import OutputPlan, Plan
from tokenweir.core.planning import plan_stream
from tokenweir.core.policy.models import Policy
from tokenweir.core.schema import DEFAULT_LIMITS
from tokenweir.runtime.sources import stream_context

_ROOT: Final = Path(__file__).parents[2]
FUZZ: Final = _ROOT / "src" / "rust" / "fuzz"
#: Scenarios whose plans have what those of the examples have not, and the formats that they are taken in.
_SCENARIOS: Final = {
    "keys_avro": "keys_headers_timestamps",
    "persons_avro": "persons",
    "structures_avro": "structures",
}
_SCENARIOS_JSON: Final = {"structures_json": "structures"}
#: In place of the characters that this version of Python would print.
_PRINTABLE: Final = [[0x20, 0x7E], [0xA1, 0x10FFFF]]
#: Records of each plan that become seeds.
_RECORDS: Final = 6


def plans() -> dict[str, tuple[Policy, Plan]]:
    """Return the plans by the name of their file."""
    found: dict[str, tuple[Policy, Plan]] = {}
    for example in EXAMPLES:
        policy = example.workspace().policy
        context = stream_context(policy, example.stream, example.keyset())
        planned = plan_stream(policy, context, [schema_file(example.path(example.schema))])
        found[example.name] = (policy.policy, planned.versions[0].compiled.plan)
    for name, scenario in (_SCENARIOS | _SCENARIOS_JSON).items():
        file = YAML(typ="safe", pure=True).load(_ROOT / "tests" / "scenarios" / f"{scenario}.yaml")
        policy_text, schema = file["policy"], file["schema"]
        if name in _SCENARIOS_JSON:
            policy_text, schema = policy_text.replace("format: avro", "format: json_schema"), json_schema_of(schema)
        stream = rig(policy_text, json.dumps(schema))
        found[name] = (stream.loaded.policy, stream.bound[0].plan)
    return dict(sorted(found.items()))


def text_of(policy: Policy, plan: Plan) -> str:
    """Return a plan, the parameters of its token tables and the number of its keyed functions, as in a file."""
    tables: dict[tuple[str, int, str], int] = {}
    specs: list[Any] = []

    def number_of(output: OutputPlan, entry: str) -> int:
        known = (output.domain, output.epoch, entry)
        if known not in tables:
            tables[known] = len(specs)
            specs.append(json.loads(plan.tokens[entry].model_dump_json(exclude_none=True)))
        return tables[known]

    prfs: list[object] = []

    def prf_of(output: OutputPlan, spec: object) -> int:
        known = (output.domain, output.epoch, spec)
        if known not in prfs:
            prfs.append(known)
        return prfs.index(known)

    rules = {name: PurposeRule.of(name, purpose) for name, purpose in policy.purposes.items()}
    derived = [derive(plan, output) for output in plan.outputs]
    document = json.loads(
        nativeplan.document(plan, derived, rules, nativeplan.Numbers(number_of, prf_of), DEFAULT_LIMITS)
    )
    if document["printable"]:
        document["printable"] = _PRINTABLE
    stored = {"tables": specs, **({"prfs": len(prfs)} if prfs else {}), "document": document}
    return json.dumps(stored, separators=(",", ":")) + "\n"


def _records(name: str, plan: Plan) -> Iterator[Record]:
    """Yield published events of an example, or random records of a scenario."""
    for example in EXAMPLES:
        if example.name == name:
            with open_source(str(example.events)) as source:
                for value, _ in zip(source.records, range(_RECORDS), strict=False):
                    yield Record(value, None, 0)
            return
    people = People(plan.source, 1)
    for _ in range(_RECORDS):
        yield people.record()


def _write_seed(target: str, data: bytes) -> None:
    directory = FUZZ / "seeds" / target
    directory.mkdir(parents=True, exist_ok=True)
    (directory / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)


def write_seeds() -> None:
    """Write records as the targets read them: what chooses plan and consent stands before the value."""
    places = {"avro": 0, "json": 0}  # Each target counts the plans of its format.
    for index, (name, (_, plan)) in enumerate(plans().items()):
        for number, record in enumerate(_records(name, plan)):
            value = record.value or b""
            _write_seed(plan.source.format, bytes([places[plan.source.format]]) + value)
            key = b"0000000007"
            flags = 1 | (2 if record.value is None else 0) | 4
            header = bytes([0, 1, 2]) + b"t1"
            _write_seed("engine", bytes([index, number, flags, 0, len(key)]) + key + header + value)
        places[plan.source.format] += 1


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", action="store_true", help="write records as seeds as well")
    for name, (policy, plan) in plans().items():
        (FUZZ / "plans" / f"{name}.json").write_text(text_of(policy, plan), "utf-8")
    if parser.parse_args().seeds:
        write_seeds()


if __name__ == "__main__":
    main()
