//! openstacksdk, and with it all that is built on it.

use crate::daemon::{Daemon, site};
use crate::python::script;

#[test]
fn the_library_works_with_every_record() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let output = script("sdk.py").arg(format!("http://{}", daemon.api)).output().expect("is installed");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
}
