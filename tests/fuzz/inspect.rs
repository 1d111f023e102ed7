//! Fuzz target: volumes of any content.

#![no_main]
#![allow(dead_code, unused_imports)] // compiles only a part of the crate

#[path = "../../src/inspect/mod.rs"]
mod inspect;

// libFuzzer's hook ends the process at each panic, also at those of a file system's parser, which the inspection catches.
libfuzzer_sys::fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |bytes: &[u8]| {
    inspect::tests::check::check_input(bytes);
});
