//! JSON records as values, as the tree of a JSON Schema says.
//!
//! What a record holds beyond its schema must be strict JSON as well, and is left out. The order of all checks is that
//! of `tokenweir.core.json_codec`.

use std::collections::HashMap;
use std::iter;

use bumpalo::collections::Vec as ArenaVec;

use crate::codec::json_numbers::{self, Decimal};
use crate::codec::json_places::{self, Content, Place, Record, Shape, Union};
use crate::codec::strict_json::{self, Document, Token};
use crate::codec::{Arena, Fault, Reason, SchemaError};
use crate::schema::{Limits, Schema};
use crate::value::Value;

/// How many values a reader may look at, and how many fields it may make, for each element that a record may have and
/// for each place of the schema. Where branches can only be told apart by trying them, unions inside of unions would
/// otherwise take time that doubles with every level; and small objects of a wide type take memory for all its fields.
const EFFORT: u64 = 10;

/// Places inside of each other, counting unions and references. A record that is not too deep stays far below, unless
/// references lead to references without end; that ends here as it does at the recursion limit of an interpreter.
const MAX_NESTING: usize = 400;

/// An object of more entries than this has its keys sorted to find the required ones.
const FEW_KEYS: usize = 16;

/// Reads the records of one schema.
pub(super) struct Reader {
    root: Place,
    types: Box<[Place]>,
    limits: Limits,
    effort: i64,
}

impl Reader {
    pub(super) fn new(schema: &Schema, limits: Limits) -> Result<Self, SchemaError> {
        let (root, types) = json_places::compile(schema)?;
        let effort = EFFORT.saturating_mul(limits.elements.saturating_add(json_places::count(&schema.root)));
        Ok(Self { root, types, limits, effort: i64::try_from(effort).unwrap_or(i64::MAX) })
    }

    /// Return the record that the bytes are, and how many of its values are absent fields, which have no byte.
    pub(super) fn read<'a>(&'a self, data: &'a [u8], arena: &'a Arena) -> Result<(Value<'a>, u64), Fault<'a>> {
        let document = strict_json::parse(data, &self.limits, arena).map_err(|reason| Fault { reason, path: "" })?;
        let sorted_keys = HashMap::new();
        let mut reading = Reading { types: &self.types, arena, document, left: self.effort, absent: 0, sorted_keys };
        let value = reading.value(&self.root, 0, 0)?;
        Ok((value, reading.absent))
    }
}

/// A parsed record, and what reading it may still cost.
struct Reading<'a> {
    types: &'a [Place],
    arena: &'a Arena,
    document: Document<'a>,
    left: i64,
    /// Fields that were made without an entry of the document; those of attempts at branches count as well.
    absent: u64,
    /// Where the keys of large objects stand, in the order of their texts, by the place of the object.
    sorted_keys: HashMap<usize, Vec<usize>>,
}

impl<'a> Reading<'a> {
    /// Return the value at a token; `nesting` counts the places around this one.
    fn value(&mut self, place: &'a Place, at: usize, nesting: usize) -> Result<Value<'a>, Fault<'a>> {
        let path = &*place.path;
        if nesting > MAX_NESTING {
            return Err(Fault { reason: Reason::TooDeep, path: "" });
        }
        let token = self.document.tokens[at];
        Ok(match (&place.content, token) {
            (Content::Null, Token::Null) => Value::Null,
            (Content::Boolean { allowed }, Token::Boolean(value)) if allowed[usize::from(value)] => {
                Value::Boolean(value)
            }
            (&Content::Number { integral, ref allowed }, Token::Number(number))
                if fits(number, integral, allowed.as_deref()) =>
            {
                Value::Number(number)
            }
            (Content::Text, Token::Text(_) | Token::Unescaped { .. }) => Value::Text(self.document.text(at)),
            (Content::Enum(symbols), Token::Text(_) | Token::Unescaped { .. }) => {
                symbols.index_of(self.document.text(at)).ok_or(mismatch(path))?;
                Value::Text(self.document.text(at))
            }
            (Content::Record(record), Token::Object { count, .. }) => self.record(record, path, at, count, nesting)?,
            (Content::Array(items), Token::Array { count, .. }) => {
                self.pay(count, path)?;
                let mut values = ArenaVec::with_capacity_in(count, self.arena);
                let mut at = at + 1;
                for _ in 0..count {
                    values.push(self.value(items, at, nesting + 1)?);
                    at = self.document.behind(at);
                }
                Value::Array(values.into_bump_slice())
            }
            (Content::Map(items), Token::Object { count, .. }) => {
                self.pay(count, path)?;
                let mut entries = ArenaVec::with_capacity_in(count, self.arena);
                let mut at = at + 1;
                for _ in 0..count {
                    let key = self.document.text(at);
                    entries.push((key, self.value(items, at + 1, nesting + 1)?));
                    at = self.document.behind(at + 1);
                }
                Value::Map(entries.into_bump_slice())
            }
            (Content::Union(union), token) => self.union(union, token, path, at, nesting)?,
            (&Content::Reference(number), _) => self.value(&self.types[number], at, nesting + 1)?,
            (Content::Anything, _) => Value::Absent,
            _ => return Err(mismatch(path)),
        })
    }

