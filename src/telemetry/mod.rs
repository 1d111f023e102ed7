//! Telemetry: events, metrics, the log, and iPXE's error numbers.

pub mod errno;
mod event;
mod labels;
pub mod log;
mod metrics;
mod reading;

pub use event::{BootRequestEvent, Event, EventKind, ResolutionEvent, TftpTransfer};
pub use metrics::Metrics;
pub use reading::{ConnectionReading, Reading};
