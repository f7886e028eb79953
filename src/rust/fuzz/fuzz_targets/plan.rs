#![no_main]
//! The target `plan`; what it does stands in the library.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tokenweir_fuzz::plan::run(data));
