//! Single packets of any content.

#![no_main]
#![allow(dead_code, unused_imports)] // the engine is here in parts only

#[path = "../../src/tftp/mod.rs"]
mod tftp;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tftp::tests::course::fuzz_packet(bytes));
