//! Records as values and back: what reads and writes the bytes of a schema, in the two formats that there are.
//!
//! A schema is compiled once into trees that hold no further choice. Values, bytes and refusals are those of
//! `tokenweir.core.avro_codec` and `tokenweir.core.json_codec`, for any bytes whatever.

mod avro_reader;
mod avro_writer;
mod json_names;
mod json_numbers;
mod json_places;
mod json_reader;
pub(crate) mod json_size;
mod json_text;
mod json_writer;
mod strict_json;
mod symbols;
mod types;

/// Where values lie, and texts whose bytes have them with escapes; it lives as long as what was read.
pub use bumpalo::Bump as Arena;

use std::fmt;

use crate::schema::{Limits, Node, Rejection, Schema};
use crate::value::Value;

/// How records are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The binary encoding of Apache Avro.
    Avro,
    /// JSON as RFC 8259 defines it and nothing more.
    Json,
}

impl Format {
    /// Return the format of the records of a schema.
    ///
    /// # Errors
    ///
    /// It is neither of the two.
    pub fn of(schema: &Schema) -> Result<Self, SchemaError> {
        match schema.format.as_str() {
            "avro" => Ok(Self::Avro),
            "json" => Ok(Self::Json),
            _ => Err(SchemaError::at(&schema.root, "the format is neither avro nor json")),
        }
    }
}

/// A tree that no codec can be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError {
    /// What is wrong.
    pub message: &'static str,
    /// The path of the place.
    pub path: String,
}

impl SchemaError {
    fn at(node: &Node, message: &'static str) -> Self {
        Self { message, path: node.path.clone() }
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "(root)" } else { &self.path };
        write!(out, "{} at {path}", self.message)
    }
}

impl std::error::Error for SchemaError {}

/// A value that does not fit the schema that it should be written with. It says nothing of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit;

impl fmt::Display for Misfit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value does not fit the schema that it should be written with")
    }
}

impl std::error::Error for Misfit {}

/// Why bytes are no record: the reasons of `tokenweir.core.outcome` that arise in decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Malformed,
    TrailingBytes,
    InvalidUtf8,
    DuplicateKey,
    NonFinite,
    TooDeep,
    TooManyElements,
    TooLarge,
    SchemaMismatch,
    OutOfRange,
}

impl Reason {
    /// Return the word that dead letters, metrics and logs have for it.
    fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TrailingBytes => "trailing_bytes",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::DuplicateKey => "duplicate_key",
            Self::NonFinite => "non_finite",
            Self::TooDeep => "too_deep",
            Self::TooManyElements => "too_many_elements",
            Self::TooLarge => "too_large",
            Self::SchemaMismatch => "schema_mismatch",
            Self::OutOfRange => "out_of_range",
        }
    }
}

/// A reason and the path of the schema at which it arose, borrowed so that trying a union's branches costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fault<'s> {
    reason: Reason,
    path: &'s str,
}

impl From<Fault<'_>> for Rejection {
    fn from(fault: Fault<'_>) -> Self {
        Self { reason: fault.reason.word(), path: fault.path.to_owned() }
    }
}

/// Decodes the records of one schema.
pub struct Reader(Reading);

enum Reading {
    Avro(avro_reader::Reader),
    Json(json_reader::Reader),
}

impl Reader {
    /// Compile the reader of a schema.
    ///
    /// # Errors
    ///
    /// The tree has what its format does not have, or a reference to a type that is not known.
    pub fn new(schema: &Schema, limits: Limits) -> Result<Self, SchemaError> {
        Ok(Self(match Format::of(schema)? {
            Format::Avro => Reading::Avro(avro_reader::Reader::new(schema, limits)?),
            Format::Json => Reading::Json(json_reader::Reader::new(schema, limits)?),
        }))
    }

    /// Return the record that the bytes are, and how many values it has that may have no byte of their own: what an
    /// Avro record took of `limits.elements`, and absent fields of a JSON record.
    ///
    /// Texts and bytes are borrowed from `data` where they stand there as they are, symbols from the reader.
    ///
    /// # Errors
    ///
    /// The bytes are no record of the schema, hold more after it, or pass a limit.
    pub fn read<'a>(&'a self, data: &'a [u8], arena: &'a Arena) -> Result<(Value<'a>, u64), Rejection> {
        match &self.0 {
            Reading::Avro(reader) => Ok(reader.read(data, arena)?),
            Reading::Json(reader) => Ok(reader.read(data, arena)?),
        }
    }
}

/// Encodes the values of one schema, in the one canonical way of its format.
pub struct Writer(Writing);

enum Writing {
    Avro(avro_writer::Writer),
    Json(json_writer::Writer),
}

impl Writer {
    /// Compile the writer of a schema.
    ///
    /// # Errors
    ///
    /// The tree has what its format does not have, or a reference to a type that is not known.
    pub fn new(schema: &Schema) -> Result<Self, SchemaError> {
        Ok(Self(match Format::of(schema)? {
            Format::Avro => Writing::Avro(avro_writer::Writer::new(schema)?),
            Format::Json => Writing::Json(json_writer::Writer::new(schema)?),
        }))
    }

    /// Append the bytes of a value.
    ///
    /// # Errors
    ///
    /// The value does not fit the schema; then nothing is appended.
    pub fn write(&self, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        let start = out.len();
        let written = match &self.0 {
            Writing::Avro(writer) => writer.write(value, out),
            Writing::Json(writer) => writer.write(value, out),
        };
        written.inspect_err(|_| out.truncate(start))
    }
}

#[cfg(test)]
mod tests;
