#![no_main]
//! The target `engine`; what it does stands in the library.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tokenweir_fuzz::engine::run(data));
