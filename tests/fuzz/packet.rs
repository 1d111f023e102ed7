//! Fuzz target: single packets of any content.

#![no_main]
#![allow(dead_code, unused_imports)] // compiles only a part of the crate

#[path = "../../src/tftp/mod.rs"]
mod tftp;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tftp::tests::sequence::fuzz_packet(bytes));
