//! Avro data as values: a schema tree compiled once, and hostile bytes that cost no more than the limits say.
//!
//! Follows the Apache Avro 1.12 specification ("Binary Encoding"). A byte pays for nothing, because one byte may stand
//! for many values: each value that is made is either a place of the schema outside of every collection, union and
//! recursive type, or one of the elements of the budget. Counts are checked before anything is built.

use std::collections::HashSet;
use std::str;
use std::sync::Arc;

use bumpalo::collections::Vec as ArenaVec;

use crate::codec::symbols::{Interner, Symbols};
use crate::codec::types::Types;
use crate::codec::{Arena, Fault, Reason, SchemaError};
use crate::schema::{Kind, Limits, Node, Schema};
use crate::value::Value;

/// Levels of records, arrays and maps that no limit can raise, as in `tokenweir.core.avro_types`.
const MAX_DEPTH: usize = 64;

/// A map of more entries than this finds a key that it has by a set.
const FEW_KEYS: usize = 16;

/// Reads the data of one schema.
pub(super) struct Reader {
    root: Place,
    types: Box<[Place]>,
    bytes: usize,
    elements: u64,
    depth: usize,
}

/// One place of the schema: what stands there, and the path that a refusal names.
struct Place {
    path: Box<str>,
    content: Content,
}

enum Content {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    String,
    Bytes {
        most: usize,
    },
    Fixed {
        size: usize,
        most: usize,
    },
    Enum(Arc<Symbols>),
    Record(Box<[Place]>),
    Array(Box<Paid>),
    Map(Box<Paid>),
    Union {
        null: Option<usize>,
        branches: Box<[Paid]>,
    },
    /// A return into a type, `levels` records, arrays and maps below the root or the last return.
    Reference {
        number: usize,
        levels: usize,
        cost: u64,
    },
}

/// A place that costs elements of the budget whenever it is read.
struct Paid {
    place: Place,
    cost: u64,
}

impl Reader {
    pub(super) fn new(schema: &Schema, limits: Limits) -> Result<Self, SchemaError> {
        let mut compiler = Compiler { types: Types::of(schema), symbols: Interner::default(), costs: vec![], limits };
        let root = compiler.place(&schema.root, 0)?;
        let mut types = Vec::new();
        while let Some(node) = compiler.types.get(types.len()) {
            if !matches!(node.kind, Kind::Record | Kind::Array | Kind::Map) {
                // With no level in between, data could return into the type without end.
                return Err(SchemaError::at(node, "a recursive type is no record, array or map"));
            }
            types.push(compiler.place(node, 0)?);
        }
        let depth = limits.depth.min(MAX_DEPTH);
        Ok(Self { root, types: types.into(), bytes: limits.bytes, elements: limits.elements, depth })
    }

    /// Return the datum that the bytes are, and how many elements it took.
    pub(super) fn read<'a>(&'a self, data: &'a [u8], arena: &'a Arena) -> Result<(Value<'a>, u64), Fault<'a>> {
        let path = &*self.root.path;
        if data.len() > self.bytes {
            return Err(Fault { reason: Reason::TooLarge, path });
        }
        let mut reading = Reading { reader: self, arena, rest: data, elements: self.elements, level: 0 };
        let value = reading.value(&self.root)?;
        if !reading.rest.is_empty() {
            return Err(Fault { reason: Reason::TrailingBytes, path });
        }
        Ok((value, self.elements - reading.elements))
    }
}

struct Compiler<'s> {
    types: Types<'s>,
    symbols: Interner<'s>,
    /// What a return into each type costs, by its number.
    costs: Vec<u64>,
    limits: Limits,
}

impl<'s> Compiler<'s> {
    /// Compile a node with `level` records, arrays and maps around it.
    fn place(&mut self, node: &'s Node, level: usize) -> Result<Place, SchemaError> {
        let content = match node.kind {
            Kind::Null => Content::Null,
            Kind::Boolean => Content::Boolean,
            Kind::Int => Content::Int,
            Kind::Long => Content::Long,
            Kind::Float => Content::Float,
            Kind::Double => Content::Double,
            Kind::String => Content::String,
            Kind::Bytes => Content::Bytes { most: self.most(node) },
            Kind::Fixed => Content::Fixed { size: node.size, most: self.most(node) },
            Kind::Enum => Content::Enum(self.symbols.table(&node.symbols)),
            Kind::Record => {
                let fields = node.fields.iter().map(|field| self.place(&field.node, level + 1));
                Content::Record(fields.collect::<Result<_, _>>()?)
            }
            Kind::Array => Content::Array(self.items(node, level)?),
            Kind::Map => Content::Map(self.items(node, level)?),
            Kind::Union => self.union(node, level)?,
            Kind::Reference => self.reference(node, level)?,
            Kind::Integer | Kind::Number | Kind::Any => return Err(SchemaError::at(node, "what is here is not Avro")),
        };
        Ok(Place { path: node.path.as_str().into(), content })
    }

    /// Return how many bytes a value may have.
    fn most(&self, node: &Node) -> usize {
        if node.logical == "decimal" { self.limits.decimal_bytes } else { self.limits.bytes }
    }

