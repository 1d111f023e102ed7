//! The log: text for a person at a terminal, JSON for whatever else reads standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// What sets the level: `VOLBOOT_LOG=debug`, or `volboot::boot=trace,info` and the like.
const VARIABLE: &str = "VOLBOOT_LOG";

/// Starts logging. To be called once, by `main`.
pub fn init() {
    let filter = EnvFilter::builder()
        .with_env_var(VARIABLE)
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
