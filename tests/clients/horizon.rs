//! Horizon's panel for bare metal, without Horizon.

use crate::daemon::{Daemon, site};
use crate::python::{environment_path, python_script};

#[test]
fn panel_of_horizon_works() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let output = python_script("horizon.py")
        .arg(environment_path().join("horizon"))
        .arg(format!("http://{}", daemon.api))
        .output()
        .expect("the program is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
