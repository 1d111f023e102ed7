//! The Python virtual environment with OpenStack's programs.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// The environment that `tests/clients/install` created, in the build directory of this checkout.
pub(crate) fn environment_path() -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../clients");
    assert!(
        target.join("bin").is_dir(),
        "run tests/clients/install first: {} does not exist",
        target.display()
    );
    target
}

/// A program of the environment, without the caller's `OS_…` variables.
pub(crate) fn python_program(name: &str) -> Command {
    clean_command(environment_path().join("bin").join(name))
}

/// Any program, without the caller's `OS_…` variables.
pub(crate) fn clean_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("OS_")) {
        command.env_remove(key);
    }
    command
}

/// A script of this directory, run with the environment's Python.
pub(crate) fn python_script(name: &str) -> Command {
    let mut command = python_program("python");
    command.arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name));
    command
}
