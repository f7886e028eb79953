#![no_main]
//! The target `ff1`; what it does stands in the library.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tokenweir_fuzz::ff1::run(data));