    fn items(&mut self, node: &'s Node, level: usize) -> Result<Box<Paid>, SchemaError> {
        let missing = || SchemaError::at(node, "an array or map without a type for what it holds");
        let items = node.items.as_deref().ok_or_else(missing)?;
        Ok(Box::new(Paid { place: self.place(items, level + 1)?, cost: cost_of(items) }))
    }

    fn union(&mut self, node: &'s Node, level: usize) -> Result<Content, SchemaError> {
        let null = node.branches.iter().position(|branch| branch.kind == Kind::Null);
        let branches = node.branches.iter().map(|branch| {
            if branch.kind == Kind::Union {
                // Levels do not count them, and reading recurses through them.
                return Err(SchemaError::at(node, "a union directly inside of a union"));
            }
            // The union itself has been paid for, and so the branch, but not what a record has beside itself.
            Ok(Paid { place: self.place(branch, level)?, cost: cost_of(branch) - 1 })
        });
        Ok(Content::Union { null, branches: branches.collect::<Result<_, _>>()? })
    }

    fn reference(&mut self, node: &'s Node, levels: usize) -> Result<Content, SchemaError> {
        let number = self.types.number(node)?;
        if number == self.costs.len() {
            self.costs.push(cost_of(self.types.known(node)?));
        }
        Ok(Content::Reference { number, levels, cost: self.costs[number] })
    }
}

/// Return how many values every reading of a node makes: itself and, of a record, those of its fields.
///
/// What is below a union, an array or a map is paid for when the branch or the count has been read.
fn cost_of(node: &Node) -> u64 {
    if node.kind == Kind::Record { 1 + node.fields.iter().map(|field| cost_of(&field.node)).sum::<u64>() } else { 1 }
}

/// What is left of a datum, of what it may cost, and how deep its reader stands in recursive types.
struct Reading<'a> {
    reader: &'a Reader,
    arena: &'a Arena,
    rest: &'a [u8],
    elements: u64,
    level: usize,
}

/// The head of a block of items.
struct Block {
    count: u64,
    /// How many bytes are left behind it, if it says so.
    rest: Option<usize>,
}

impl<'a> Reading<'a> {
    fn value(&mut self, place: &'a Place) -> Result<Value<'a>, Fault<'a>> {
        let path = &*place.path;
        let refused = |reason| Fault { reason, path };
        Ok(match &place.content {
            Content::Null => Value::Null,
            Content::Boolean => match self.take(1, path)? {
                [0] => Value::Boolean(false),
                [1] => Value::Boolean(true),
                _ => return Err(refused(Reason::Malformed)),
            },
            Content::Int => {
                let number = i32::try_from(self.varint(path)?).map_err(|_| refused(Reason::OutOfRange))?;
                Value::Integer(number.into())
            }
            Content::Long => Value::Integer(self.varint(path)?),
            Content::Float => finite(f32::from_le_bytes(self.array_of(path)?).into(), path)?,
            Content::Double => finite(f64::from_le_bytes(self.array_of(path)?), path)?,
            Content::String => Value::Text(self.text(path)?),
            &Content::Bytes { most } => {
                let length = self.length(path)?;
                self.bytes(length, most, path)?
            }
            &Content::Fixed { size, most } => self.bytes(size, most, path)?,
            Content::Enum(symbols) => {
                let index = self.varint(path)?;
                let symbol = usize::try_from(index).ok().and_then(|index| symbols.at(index));
                Value::Text(symbol.ok_or(refused(Reason::OutOfRange))?)
            }
            Content::Record(fields) => {
                let values = self.arena.alloc_slice_fill_copy(fields.len(), Value::Null);
                for (value, field) in values.iter_mut().zip(fields) {
                    *value = self.value(field)?;
                }
                Value::Record(values)
            }
            Content::Array(items) => self.array(items, path)?,
            Content::Map(items) => self.map(items, path)?,
            Content::Union { null, branches } => {
                let index = self.varint(path)?;
                let index = usize::try_from(index).map_err(|_| refused(Reason::OutOfRange))?;
                if Some(index) == *null {
                    return Ok(Value::Null);
                }
                let branch = branches.get(index).ok_or(refused(Reason::OutOfRange))?;
                self.pay(branch.cost, &branch.place.path)?;
                Value::Branch(index, self.arena.alloc(self.value(&branch.place)?))
            }
            &Content::Reference { number, levels, cost } => {
                self.level += levels;
                if self.level >= self.reader.depth {
                    return Err(refused(Reason::TooDeep));
                }
                self.pay(cost, path)?;
                let value = self.value(&self.reader.types[number])?;
                self.level -= levels;
                value
            }
        })
    }

    fn array(&mut self, items: &'a Paid, path: &'a str) -> Result<Value<'a>, Fault<'a>> {
        let mut values = ArenaVec::new_in(self.arena);
        while let Some(block) = self.block(items.cost, path)? {
            values.reserve(self.at_once(&block));
            for _ in 0..block.count {
                values.push(self.value(&items.place)?);
            }
            self.close(&block, path)?;
        }
        Ok(Value::Array(values.into_bump_slice()))
    }

