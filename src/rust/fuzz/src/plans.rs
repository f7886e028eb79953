//! Real plans with their token entries: those of the examples and of some scenarios; `tests/support/fuzzplans.py`
//! writes them.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokenweir_native::codec::{Reader, Writer};
use tokenweir_native::engine::{Engine, Plan};
use tokenweir_native::plan::Document;
use tokenweir_native::prf::Prf;
use tokenweir_native::schema::{Limits, Schema, from_json};
use tokenweir_native::tokens::unicode::Version;
use tokenweir_native::tokens::{Spec, Tokenizer};

use crate::values;

const TEXTS: [&str; 7] = [
    include_str!("../plans/clickstream.json"),
    include_str!("../plans/keys_avro.json"),
    include_str!("../plans/locations.json"),
    include_str!("../plans/persons_avro.json"),
    include_str!("../plans/purchases.json"),
    include_str!("../plans/structures_avro.json"),
    include_str!("../plans/structures_json.json"),
];

/// What collections of a record may hold together. With fewer than a gateway allows, less is too much.
const ELEMENTS: u64 = 2_000;

/// All plans.
pub static PLANS: LazyLock<Vec<Real>> = LazyLock::new(|| TEXTS.into_iter().map(Real::new).collect());

/// One plan.
pub struct Real {
    /// It, ready to run.
    pub plan: Plan,
    /// The schema of its records.
    pub schema: Schema,
    /// Whether they are Avro.
    pub is_avro: bool,
    /// What a record may cost.
    pub limits: Limits,
    /// Reads them.
    pub reader: Reader,
    /// Per output what reads and writes its values.
    pub outputs: Vec<Option<(Reader, Writer)>>,
    /// How many places the plan and its outputs have.
    pub places: usize,
    /// Names of headers that mean something.
    pub headers: Vec<String>,
    specs: Vec<String>,
    prfs: u8,
}

/// A file.
#[derive(Deserialize)]
struct Stored {
    /// Parameters of the token entries, by their number.
    tables: Vec<Box<RawValue>>,
    /// How many keyed functions it has.
    #[serde(default)]
    prfs: u8,
    document: Box<RawValue>,
}

impl Real {
    fn new(text: &str) -> Self {
        let stored: Stored = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}"));
        let read = || {
            let mut document: Document = from_json(stored.document.get()).unwrap_or_else(|error| panic!("{error}"));
            document.limits.elements = ELEMENTS;
            document
        };
        let Document { source, limits, outputs, .. } = read();
        let headers = outputs.iter().flat_map(|output| output.headers.clone()).collect();
        let schemas: Vec<Option<Schema>> =
            outputs.into_iter().map(|output| output.value.map(|value| value.schema)).collect();
        let places = values::places(&source) + schemas.iter().flatten().map(values::places).sum::<usize>();
        let codecs = |schema: Schema| {
            let reader = Reader::new(&schema, limits).unwrap_or_else(|error| panic!("{error}"));
            (reader, Writer::new(&schema).unwrap_or_else(|error| panic!("{error}")))
        };
        Self {
            plan: Plan::new(read()).unwrap_or_else(|message| panic!("{message}")),
            is_avro: source.format == "avro",
            reader: Reader::new(&source, limits).unwrap_or_else(|error| panic!("{error}")),
            schema: source,
            limits,
            outputs: schemas.into_iter().map(|schema| schema.map(codecs)).collect(),
            places,
            headers,
            prfs: stored.prfs,
            specs: stored.tables.iter().map(|spec| spec.get().to_owned()).collect(),
        }
    }

    /// Return an engine with the plan's tables and keys that are no secret.
    #[must_use]
    pub fn engine(&self, max_output_bytes: usize) -> Engine {
        let mut engine = Engine::new(max_output_bytes);
        for spec in &self.specs {
            engine.add_table(tokenizer(spec).unwrap_or_else(|| panic!("the tokenizer of {spec}")));
        }
        for number in 0..self.prfs {
            engine.add_prf(prf(number));
        }
        engine
    }
}

/// Return a keyed function under a key that is no secret.
#[must_use]
pub fn prf(number: u8) -> Prf {
    Prf::new(&[number; 32]).unwrap_or_else(|_| panic!("the keyed function {number}"))
}

/// Return the tokenizer of an entry under keys that are no secret, or none where its parameters are refused.
#[must_use]
pub fn tokenizer(spec: &str) -> Option<Tokenizer> {
    let spec: Spec = from_json(spec).ok()?;
    let key = vec![7; if matches!(spec, Spec::Opaque { reversible: true, .. }) { 64 } else { 32 }];
    Tokenizer::from_plan(&spec, &key, &[9; 32], Version::V15_0).ok()
}
