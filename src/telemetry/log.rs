//! The log: text for a person at a terminal, JSON for whatever else reads standard error. What is logged can be
//! changed while it runs.
//!
//! It begins before the configuration is read, so that what is told meanwhile is not lost; [`configure`] then says what
//! is logged, at the start and at each reload.

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::reload::Handle;
use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::model::LogFilter;

/// What has precedence over the configuration: `VOLBOOT_LOG=debug`, or `volboot::boot=trace,info` and the like.
const VARIABLE: &str = "VOLBOOT_LOG";
/// What is never told: at each connection of an iPXE that comes to an address and not to a name, that it names the
/// address in a place that is for names. Its other lines say less than ours.
const LEFT_OUT: &str = "rustls::msgs::handshake=off";

/// The one log of the process; none before it has begun.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    handle: Handle<EnvFilter, Registry>,
    /// What the environment says, if it says anything.
    variable: Option<LogFilter>,
    now: Mutex<LogFilter>,
}

/// Starts logging. To be called once, by `main`.
pub fn init() {
    let said = std::env::var(VARIABLE).unwrap_or_default();
    let variable = said.parse::<LogFilter>();
    let first = variable.clone().unwrap_or_default();
    let (filter, handle) = reload::Layer::new(effective(&first));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        registry.with(layer.with_target(false)).init();
    } else {
        registry.with(layer.json().flatten_event(true)).init();
    }
    if let Err(error) = variable.as_ref().map_err(ToString::to_string)
        && !said.is_empty()
    {
        tracing::warn!(error, "{VARIABLE} cannot be used: the configuration says what is logged");
    }
    let _ = LOG.set(Log { handle, variable: variable.ok(), now: Mutex::new(first) });
}

/// What the subscriber is to do for a filter.
fn effective(filter: &LogFilter) -> EnvFilter {
    EnvFilter::new(format!("{filter},{LEFT_OUT}"))
}

/// What is logged now; nothing where there is no log.
pub fn filter() -> Option<String> {
    Some(LOG.get()?.now.lock().unwrap_or_else(PoisonError::into_inner).to_string())
}

/// Logs something else from now on.
pub fn set_filter(filter: &LogFilter) -> Result<(), String> {
    let Some(log) = LOG.get() else { return Err("there is no log".into()) };
    log.handle.reload(effective(filter)).map_err(|error| error.to_string())?;
    tracing::info!(%filter, "the log tells something else from now on");
    *log.now.lock().unwrap_or_else(PoisonError::into_inner) = filter.clone();
    Ok(())
}

/// Logs what the environment says, or else the configuration, whatever was said since.
pub fn configure(configured: &LogFilter) {
    let Some(log) = LOG.get() else { return };
    let wanted = log.variable.as_ref().unwrap_or(configured);
    if wanted != configured && *configured != LogFilter::default() {
        tracing::info!(%configured, "{VARIABLE} has precedence over what is configured to be logged");
    }
    if *log.now.lock().unwrap_or_else(PoisonError::into_inner) != *wanted
        && let Err(error) = set_filter(wanted)
    {
        tracing::warn!(error, "the log stays as it is");
    }
}