    fn map(&mut self, items: &'a Paid, path: &'a str) -> Result<Value<'a>, Fault<'a>> {
        let mut entries: ArenaVec<'a, (&'a str, Value<'a>)> = ArenaVec::new_in(self.arena);
        let mut keys = HashSet::new();
        while let Some(block) = self.block(items.cost, path)? {
            entries.reserve(self.at_once(&block));
            for _ in 0..block.count {
                let key = self.text(path)?;
                if !is_new(key, &entries, &mut keys) {
                    return Err(Fault { reason: Reason::DuplicateKey, path });
                }
                entries.push((key, self.value(&items.place)?));
            }
            self.close(&block, path)?;
        }
        Ok(Value::Map(entries.into_bump_slice()))
    }

    /// Read the head of a block of items and pay for them; None is the end of the array or map.
    fn block(&mut self, cost: u64, path: &'a str) -> Result<Option<Block>, Fault<'a>> {
        let signed = self.varint(path)?;
        let mut block = Block { count: signed.unsigned_abs(), rest: None };
        if signed < 0 {
            let size = self.length(path)?;
            let rest = self.rest.len().checked_sub(size);
            block.rest = Some(rest.ok_or(Fault { reason: Reason::Malformed, path })?);
        }
        self.pay(block.count.saturating_mul(cost), path)?;
        Ok((block.count > 0).then_some(block))
    }

    /// Return for how many items of a block there is room to make: no more than bytes are left, whatever the limits.
    fn at_once(&self, block: &Block) -> usize {
        usize::try_from(block.count).map_or(self.rest.len(), |count| count.min(self.rest.len()))
    }

    fn close(&self, block: &Block, path: &'a str) -> Result<(), Fault<'a>> {
        if block.rest.is_some_and(|rest| rest != self.rest.len()) {
            return Err(Fault { reason: Reason::Malformed, path });
        }
        Ok(())
    }

    fn pay(&mut self, cost: u64, path: &'a str) -> Result<(), Fault<'a>> {
        let left = self.elements.checked_sub(cost);
        self.elements = left.ok_or(Fault { reason: Reason::TooManyElements, path })?;
        Ok(())
    }

    fn take(&mut self, length: usize, path: &'a str) -> Result<&'a [u8], Fault<'a>> {
        let split = self.rest.split_at_checked(length);
        let (taken, rest) = split.ok_or(Fault { reason: Reason::Malformed, path })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array_of<const LENGTH: usize>(&mut self, path: &'a str) -> Result<[u8; LENGTH], Fault<'a>> {
        let split = self.rest.split_first_chunk();
        let (&taken, rest) = split.ok_or(Fault { reason: Reason::Malformed, path })?;
        self.rest = rest;
        Ok(taken)
    }

    fn bytes(&mut self, length: usize, most: usize, path: &'a str) -> Result<Value<'a>, Fault<'a>> {
        let bytes = self.take(length, path)?;
        if length > most {
            return Err(Fault { reason: Reason::TooLarge, path });
        }
        Ok(Value::Bytes(bytes))
    }

    fn text(&mut self, path: &'a str) -> Result<&'a str, Fault<'a>> {
        let length = self.length(path)?;
        let bytes = self.take(length, path)?;
        str::from_utf8(bytes).map_err(|_| Fault { reason: Reason::InvalidUtf8, path })
    }

    fn length(&mut self, path: &'a str) -> Result<usize, Fault<'a>> {
        usize::try_from(self.varint(path)?).map_err(|_| Fault { reason: Reason::Malformed, path })
    }

    fn varint(&mut self, path: &'a str) -> Result<i64, Fault<'a>> {
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(from_zigzag((*byte).into()));
        }
        self.long_varint(path)
    }

    /// Read a zigzag varint of up to ten bytes.
    fn long_varint(&mut self, path: &'a str) -> Result<i64, Fault<'a>> {
        let mut raw = 0;
        for (place, &byte) in self.rest.iter().take(10).enumerate() {
            raw |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                // Of the tenth byte only the lowest bit is one of the 64.
                if place == 9 && byte > 1 {
                    return Err(Fault { reason: Reason::OutOfRange, path });
                }
                self.rest = &self.rest[place + 1..];
                return Ok(from_zigzag(raw));
            }
        }
        Err(Fault { reason: Reason::Malformed, path })
    }
}

fn from_zigzag(raw: u64) -> i64 {
    (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed()
}

fn finite(number: f64, path: &str) -> Result<Value<'_>, Fault<'_>> {
    if number.is_finite() { Ok(Value::Real(number)) } else { Err(Fault { reason: Reason::NonFinite, path }) }
}

/// Return whether a map does not have a key yet: few are compared one by one, many are looked up.
fn is_new<'a>(key: &'a str, entries: &[(&'a str, Value<'a>)], many: &mut HashSet<&'a str>) -> bool {
    if entries.len() < FEW_KEYS {
        return entries.iter().all(|(known, _)| *known != key);
    }
    if many.is_empty() {
        many.extend(entries.iter().map(|(known, _)| known));
    }
    many.insert(key)
}
