//! OpenStack's own tests of Ironic's API, from ironic-tempest-plugin, against volboot.
//!
//! A test may fail here if it fails on Ironic too: `tempest.toml` records which do, with the interfaces of volboot's
//! drivers. All tests that fail here are listed with reasons in `differences.toml`. A test that passes on Ironic may be
//! among them only if it is about the deploy agent or inspection.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::daemon::{Daemon, site};
use crate::ironic::Ironic;
use crate::keystone::FakeKeystone;
use crate::python::python_script;

/// The number of tests that pass at the lowest, so that a broken discovery does not pass.
const MIN_PASSED: usize = 205;

/// The failures on Ironic, as recorded.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct IronicRecord {
    /// The maximum microversion of the record, without `1.`.
    microversion: u16,
    failures: BTreeSet<String>,
}

/// A test that fails on volboot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownFailure {
    test: String,
    #[expect(dead_code, reason = "for maintainers")]
    reason: String,
    /// Set if the test passes on Ironic.
    only_here: Option<MissingFeature>,
    /// The microversion from which the test runs, without `1.`.
    #[serde(default)]
    since: u16,
}

/// A feature of Ironic that volboot lacks by design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MissingFeature {
    Agent,
    Inspection,
}

#[derive(Debug, Deserialize)]
struct KnownFailures {
    tempest: Vec<KnownFailure>,
}

/// The outcomes of one run.
#[derive(Debug, Default)]
struct Outcomes {
    passed: usize,
    /// Failed tests with their tracebacks.
    failed: BTreeMap<String, String>,
}

/// Runs all tests up to a microversion against an API.
fn run_tests(api: SocketAddr, microversion: u16) -> Outcomes {
    let keystone = FakeKeystone::with_baremetal_api(api);
    let home = tempfile::tempdir().expect("a directory");
    let output = python_script("tempest_api.py")
        .arg(format!("http://{}/v3", keystone.address))
        .arg(format!("1.{microversion}"))
        .arg(home.path())
        .output()
        .expect("the program is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut outcomes = Outcomes::default();
    for line in String::from_utf8(output.stdout).expect("text").lines() {
        let result: Value = serde_json::from_str(line).expect("JSON");
        let text = |key: &str| result[key].as_str().expect("a text").to_owned();
        match result["outcome"].as_str() {
            Some("passed") => outcomes.passed += 1,
            Some("skipped") => {}
            _ => drop(outcomes.failed.insert(text("test"), text("text"))),
        }
    }
    outcomes
}

/// Reads the last microversion of an API.
async fn last_microversion(api: SocketAddr) -> u16 {
    volboot::tls::install_provider();
    let response = reqwest::get(format!("http://{api}/v1")).await.expect("a response");
    let body: Value = response.json().await.expect("JSON");
    let version = body["version"]["version"].as_str().and_then(|version| version.strip_prefix("1."));
    version.expect("a version").parse().expect("a number")
}

fn record_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/tempest.toml")
}

fn read_record() -> IronicRecord {
    toml::from_str(include_str!("tempest.toml")).expect("a record")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_test_fails_that_passes_on_ironic_except_for_the_agent_and_inspection() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let microversion = last_microversion(daemon.api).await;
    let record = read_record();
    assert!(microversion <= record.microversion, "record Ironic's failures up to 1.{microversion} first");
    let api = daemon.api;
    let outcomes = tokio::task::spawn_blocking(move || run_tests(api, microversion)).await.expect("runs");
    let known: KnownFailures = toml::from_str(include_str!("differences.toml")).expect("a list of failures");
    let known: Vec<_> = known.tempest.iter().filter(|failure| failure.since <= microversion).collect();
    let listed: BTreeSet<_> = known.iter().map(|failure| failure.test.as_str()).collect();
    let unexpected: Vec<_> =
        outcomes.failed.iter().filter(|(test, _)| !listed.contains(test.as_str())).collect();
    let details: String = unexpected.iter().map(|(test, text)| format!("{test}\n{text}\n")).collect();
    assert!(unexpected.is_empty(), "{} tests fail that are not listed:\n{details}", unexpected.len());
    for KnownFailure { test, only_here, .. } in known {
        assert!(outcomes.failed.contains_key(test), "{test} is listed and does not fail");
        assert_eq!(
            only_here.is_none(),
            record.failures.contains(test),
            "{test}: fails on Ironic, or only here?"
        );
    }
    assert!(outcomes.passed >= MIN_PASSED, "only {} tests passed", outcomes.passed);
    println!("{} passed, {} known failures, up to 1.{microversion}", outcomes.passed, listed.len());
}

/// Records the failures on Ironic in `tempest.toml`, up to the microversion in that file. Takes about five minutes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "only for a new Ironic, a new ironic-tempest-plugin or a later microversion"]
async fn record_the_failures_on_ironic() {
    let IronicRecord { microversion, .. } = read_record();
    let ironic = Ironic::start().await;
    let api = ironic.address;
    let outcomes = tokio::task::spawn_blocking(move || run_tests(api, microversion)).await.expect("runs");
    let failures: String = outcomes.failed.keys().map(|test| format!("    \"{test}\",\n")).collect();
    let text = include_str!("tempest.toml");
    let (head, _) = text.split_once("failures = [").expect("the key is in the file");
    std::fs::write(record_path(), format!("{head}failures = [\n{failures}]\n"))
        .expect("the file is writable");
    println!("{} passed, {} failed", outcomes.passed, outcomes.failed.len());
    outcomes.failed.iter().for_each(|(test, text)| println!("{test}\n{text}"));
}
