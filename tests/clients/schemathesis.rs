//! Schemathesis: requests made up from our own OpenAPI document, right ones and wrong ones.

use crate::daemon::{Daemon, site};
use crate::python::program;

/// How long it may look for faults, in seconds.
const BUDGET: &str = "45";

#[test]
fn no_request_that_can_be_made_up_breaks_the_server_or_its_document() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let checks =
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    let output = program("schemathesis")
        // It leaves what it found where it runs.
        .current_dir(site.path())
        .arg("run")
        .arg(format!("http://{}/openapi.json", daemon.api))
        .args(["--header", "X-OpenStack-Ironic-API-Version: 1.33", "--checks", checks, "--no-color"])
        // It is followed until somebody stops.
        .args(["--exclude-path", "/v1/events"])
        .args(["--request-timeout", "10", "--max-examples", "20", "--max-time", BUDGET, "--seed", "1"])
        .output()
        .expect("is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
