//! `volboot`: see the library for how a machine boots.

use std::process::ExitCode;

fn main() -> ExitCode {
    volboot::cli::run()
}
