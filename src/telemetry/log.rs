//! The log: text for a person at a terminal, JSON for whatever else reads standard error. What is logged can be
//! changed while it runs.

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

/// What sets the level: `VOLBOOT_LOG=debug`, or `volboot::boot=trace,info` and the like.
const VARIABLE: &str = "VOLBOOT_LOG";
/// What is never told: at each connection of an iPXE that comes to an address and not to a name, that it names the
/// address in a place that is for names. Its other lines say less than ours.
const LEFT_OUT: &str = "rustls::msgs::handshake=off";
/// The longest filter that is taken.
const LONGEST: usize = 500;

/// The one log of the process; none before it has begun.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    handle: Handle<EnvFilter, Registry>,
    /// What it began with.
    first: String,
    now: Mutex<String>,
}

/// Starts logging. To be called once, by `main`.
pub fn init() {
    let asked = std::env::var(VARIABLE).unwrap_or_default();
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let filter = builder.parse_lossy(&asked);
    let first = filter.to_string();
    let (filter, handle) = reload::Layer::new(without(filter));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        registry.with(layer.with_target(false)).init();
    } else {
        registry.with(layer.json().flatten_event(true)).init();
    }
    let _ = LOG.set(Log { handle, now: Mutex::new(first.clone()), first });
}

fn without(filter: EnvFilter) -> EnvFilter {
    match LEFT_OUT.parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }
}

/// What is logged now; nothing where there is no log.
pub fn filter() -> Option<String> {
    Some(LOG.get()?.now.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Logs something else from now on: a level (`debug`), or levels of parts (`volboot::boot=trace,info`).
pub fn set_filter(text: &str) -> Result<(), String> {
    if text.trim().is_empty() || text.len() > LONGEST {
        return Err("expected a level, or levels of parts, such as debug, or hyper=warn,info".into());
    }
    let filter = EnvFilter::builder().parse(text).map_err(|error| error.to_string())?;
    let Some(log) = LOG.get() else { return Err("there is no log".into()) };
    let shown = filter.to_string();
    log.handle.reload(without(filter)).map_err(|error| error.to_string())?;
    tracing::info!(filter = shown, "the log tells something else from now on");
    *log.now.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    Ok(())
}

/// Logs again what was logged at the start.
pub fn reset_filter() {
    if let Some(log) = LOG.get()
        && filter().is_some_and(|now| now != log.first)
        && let Err(error) = set_filter(&log.first)
    {
        tracing::warn!(error, "the log stays as it is");
    }
}
