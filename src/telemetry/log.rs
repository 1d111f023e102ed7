//! The log on standard error: text on a terminal, JSON otherwise, with a filter that can be changed at run time.
//!
//! [`init`] runs before the configuration is read, so that messages of that phase are not lost. [`configure`] then
//! sets the configured filter, at the start and at each reload.

use std::io::IsTerminal;
use std::sync::OnceLock;

use parking_lot::Mutex;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::model::LogFilter;

/// Environment variable with a filter that overrides the configuration: `VOLBOOT_LOG=debug`, or
/// `volboot::boot=trace,info` and the like.
const VARIABLE: &str = "VOLBOOT_LOG";
/// Directive that is always appended. When iPXE connects to an IP address, it sends the address as the TLS server
/// name (SNI), where only DNS names are valid. rustls warns of each such connection. Its other messages add nothing.
const SUPPRESSED: &str = "rustls::msgs::handshake=off";

/// The log of the process; unset before [`init`].
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    handle: Handle<EnvFilter, Registry>,
    /// Filter of the environment variable, if valid.
    override_filter: Option<LogFilter>,
    filter: Mutex<LogFilter>,
}

/// Starts logging. Must be called once, by `main`.
pub fn init() {
    let variable = std::env::var(VARIABLE).unwrap_or_default();
    let override_filter = variable.parse::<LogFilter>();
    let initial = override_filter.clone().unwrap_or_default();
    let (filter, handle) = reload::Layer::new(env_filter(&initial));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        registry.with(layer.with_target(false)).init();
    } else {
        registry.with(layer.json().flatten_event(true)).init();
    }
    if let Err(error) = override_filter.as_ref().map_err(ToString::to_string)
        && !variable.is_empty()
    {
        tracing::warn!(error, "invalid {VARIABLE}: using the configured log filter");
    }
    let _ = LOG.set(Log { handle, override_filter: override_filter.ok(), filter: Mutex::new(initial) });
}

/// The filter for the subscriber, with [`SUPPRESSED`] appended.
fn env_filter(filter: &LogFilter) -> EnvFilter {
    EnvFilter::new(format!("{filter},{SUPPRESSED}"))
}

/// The current filter; `None` before [`init`].
pub fn filter() -> Option<String> {
    Some(LOG.get()?.filter.lock().to_string())
}

/// Changes the filter.
pub fn set_filter(filter: &LogFilter) -> Result<(), String> {
    let Some(log) = LOG.get() else { return Err("the log is not initialized".into()) };
    log.handle.reload(env_filter(filter)).map_err(|error| error.to_string())?;
    tracing::info!(%filter, "log filter changed");
    *log.filter.lock() = filter.clone();
    Ok(())
}

/// Sets the filter of the environment variable, or else the configured one. Replaces a filter set by [`set_filter`].
pub fn configure(configured: &LogFilter) {
    let Some(log) = LOG.get() else { return };
    let filter = log.override_filter.as_ref().unwrap_or(configured);
    if filter != configured && *configured != LogFilter::default() {
        tracing::info!(%configured, "{VARIABLE} overrides the configured log filter");
    }
    if *log.filter.lock() != *filter
        && let Err(error) = set_filter(filter)
    {
        tracing::warn!(error, "cannot change the log filter; the previous one stays in effect");
    }
}
