//! Machines whose volumes are in Cinder: a real Keystone, a real Cinder and a real iSCSI target, all of which fail in
//! turn.
//!
//! Needs root, for network namespaces; `make test` sees to that, to the packages, and to the cloud's programs. One
//! cloud serves all tests, one after the other, for it takes a while to start. So they run on one thread, to which the
//! lab belongs, and not in Rust's own harness, which gives each test a thread.

#[path = "../lab/mod.rs"]
mod lab;

mod away;
mod boots;
mod callers;
mod changes;
mod crashes;
mod gate;
mod ground;
mod machine;
#[allow(dead_code, reason = "its scripts are for the tests of clients")]
#[path = "../clients/python.rs"]
mod python;
mod stand;
mod storage;
mod volumes;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use libtest_mimic::{Arguments, Conclusion, Trial};

use ground::Ground;
use lab::Lab;

/// A test: its name, and what it does.
type Test = (&'static str, fn(&mut Ground) -> Result<()>);

const TESTS: &[&[Test]] = &[
    storage::TESTS,
    callers::TESTS,
    boots::TESTS,
    changes::TESTS,
    volumes::TESTS,
    crashes::TESTS,
    away::TESTS,
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let directory = lab::directory().expect("a directory");
    let path = directory.path().to_owned();
    let thread = thread::spawn(move || {
        // Started by the first test that is to run, ended after the last.
        let ground = Arc::new(Mutex::new(None));
        let trials = TESTS.iter().copied().flatten().map(|&(name, test)| {
            let (ground, path) = (Arc::clone(&ground), path.clone());
            Trial::test(name, move || {
                // A test that has panicked has left nothing that `prepare` does not set right.
                let mut ground = ground.lock().unwrap_or_else(PoisonError::into_inner);
                let ground = ground.get_or_insert_with(|| {
                    let opened = Lab::open(&path).and_then(Ground::open);
                    opened.map_err(|error| format!("there is no cloud to test with: {error:#}"))
                });
                let ground = ground.as_mut().map_err(|reason| reason.clone())?;
                ground.prepare()?;
                Ok(test(ground).map_err(|error| {
                    // At once, for there is more to come and it takes a while.
                    eprintln!("{name}: {error:#}");
                    format!("{}\n{error:#}", ground.cloud.last_words())
                })?)
            })
        });
        libtest_mimic::run(&Arguments { test_threads: Some(1), ..arguments }, trials.collect())
    });
    thread.join().map_or(ExitCode::FAILURE, |conclusion: Conclusion| conclusion.exit_code())
}
