//! Telemetry: events, metrics, the log, and iPXE's error numbers.

mod boot_request_event;
mod dhcp_event;
pub mod errno;
mod event;
mod gauges;
mod labels;
pub mod log;
mod metrics;
mod power_on_times;
mod reading;
mod sentence;
mod series;

pub use boot_request_event::{BootRequestEvent, ResolutionEvent};
pub use dhcp_event::DhcpEvent;
pub use event::{Event, EventKind, TftpTransfer};
pub use metrics::Metrics;
pub use power_on_times::PowerOnTimes;
pub use reading::{
    BootCount, ClusterReading, ConnectionReading, DhcpReading, EtcdReading, PortalReading, PowerReading,
    Reading,
};
