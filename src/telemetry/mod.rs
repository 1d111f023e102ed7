//! Telemetry: events, metrics, the log, and iPXE's error numbers.

mod dhcp_event;
pub mod errno;
mod event;
mod labels;
pub mod log;
mod metrics;
mod reading;
mod series;

pub use dhcp_event::DhcpEvent;
pub use event::{BootRequestEvent, Event, EventKind, ResolutionEvent, TftpTransfer};
pub use metrics::Metrics;
pub use reading::{ClusterReading, ConnectionReading, DhcpReading, Reading};
