//! The Python environment with OpenStack's programs.

use std::path::PathBuf;
use std::process::Command;

/// The environment that `tests/clients/install` made: where this test was built, so that it is the checkout's own.
fn environment() -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../clients");
    assert!(target.join("bin").is_dir(), "run tests/clients/install first: there is no {}", target.display());
    target
}

/// A program of the environment, with nothing of the caller's OpenStack in its way.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(environment().join("bin").join(name));
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("OS_")) {
        command.env_remove(key);
    }
    command
}

/// A script of this folder, run by the environment's Python.
pub(crate) fn script(name: &str) -> Command {
    let mut command = program("python");
    command.arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name));
    command
}
