//! JSON: any bytes under any schema. What is read costs no more than the limits say, and is written as it was read.

use std::sync::LazyLock;

use tokenweir_native::codec::{Arena, Reader, Writer};
use tokenweir_native::schema::{Kind, Limits, Node, Schema};

use crate::input::Input;
use crate::plans::PLANS;
use crate::{LONGEST, memory, schemas, values};

/// Most bytes for a byte of the document: its token, in a vector that grows while it is copied, and its key.
const BYTE_BYTES: usize = 64;

/// Most bytes for a value that is made.
const VALUE_BYTES: usize = 96;

/// Values for each element of the limit and each place of the schema, as `json_reader` has it.
const EFFORT: usize = 10;

/// Most bytes for what is there once.
const FIXED_BYTES: usize = 2_048;

/// Reads any JSON.
static ANYTHING: LazyLock<Reader> = LazyLock::new(|| {
    let root: Node = serde_json::from_str(
        r#"{"kind": "any", "path": "", "name": "", "logical": "", "attributes": {}, "symbols": [], "size": 0,
            "fields": [], "items": null, "branches": []}"#,
    )
    .unwrap_or_else(|error| panic!("{error}"));
    assert!(root.kind == Kind::Any);
    let schema = Schema { root, format: "json".into(), types: [].into() };
    let limits = Limits { depth: 128, elements: u64::MAX, bytes: usize::MAX, decimal_bytes: 0, number_characters: 512 };
    Reader::new(&schema, limits).unwrap_or_else(|error| panic!("{error}"))
});

/// Read bytes as a record of the schema that the bytes before them choose.
pub fn run(data: &[u8]) {
    let mut input = Input::new(&data[..data.len().min(LONGEST)]);
    let choice = usize::from(input.byte());
    if choice < 128 {
        let found = PLANS.iter().filter(|plan| !plan.is_avro).cycle().nth(choice);
        let Some(real) = found else { return };
        check(&real.schema, real.limits, &real.reader, input.rest());
        return;
    }
    let mut choices = Input::new(input.short());
    let (schema, limits) = schemas::schema(&mut choices, false);
    if let Ok(reader) = Reader::new(&schema, limits) {
        check(&schema, limits, &reader, input.rest());
    }
}

fn check(schema: &Schema, limits: Limits, reader: &Reader, bytes: &[u8]) {
    let places = values::places(schema);
    let elements = usize::try_from(limits.elements).unwrap_or(usize::MAX);
    let most = FIXED_BYTES + BYTE_BYTES * bytes.len() + VALUE_BYTES * EFFORT * (elements + places);
    let arena = Arena::new();
    let read = memory::within(most, "a JSON reader", || reader.read(bytes, &arena));
    let strict = ANYTHING.read(bytes, &arena).is_ok();
    let Ok((value, absent)) = read else { return };
    // A number may be longer than the reader of anything allows.
    assert!(strict || limits.number_characters > 512, "what is no strict JSON was read");
    assert!(values::depth(&value) <= limits.depth.min(128), "too deep");
    let made = values::count(&value);
    assert!(made <= 1 + (EFFORT * (elements + places)) as u64, "more values than were paid for");
    assert!(made <= bytes.len() as u64 + absent, "more values than have a byte or are counted");
    // No writer is made of a type that is itself a reference to a type.
    let Ok(writer) = Writer::new(schema) else { return };
    let mut written = Vec::new();
    if writer.write(&value, &mut written).is_err() {
        // What a schema does not describe is nothing that could be written for it.
        assert!(matches!(value, tokenweir_native::value::Value::Absent) || !values::is_exact(schema), "not written");
        return;
    }
    assert!(!strict || ANYTHING.read(&written, &arena).is_ok(), "what was written is no strict JSON");
    if values::is_exact(schema) {
        let again =
            reader.read(&written, &arena).unwrap_or_else(|found| panic!("what was written is {}", found.reason)).0;
        assert!(again == value, "another value comes back");
    }
}
