#![no_main]
//! The target `consent`; what it does stands in the library.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tokenweir_fuzz::consent::run(data));
