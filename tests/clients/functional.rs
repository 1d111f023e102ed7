//! The functional tests for bare metal that openstacksdk comes with, against volboot.

use serde_json::{Value, json};

use crate::daemon::{Daemon, site};
use crate::python::python_script;

/// Features of Ironic that volboot lacks, with the microversion of each: openstacksdk skips their tests.
const ABSENT: [(u16, &str); 9] = [
    (55, "deploy templates: volboot writes no image to a machine, so a deployment has no steps"),
    (57, "updates of allocations"),
    (61, "retired nodes"),
    (86, "firmware: volboot has no access to management controllers"),
    (89, "virtual media: as firmware"),
    (92, "runbooks: cleaning and servicing have no steps either"),
    (96, "inspection rules: volboot does not inspect machines"),
    (104, "a node's instance_name"),
    (112, "traits of runbooks"),
];

/// The number of tests that run at the lowest, so that a broken discovery does not pass.
const MIN_PASSED: usize = 62;

#[test]
fn functional_tests_of_the_sdk_pass() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let endpoint = format!("http://{}", daemon.api);
    // The tests use four clouds: a user, another user, an operator and an administrator of the system.
    let cloud = json!({
        "auth_type": "none", "auth": { "endpoint": endpoint }, "baremetal_endpoint_override": endpoint,
        "has_compute": false, "has_image": false,
    });
    let names = ["devstack", "devstack-alt", "devstack-admin", "devstack-system-admin"];
    let clouds: serde_json::Map<_, _> =
        names.map(|name| (name.to_owned(), cloud.clone())).into_iter().collect();
    let file = site.path().join("clouds.yaml");
    // JSON is YAML.
    std::fs::write(&file, json!({ "clouds": clouds }).to_string()).expect("the file is writable");
    let results = site.path().join("results");
    let output = python_script("functional.py")
        .arg(&results)
        .env("OS_CLIENT_CONFIG_FILE", file)
        .env("OPENSTACKSDK_FUNC_TEST_TIMEOUT", "20")
        .output()
        .expect("the program is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let (mut passed, mut unexpected) = (0, Vec::new());
    for line in std::fs::read_to_string(results).expect("the script writes results").lines() {
        let result: Value = serde_json::from_str(line).expect("JSON");
        let text = result["text"].as_str().expect("a text");
        let missing = text.strip_prefix("Service baremetal does not provide microversion 1.");
        match (result["outcome"].as_str(), missing.and_then(|minor| minor.parse::<u16>().ok())) {
            (Some("passed"), _) => passed += 1,
            (Some("skipped"), Some(minor)) if ABSENT.iter().any(|(absent, _)| *absent == minor) => {}
            _ => unexpected.push(format!("{}: {} {text}", result["test"], result["outcome"])),
        }
    }
    assert!(unexpected.is_empty(), "\n{}", unexpected.join("\n"));
    assert!(passed >= MIN_PASSED, "only {passed} tests ran");
}
