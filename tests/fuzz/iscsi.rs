//! Fuzz target: messages of an iSCSI target of any content.

#![no_main]
#![allow(dead_code, unused_imports)] // compiles only a part of the crate

#[path = "../../src/iscsi/mod.rs"]
mod iscsi;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| iscsi::tests::check::check_input(bytes));
