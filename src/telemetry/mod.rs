//! Telemetry: events, metrics, the log, and iPXE's error numbers.

pub mod errno;
mod event;
pub mod log;
mod metrics;

pub use event::{BootRequestEvent, Event, EventKind, ResolutionEvent, TftpTransfer};
pub use metrics::{Metrics, Reading};
