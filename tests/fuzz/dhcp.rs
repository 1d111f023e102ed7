//! Fuzz target: DHCP requests of any content.

#![no_main]
#![allow(dead_code, unused_imports)] // compiles only a part of the crate

#[path = "../../src/dhcp/mod.rs"]
mod dhcp;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    dhcp::tests::check::check_input(bytes);
});
