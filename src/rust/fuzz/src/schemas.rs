//! Schemas of a few places, made from the bytes of the fuzzer: every kind, nested, with types that repeat.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tokenweir_native::schema::{Field, Kind, Limits, Node, Schema};

use crate::input::Input;

/// Most levels of places.
const LEVELS: usize = 6;

/// Names of fields, which the dictionaries have as well.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Names of the types that may repeat.
const TYPES: [&str; 2] = ["T0", "T1"];

const AVRO: [Kind; 15] = [
    Kind::Null,
    Kind::Boolean,
    Kind::Int,
    Kind::Long,
    Kind::Float,
    Kind::Double,
    Kind::String,
    Kind::Bytes,
    Kind::Fixed,
    Kind::Enum,
    Kind::Record,
    Kind::Array,
    Kind::Map,
    Kind::Union,
    Kind::Reference,
];

const JSON: [Kind; 12] = [
    Kind::Null,
    Kind::Boolean,
    Kind::Integer,
    Kind::Number,
    Kind::String,
    Kind::Enum,
    Kind::Record,
    Kind::Array,
    Kind::Map,
    Kind::Union,
    Kind::Reference,
    Kind::Any,
];

/// Return a schema and limits.
pub fn schema(input: &mut Input<'_>, avro: bool) -> (Schema, Limits) {
    let limits = Limits {
        depth: input.one_of(&[64, 3, 1, usize::MAX]),
        elements: input.one_of(&[2_000, 10, 0]),
        bytes: input.one_of(&[usize::MAX, 100]),
        decimal_bytes: 4,
        number_characters: input.one_of(&[512, 5, usize::MAX]),
    };
    let kinds: &[Kind] = if avro { &AVRO } else { &JSON };
    let mut places = Places { input, kinds, left: 60 };
    let root = places.node(LEVELS, "", false);
    let mut types = BTreeMap::new();
    for name in TYPES {
        // A type of Avro that repeats is a record, an array or a map.
        let node = if avro { places.of_kind(Kind::Record, LEVELS - 1, name) } else { places.node(3, name, false) };
        types.insert(name.to_owned(), node);
    }
    (Schema { root, format: if avro { "avro" } else { "json" }.into(), types }, limits)
}

struct Places<'i, 'a> {
    input: &'i mut Input<'a>,
    kinds: &'static [Kind],
    /// How many further places there may be.
    left: usize,
}

impl Places<'_, '_> {
    fn node(&mut self, levels: usize, path: &str, in_union: bool) -> Node {
        let kind = self.input.one_of(self.kinds);
        self.left = self.left.saturating_sub(1);
        let nests = matches!(kind, Kind::Record | Kind::Array | Kind::Map | Kind::Union);
        let avro = self.kinds == AVRO.as_slice();
        if (nests && (levels == 0 || self.left == 0)) || (avro && in_union && kind == Kind::Union) {
            return self.of_kind(Kind::String, levels, path);
        }
        self.of_kind(kind, levels, path)
    }

    fn of_kind(&mut self, kind: Kind, levels: usize, path: &str) -> Node {
        let mut node = Node {
            kind,
            path: path.to_owned(),
            name: String::new(),
            logical: String::new(),
            attributes: BTreeMap::new(),
            symbols: Vec::new(),
            size: 0,
            fields: Vec::new(),
            items: None,
            branches: Vec::new(),
        };
        let below = levels.saturating_sub(1);
        let inside = |name: &str| format!("{path}.{name}");
        match kind {
            Kind::Bytes if self.input.below(2) == 1 => node.logical = "decimal".into(),
            Kind::Fixed => {
                node.size = self.input.below(18);
                if node.size > 12 {
                    node.logical = "decimal".into();
                }
            }
            Kind::Enum => {
                let count = 1 + self.input.below(NAMES.len());
                node.symbols = NAMES[..count].iter().map(|name| (*name).to_owned()).collect();
            }
            Kind::Boolean | Kind::Integer | Kind::Number => {
                if let Some(choices) = self.choices(kind) {
                    node.attributes.insert("enum".into(), choices);
                }
            }
            Kind::Record => {
                for name in NAMES.iter().take(self.input.below(NAMES.len() + 1)) {
                    let required = self.input.below(2) == 1;
                    node.fields.push(Field {
                        name: (*name).into(),
                        node: self.node(below, &inside(name), false),
                        required,
                    });
                }
            }
            Kind::Array | Kind::Map => node.items = Some(Box::new(self.node(below, &inside("*"), false))),
            Kind::Union => {
                for _ in 0..=self.input.below(4) {
                    let branch = self.node(below, &inside("|"), true);
                    // A parser of schemas lets a union have null once only, and other types without a name as well.
                    if branch.kind != Kind::Null || node.branches.iter().all(|known| known.kind != Kind::Null) {
                        node.branches.push(branch);
                    }
                }
            }
            Kind::Reference => self.input.one_of(&TYPES).clone_into(&mut node.name),
            _ => {}
        }
        node
    }

    /// Return the values that a JSON place is restricted to, if it is. Numbers of an enum are their texts.
    fn choices(&mut self, kind: Kind) -> Option<Json> {
        if self.kinds == AVRO.as_slice() || self.input.below(4) > 0 {
            return None;
        }
        Some(if kind == Kind::Boolean { json!([true]) } else { json!(["1", "-0.5", "1e2", "10000000000000000000001"]) })
    }
}
