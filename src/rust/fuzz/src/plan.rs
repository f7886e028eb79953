//! Plans: any text as a document is refused or is a plan, and such a plan makes something of any record.

use tokenweir_native::engine::{Engine, Header, Plan, Raw};
use tokenweir_native::plan::Document;
use tokenweir_native::schema::from_json;

use crate::engine::Scripted;
use crate::plans::tokenizer;
use crate::{LONGEST, memory};

/// Most bytes for a byte of the document: the smallest text of a place is an element of a list, such as `null`.
const BYTE_BYTES: usize = 128;

/// Most bytes for what is there once.
const FIXED_BYTES: usize = 16 * 1024;

/// Most bytes for what a record makes, beside what the plan itself says.
const RECORD_BYTES: usize = 512 * 1024;

/// What separates the document from a record.
const SEPARATOR: u8 = 0;

/// Make a plan of the text up to the first zero, and give it what follows as a record.
pub fn run(data: &[u8]) {
    let data = &data[..data.len().min(LONGEST)];
    let (text, record) = match data.iter().position(|byte| *byte == SEPARATOR) {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, [].as_slice()),
    };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let most = FIXED_BYTES + BYTE_BYTES * text.len();
    let Some(plan) = memory::within(most, "a plan", || made(text)) else { return };

    let headers = [("trace", b"1".as_slice()), ("session", record)];
    let headers = headers.map(|(name, value)| Header { name: Some(name), value: Some(value) });
    let raw = |value| Raw { plan: &plan, value, key: Some(record), timestamp_ms: 1, headers: headers.into() };
    let records = [raw(Some(record)), raw(None)];
    let mut engine = Engine::new(100_000);
    for spec in [r#"{"format":"digits","length":"6..20"}"#, r#"{"format":"opaque"}"#] {
        engine.add_table(tokenizer(spec).unwrap_or_else(|| panic!("the tokenizer of {spec}")));
    }
    let most = RECORD_BYTES + BYTE_BYTES * (plan.width() + 1) * (text.len() + record.len());
    let mut done = 0;
    while done < records.len() {
        let Ok(outcomes) = memory::within(most, "records of a plan", || {
            engine.process(&records[done..], 1, &mut Scripted { consent: 0 })
        });
        assert!(
            !outcomes.is_empty() && outcomes.iter().all(|row| row.len() == plan.width()),
            "outcomes of each record"
        );
        done += outcomes.len();
    }
}

fn made(text: &str) -> Option<Plan> {
    let mut document: Document = from_json(text).ok()?;
    // What a document allows to a record is its own; here no record costs more than this.
    document.limits.elements = document.limits.elements.min(500);
    Plan::new(document).ok()
}
