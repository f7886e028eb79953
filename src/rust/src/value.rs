//! Decoded records: one value for what stands at each place of a schema, borrowed from the bytes where that is possible.
//!
//! What values hold lies in an arena. So they are copied like numbers, and nothing is freed one by one.

/// A decoded value; the table of `tokenweir.core.schema` says which kinds have which values.
#[derive(Clone, Copy, PartialEq)]
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
    Number(&'a str),
    /// A string, or the symbol of an enum.
    Text(&'a str),
    /// Avro bytes or fixed.
    Bytes(&'a [u8]),
    /// One value for each field of the schema, in its order.
    Record(&'a [Value<'a>]),
    /// The elements of an array.
    Array(&'a [Value<'a>]),
    /// The entries of a map, in the order of the record.
    Map(&'a [(&'a str, Value<'a>)]),
    /// The index of a union's branch that is not null, and what stands there.
    Branch(usize, &'a Value<'a>),
}
