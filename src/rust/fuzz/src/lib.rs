//! What the fuzz targets do with any bytes whatever: each module asserts what must hold for its part of the engine.
//!
//! A target panics where something does not hold. `make fuzz` gives them what libFuzzer finds, `cargo test` the seeds.

pub mod avro;
pub mod coarser;
pub mod consent;
pub mod engine;
pub mod ff1;
pub mod input;
pub mod json;
pub mod memory;
pub mod plan;
pub mod plans;
pub mod schemas;
pub mod tokens;
pub mod values;

/// Inputs beyond this say nothing new and take longer.
pub const LONGEST: usize = 64 * 1024;

/// A target.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 8] = [
    ("avro", avro::run),
    ("coarser", coarser::run),
    ("consent", consent::run),
    ("engine", engine::run),
    ("ff1", ff1::run),
    ("json", json::run),
    ("plan", plan::run),
    ("tokens", tokens::run),
];
