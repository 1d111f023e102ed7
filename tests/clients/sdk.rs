//! openstacksdk, the base of OpenStack's tools.

use crate::daemon::{Daemon, site};
use crate::python::python_script;

#[test]
fn the_sdk_works_with_all_kinds_of_records() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let output = python_script("sdk.py")
        .arg(format!("http://{}", daemon.api))
        .output()
        .expect("the program is installed");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}
