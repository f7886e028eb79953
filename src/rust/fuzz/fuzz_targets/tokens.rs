#![no_main]
//! The target `tokens`; what it does stands in the library.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tokenweir_fuzz::tokens::run(data));
