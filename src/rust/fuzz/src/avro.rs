//! Avro: any bytes under any schema. What is read costs no more than the limits say, and is written as it was read.

use tokenweir_native::codec::{Arena, Reader, Writer};
use tokenweir_native::schema::{Limits, Schema};

use crate::input::Input;
use crate::plans::PLANS;
use crate::{LONGEST, memory, schemas, values};

/// Most bytes for a value that is made: its place in a vector that grows while it is copied, with a key that is
/// remembered to find it twice.
const VALUE_BYTES: usize = 240;

/// Most bytes for what is there once.
const FIXED_BYTES: usize = 1_024;

/// Read bytes as a record of the schema that the bytes before them choose.
pub fn run(data: &[u8]) {
    let mut input = Input::new(&data[..data.len().min(LONGEST)]);
    let choice = usize::from(input.byte());
    if choice < 128 {
        let found = PLANS.iter().filter(|plan| plan.is_avro).cycle().nth(choice);
        let Some(real) = found else { return };
        check(&real.schema, real.limits, &real.reader, input.rest());
        return;
    }
    let mut choices = Input::new(input.short());
    let (schema, limits) = schemas::schema(&mut choices, true);
    if let Ok(reader) = Reader::new(&schema, limits) {
        check(&schema, limits, &reader, input.rest());
    }
}

fn check(schema: &Schema, limits: Limits, reader: &Reader, bytes: &[u8]) {
    let places = values::places(schema);
    let elements = usize::try_from(limits.elements).unwrap_or(usize::MAX);
    let most = FIXED_BYTES + VALUE_BYTES * (elements + places);
    let arena = Arena::new();
    let Ok((value, taken)) = memory::within(most, "an Avro reader", || reader.read(bytes, &arena)) else { return };
    assert!(taken <= limits.elements, "more elements than the limit");
    assert!(values::count(&value) <= taken + places as u64, "more values than were paid for");
    assert!(values::depth(&value) <= limits.depth.min(64).saturating_add(values::levels(schema)), "too deep");
    let writer = Writer::new(schema).unwrap_or_else(|error| panic!("what is read cannot be written: {error}"));
    let mut written = Vec::new();
    writer.write(&value, &mut written).unwrap_or_else(|error| panic!("{error}"));
    assert!(written.len() <= bytes.len(), "the shortest encoding is longer than another one");
    let (again, cost) =
        reader.read(&written, &arena).unwrap_or_else(|found| panic!("what was written is {}", found.reason));
    assert!(again == value && cost == taken, "another value comes back");
}
