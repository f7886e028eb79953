//! Values as Avro data: the reverse of [`super::avro_reader`], in the one canonical encoding.
//!
//! Follows the Apache Avro 1.12 specification ("Binary Encoding"). Varints are as short as possible, and an array or
//! map is one block without its size. Values that were read are no deeper than the limits of their reader, so that
//! writing them needs no limit of its own.

use std::sync::Arc;

use crate::codec::symbols::{Interner, Symbols};
use crate::codec::types::Types;
use crate::codec::{Misfit, SchemaError};
use crate::schema::{Kind, Node, Schema};
use crate::value::Value;

/// Writes the data of one schema.
pub(super) struct Writer {
    root: Content,
    types: Box<[Content]>,
}

enum Content {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    String,
    Bytes,
    Fixed(usize),
    Enum(Arc<Symbols>),
    Record(Box<[Content]>),
    Array(Box<Content>),
    Map(Box<Content>),
    Union {
        null: Option<usize>,
        /// None for the null branch: its value is no pair of a branch and what stands there.
        branches: Box<[Option<Content>]>,
    },
    Reference(usize),
}

impl Writer {
    pub(super) fn new(schema: &Schema) -> Result<Self, SchemaError> {
        let mut compiler = Compiler { types: Types::of(schema), symbols: Interner::default() };
        let root = compiler.content(&schema.root)?;
        let mut types = Vec::new();
        while let Some(node) = compiler.types.get(types.len()) {
            if node.kind == Kind::Reference {
                return Err(SchemaError::at(node, "a recursive type is itself a reference"));
            }
            types.push(compiler.content(node)?);
        }
        Ok(Self { root, types: types.into() })
    }

    pub(super) fn write(&self, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        self.content(&self.root, value, out)
    }

    fn content(&self, content: &Content, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        match (content, value) {
            (Content::Null, Value::Null) => {}
            (Content::Boolean, &Value::Boolean(value)) => out.push(value.into()),
            (Content::Int, &Value::Integer(number)) => write_varint(i32::try_from(number).map_err(|_| Misfit)?, out),
            (Content::Long, &Value::Integer(number)) => write_varint(number, out),
            (Content::Float, &Value::Real(number)) => out.extend(narrowed(number)?.to_le_bytes()),
            (Content::Double, &Value::Real(number)) if number.is_finite() => out.extend(number.to_le_bytes()),
            (Content::String, Value::Text(text)) => write_with_length(text.as_bytes(), out),
            (Content::Bytes, Value::Bytes(bytes)) => write_with_length(bytes, out),
            (&Content::Fixed(size), Value::Bytes(bytes)) if bytes.len() == size => out.extend_from_slice(bytes),
            (Content::Enum(symbols), Value::Text(text)) => write_length(symbols.index_of(text).ok_or(Misfit)?, out),
            (Content::Record(fields), Value::Record(values)) if fields.len() == values.len() => {
                for (field, value) in fields.iter().zip(*values) {
                    self.content(field, value, out)?;
                }
            }
            (Content::Array(items), Value::Array(values)) => {
                if !values.is_empty() {
                    write_length(values.len(), out);
                    for value in *values {
                        self.content(items, value, out)?;
                    }
                }
                out.push(0);
            }
            (Content::Map(items), Value::Map(entries)) => {
                if !entries.is_empty() {
                    write_length(entries.len(), out);
                    for (key, value) in *entries {
                        write_with_length(key.as_bytes(), out);
                        self.content(items, value, out)?;
                    }
                }
                out.push(0);
            }
            (&Content::Union { null: Some(null), .. }, Value::Null) => write_length(null, out),
            (Content::Union { branches, .. }, Value::Branch(index, value)) => {
                let branch = branches.get(*index).and_then(Option::as_ref).ok_or(Misfit)?;
                write_length(*index, out);
                self.content(branch, value, out)?;
            }
            (&Content::Reference(number), value) => self.content(&self.types[number], value, out)?,
            _ => return Err(Misfit),
        }
        Ok(())
    }
}

struct Compiler<'s> {
    types: Types<'s>,
    symbols: Interner<'s>,
}

impl<'s> Compiler<'s> {
    fn content(&mut self, node: &'s Node) -> Result<Content, SchemaError> {
        Ok(match node.kind {
            Kind::Null => Content::Null,
            Kind::Boolean => Content::Boolean,
            Kind::Int => Content::Int,
            Kind::Long => Content::Long,
            Kind::Float => Content::Float,
            Kind::Double => Content::Double,
            Kind::String => Content::String,
            Kind::Bytes => Content::Bytes,
            Kind::Fixed => Content::Fixed(node.size),
            Kind::Enum => Content::Enum(self.symbols.table(&node.symbols)),
            Kind::Record => {
                let fields = node.fields.iter().map(|field| self.content(&field.node));
                Content::Record(fields.collect::<Result<_, _>>()?)
            }
            Kind::Array => Content::Array(self.items(node)?),
            Kind::Map => Content::Map(self.items(node)?),
            Kind::Union => {
                let null = node.branches.iter().position(|branch| branch.kind == Kind::Null);
                let branches = node.branches.iter().map(|branch| {
                    let content = self.content(branch)?;
                    Ok((branch.kind != Kind::Null).then_some(content))
                });
                Content::Union { null, branches: branches.collect::<Result<_, _>>()? }
            }
            Kind::Reference => Content::Reference(self.types.number(node)?),
            Kind::Integer | Kind::Number | Kind::Any => return Err(SchemaError::at(node, "what is here is not Avro")),
        })
    }

    fn items(&mut self, node: &'s Node) -> Result<Box<Content>, SchemaError> {
        let missing = || SchemaError::at(node, "an array or map without a type for what it holds");
        let items = node.items.as_deref().ok_or_else(missing)?;
        Ok(Box::new(self.content(items)?))
    }
}

/// Return the nearest float, unless it is infinite.
#[allow(clippy::cast_possible_truncation, reason = "the nearest float is what is asked for")]
fn narrowed(number: f64) -> Result<f32, Misfit> {
    let number = number as f32;
    if number.is_finite() { Ok(number) } else { Err(Misfit) }
}

fn write_with_length(bytes: &[u8], out: &mut Vec<u8>) {
    write_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Write a length, a count or an index. Nothing in memory has 2^63 of anything.
fn write_length(length: usize, out: &mut Vec<u8>) {
    write_raw((length as u64) << 1, out);
}

/// Write the zigzag varint of an integer.
fn write_varint(number: impl Into<i64>, out: &mut Vec<u8>) {
    let number = number.into();
    write_raw(((number << 1) ^ (number >> 63)).cast_unsigned(), out);
}

fn write_raw(mut raw: u64, out: &mut Vec<u8>) {
    while raw >= 0x80 {
        out.push(low_byte(raw) | 0x80);
        raw >>= 7;
    }
    out.push(low_byte(raw));
}

fn low_byte(raw: u64) -> u8 {
    raw.to_le_bytes()[0]
}
