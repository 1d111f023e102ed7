//! Boots from volumes in a real Cinder, with a real Keystone and a real iSCSI target, each of which fails in turn.
//!
//! Needs root, for network namespaces. `make test` provides root, the packages and the cloud's programs. The cloud is
//! slow to start, so one cloud serves all tests, in sequence. The lab is bound to one thread. Rust's harness starts a
//! thread for each test, so a harness of our own runs the tests on the lab's thread.

#[path = "../lab/mod.rs"]
mod lab;

mod boots;
mod changes;
mod cluster;
mod compute;
mod crashes;
mod fixture;
mod instances;
mod machine;
mod nova;
mod outages;
mod proxy;
#[allow(dead_code, reason = "the scripts in this module are for the client tests")]
#[path = "../clients/python.rs"]
mod python;
mod roles;
mod setup;
mod storage;
mod volumes;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use anyhow::Result;
use libtest_mimic::{Arguments, Conclusion, Trial};

use fixture::Fixture;
use lab::Lab;
use parking_lot::Mutex;

/// The name and the function of a test.
type Test = (&'static str, fn(&mut Fixture) -> Result<()>);

const TESTS: &[&[Test]] = &[
    storage::TESTS,
    roles::TESTS,
    boots::TESTS,
    changes::TESTS,
    volumes::TESTS,
    instances::TESTS,
    nova::TESTS,
    crashes::TESTS,
    cluster::TESTS,
    outages::TESTS,
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let directory = lab::create_directory().expect("the directory is created");
    let path = directory.path().to_owned();
    let thread = thread::spawn(move || {
        // Started by the first selected test, stopped after the last.
        let fixture = Arc::new(Mutex::new(None));
        let trials = TESTS.iter().copied().flatten().map(|&(name, test)| {
            let (fixture, path) = (Arc::clone(&fixture), path.clone());
            Trial::test(name, move || {
                // `prepare` cleans up after a test that panicked.
                let mut fixture = fixture.lock();
                let fixture = fixture.get_or_insert_with(|| {
                    let opened = Lab::open(&path).and_then(Fixture::open);
                    opened.map_err(|error| format!("cannot start the cloud: {error:#}"))
                });
                let fixture = fixture.as_mut().map_err(|reason| reason.clone())?;
                fixture.prepare()?;
                Ok(test(fixture).map_err(|error| {
                    // Printed at once: the remaining tests take a while.
                    eprintln!("{name}: {error:#}");
                    format!("{}\n{error:#}", fixture.cloud.log_tails())
                })?)
            })
        });
        libtest_mimic::run(&Arguments { test_threads: Some(1), ..arguments }, trials.collect())
    });
    thread.join().map_or(ExitCode::FAILURE, |conclusion: Conclusion| conclusion.exit_code())
}
