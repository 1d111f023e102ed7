//! The `volboot` binary; the library's documentation describes how a machine boots.

use std::process::ExitCode;

fn main() -> ExitCode {
    volboot::cli::run()
}
