//! [`Reading`]: the values of gauges, sampled for every scrape.

use std::time::Duration;

/// Values sampled at the time of a scrape.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Duration of a test read from the store; `None` if the read failed.
    pub store: Option<Duration>,
    /// Whether the store accepts changes.
    pub store_writable: bool,
    /// Size of the store in bytes, if known.
    pub store_bytes: Option<u64>,
    /// Size of the history's file in bytes; 0 if there is no file.
    pub history_bytes: u64,
    /// Events in the queue to the history.
    pub events_queued: usize,
    /// Events missing from the history, since the start.
    pub events_dropped: u64,
    /// TFTP transfers whose event was dropped, since the start.
    pub tftp_events_dropped: u64,
    /// TFTP requests dropped before a worker took them, since the start.
    pub tftp_requests_dropped: u64,
    /// The ProxyDHCP server; `None` if it is off.
    pub dhcp: Option<DhcpReading>,
    /// Number of machines by the state of their verdicts.
    pub machines: Vec<(&'static str, usize)>,
    /// The instances on the store.
    pub cluster: ClusterReading,
    /// Subscribers to events.
    pub event_subscribers: usize,
    /// The connections of each HTTP listener.
    pub connections: Vec<ConnectionReading>,
}

/// The instances on the store, as this one sees them.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClusterReading {
    /// Live instances, including this one.
    pub instances: usize,
    /// Other instances that do not answer.
    pub unreachable: usize,
    /// Other instances whose configuration or iPXE binaries differ.
    pub differing: usize,
    /// The longest time since the last answer of an instance that is expected to answer.
    pub lag: Duration,
}

/// The ProxyDHCP server.
#[derive(Debug, Clone, Copy)]
pub struct DhcpReading {
    /// Whether it serves port 67. Otherwise another DHCP server of this host holds the port.
    pub discovery: bool,
    /// Requests whose event was dropped, since the start.
    pub events_dropped: u64,
}

/// The connections of one HTTP listener.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionReading {
    /// Name of the listener.
    pub listener: &'static str,
    /// Open connections.
    pub open: u64,
    /// Idle connections that were closed for a newer one, since the start.
    pub displaced: u64,
    /// Connections that were refused, since the start.
    pub refused: u64,
}
