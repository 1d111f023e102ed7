//! Schemathesis: generates valid and invalid requests from volboot's OpenAPI document.

use crate::daemon::{Daemon, site};
use crate::python::python_program;

/// The time limit of the search, in seconds.
const BUDGET: &str = "45";

#[test]
fn generated_requests_find_no_server_error_and_no_violation_of_the_document() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let checks =
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    let output = python_program("schemathesis")
        // Schemathesis writes its findings to the working directory.
        .current_dir(site.path())
        .arg("run")
        .arg(format!("http://{}/openapi.json", daemon.api))
        .args(["--header", "X-OpenStack-Ironic-API-Version: 1.33", "--checks", checks, "--no-color"])
        // The event stream does not end.
        .args(["--exclude-path", "/v1/events"])
        .args(["--request-timeout", "10", "--max-examples", "20", "--max-time", BUDGET, "--seed", "1"])
        .output()
        .expect("the program is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
