//! Schema trees: one node for every place where a value can stand, as a plan hands them over.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::codec::json_size;

/// What stands at a place of a schema; the kinds of `tokenweir.core.schema`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are those of the formats")]
pub enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Integer,
    Number,
    Bytes,
    Fixed,
    String,
    Enum,
    Record,
    Array,
    Map,
    Union,
    Reference,
    Any,
}

/// A field of a record or a property of an object.
#[derive(Debug, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its place.
    pub node: Node,
    /// Whether a record cannot do without it.
    pub required: bool,
}

/// One place of a schema; see `tokenweir.core.schema.Node`, whose plain form this is read from.
#[derive(Debug, Deserialize)]
pub struct Node {
    /// What stands here.
    pub kind: Kind,
    /// The canonical path of this place, "" for the root.
    pub path: String,
    /// The full name of a named type.
    pub name: String,
    /// The logical type or format.
    pub logical: String,
    /// What else is known of the values. The numbers of an `enum` are their texts, which no double would keep exactly.
    #[serde(deserialize_with = "with_exact_choices")]
    pub attributes: BTreeMap<String, serde_json::Value>,
    /// Of an enum.
    pub symbols: Vec<String>,
    /// Of a fixed, in bytes.
    pub size: usize,
    /// Of a record.
    pub fields: Vec<Field>,
    /// The element of an array, the value of a map.
    pub items: Option<Box<Node>>,
    /// Of a union, null included.
    pub branches: Vec<Node>,
}

fn with_exact_choices<'de, D>(deserializer: D) -> Result<BTreeMap<String, serde_json::Value>, D::Error>
where
    D: Deserializer<'de>,
{
    let attributes = BTreeMap::<String, Box<RawValue>>::deserialize(deserializer)?;
    let known = attributes.into_iter().map(|(name, text)| {
        let value = if name == "enum" { choices_of(text.get())? } else { serde_json::from_str(text.get())? };
        Ok((name, value))
    });
    known.collect::<serde_json::Result<_>>().map_err(D::Error::custom)
}

fn choices_of(text: &str) -> serde_json::Result<serde_json::Value> {
    let choices: Vec<Box<RawValue>> = serde_json::from_str(text)?;
    let exact = choices.iter().map(|choice| match choice.get() {
        number if number.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => Ok(number.into()),
        other => serde_json::from_str(other),
    });
    exact.collect::<serde_json::Result<Vec<_>>>().map(serde_json::Value::Array)
}

/// A tree and the named types that its references point at.
#[derive(Debug, Deserialize)]
pub struct Schema {
    /// The place of the whole record.
    pub root: Node,
    /// `avro` or `json`.
    pub format: String,
    /// The first node of each named type.
    pub types: BTreeMap<String, Node>,
}

/// What one record may cost before it is rejected; see `tokenweir.core.schema.Limits`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Limits {
    /// Levels of records, arrays and maps.
    pub depth: usize,
    /// What collections and recursive types hold together.
    pub elements: u64,
    /// Size of the record.
    pub bytes: usize,
    /// Size of a decimal.
    pub decimal_bytes: usize,
    /// Length of a JSON number.
    pub number_characters: usize,
}

/// Why a record was rejected, the place and nothing of the record; reasons are those of `tokenweir.core.outcome`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The reason, as it stands in dead letters.
    pub reason: &'static str,
    /// The path of the place.
    pub path: String,
}

/// Brackets inside of each other in a document. A level of a record takes seven of them in a plan: those of an output
/// tree for a record and a union. So the deepest records, of 128 levels, have their room, and a stack its bound.
const MAX_BRACKETS: usize = 1024;

/// Return what a JSON document says that this project has written itself, such as a plan or a schema.
///
/// Schemas of 64 levels are deeper as JSON than a parser allows by itself.
///
/// # Errors
///
/// The document is not JSON, is nested too deep, or says something else than expected.
pub fn from_json<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    if json_size::deepest(text.as_bytes()) > MAX_BRACKETS {
        return Err(serde_json::Error::custom(format_args!("nested deeper than {MAX_BRACKETS} brackets")));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.disable_recursion_limit();
    let value = T::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_numbers_of_an_enum_keep_every_digit() {
        let text = r#"{"kind": "number", "path": "", "name": "", "logical": "", "symbols": [], "size": 0, "fields": [],
            "items": null, "branches": [],
            "attributes": {"enum": [100000000000000000000000001, -0.10, 1e+300, true], "maximum": 5}}"#;
        let node: Node = from_json(text).unwrap();
        let choices = json!(["100000000000000000000000001", "-0.10", "1e+300", true]);
        assert_eq!((&node.attributes["enum"], &node.attributes["maximum"]), (&choices, &json!(5)));
        assert!(from_json::<Node>(&format!("{text} x")).is_err());
    }

    #[test]
    fn a_document_is_no_deeper_than_a_stack_bears() {
        let nested = |levels: usize| {
            let before = r#"{"kind": "union", "path": "[", "name": "", "logical": "", "attributes": {}, "symbols": [],
                "size": 0, "fields": [], "items": null, "branches": ["#;
            from_json::<Node>(&format!("{}{}", before.repeat(levels), "]}".repeat(levels)))
        };
        // As large as the stack of a main thread; those of tests are smaller, and calls without optimization larger.
        let deepest = std::thread::Builder::new().stack_size(8 << 20).spawn(move || nested(512).is_ok());
        assert!(deepest.unwrap().join().unwrap());
        assert!(nested(513).is_err_and(|error| error.to_string().contains("nested deeper")));
        assert!(from_json::<Node>(&r#"{"items":"#.repeat(500_000)).is_err());
    }
}