    fn record(
        &mut self,
        record: &'a Record,
        path: &'a str,
        at: usize,
        count: usize,
        nesting: usize,
    ) -> Result<Value<'a>, Fault<'a>> {
        // As a try of a branch may end here, this must cost nothing that grows with the object: that is paid for next.
        for &field in &record.required {
            if !self.has_key(record.names.at(field), at, count) {
                return Err(mismatch(&record.fields[field].path));
            }
        }
        self.pay(count + record.names.len(), path)?;
        self.absent += u64::try_from(record.names.len().saturating_sub(count)).unwrap_or(u64::MAX);
        let values = self.arena.alloc_slice_fill_copy(record.names.len(), Value::Absent);
        let mut at = at + 1;
        let mut likely = 0;
        for _ in 0..count {
            if let Some(field) = record.names.find(self.document.text(at), likely) {
                values[field] = self.value(&record.fields[field], at + 1, nesting + 1)?;
                likely = field + 1;
            }
            at = self.document.behind(at + 1);
        }
        Ok(Value::Record(values))
    }

    /// Return whether the object at a place has a key.
    fn has_key(&mut self, name: &str, object: usize, count: usize) -> bool {
        let document = &self.document;
        let keys = iter::successors(Some(object + 1), |&key| Some(document.behind(key + 1))).take(count);
        if count <= FEW_KEYS {
            return keys.into_iter().any(|key| document.text(key) == name);
        }
        let sorted = self.sorted_keys.entry(object).or_insert_with(|| {
            let mut keys: Vec<usize> = keys.collect();
            keys.sort_unstable_by_key(|&key| document.text(key));
            keys
        });
        sorted.binary_search_by_key(&name, |&key| document.text(key)).is_ok()
    }

    fn union(
        &mut self,
        union: &'a Union,
        token: Token<'a>,
        path: &'a str,
        at: usize,
        nesting: usize,
    ) -> Result<Value<'a>, Fault<'a>> {
        if token == Token::Null && union.nullable {
            return Ok(Value::Null);
        }
        let candidates = &union.candidates[shape_of(token) as usize];
        // Mostly the type decides. Then what is wrong inside of the branch is reported at its own place.
        if let [index] = **candidates {
            return Ok(Value::Branch(index, self.arena.alloc(self.value(&union.branches[index], at, nesting + 1)?)));
        }
        for &index in candidates {
            self.pay(1, path)?;
            match self.value(&union.branches[index], at, nesting + 1) {
                Ok(value) => return Ok(Value::Branch(index, self.arena.alloc(value))),
                Err(fault) if fault.reason == Reason::SchemaMismatch => {}
                Err(fault) => return Err(fault),
            }
        }
        Err(mismatch(path))
    }

    fn pay(&mut self, cost: usize, path: &'a str) -> Result<(), Fault<'a>> {
        self.left = self.left.saturating_sub(i64::try_from(cost).unwrap_or(i64::MAX));
        if self.left < 0 { Err(Fault { reason: Reason::TooManyElements, path }) } else { Ok(()) }
    }
}

fn mismatch(path: &str) -> Fault<'_> {
    Fault { reason: Reason::SchemaMismatch, path }
}

fn fits(number: &str, integral: bool, allowed: Option<&[Decimal]>) -> bool {
    if integral && !json_numbers::is_integer(number) {
        return false;
    }
    allowed.is_none_or(|allowed| Decimal::parse(number).is_some_and(|value| allowed.contains(&value)))
}

fn shape_of(token: Token<'_>) -> Shape {
    match token {
        Token::Null => Shape::Null,
        Token::Boolean(_) => Shape::Boolean,
        Token::Number(_) => Shape::Number,
        Token::Text(_) | Token::Unescaped { .. } => Shape::Text,
        Token::Array { .. } => Shape::Array,
        Token::Object { .. } => Shape::Object,
    }
}
