#![no_main]
//! The target `avro`; what it does stands in the library.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tokenweir_fuzz::avro::run(data));
