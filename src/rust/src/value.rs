//! Decoded records: one value for what stands at each place of a schema, borrowed from the bytes where that is possible.

use std::borrow::Cow;

/// A decoded value; the table of `tokenweir.core.schema` says which kinds have which values.
#[derive(Clone, PartialEq)]
pub enum Value<'a> {
    /// The null of Avro and JSON, also as the null branch of a union.
    Null,
    /// A JSON property that the record does not have.
    Absent,
    /// A boolean.
    Boolean(bool),
    /// An Avro int or long.
    Integer(i64),
    /// An Avro float or double, always finite; a float is widened without loss.
    Real(f64),
    /// A JSON number as the text that stood in the record.
    Number(Cow<'a, str>),
    /// A string, or the symbol of an enum.
    Text(Cow<'a, str>),
    /// Avro bytes or fixed.
    Bytes(Cow<'a, [u8]>),
    /// One value for each field of the schema, in its order.
    Record(Vec<Value<'a>>),
    /// The elements of an array.
    Array(Vec<Value<'a>>),
    /// The entries of a map, in the order of the record.
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
    /// The index of a union's branch that is not null, and what stands there.
    Branch(usize, Box<Value<'a>>),
}
