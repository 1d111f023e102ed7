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
    /// Boots of nodes by window and result.
    pub boots: Vec<BootCount>,
    /// The power of nodes with a BMC.
    pub power: PowerReading,
    /// The instances on the store.
    pub cluster: ClusterReading,
    /// Nodes that boot from their fallback.
    pub nodes_in_fallback: usize,
    /// The portals of volumes with several paths.
    pub portals: PortalReading,
    /// etcd with the records; `None` with a local store.
    pub etcd: Option<EtcdReading>,
    /// Subscribers to events.
    pub event_subscribers: usize,
    /// The connections of each HTTP listener.
    pub connections: Vec<ConnectionReading>,
}

/// The boots of nodes with one result within one window.
#[derive(Debug, Clone, Copy)]
pub struct BootCount {
    /// The window, such as `1h`.
    pub window: &'static str,
    /// The result.
    pub result: &'static str,
    /// The number of boots.
    pub count: u64,
}

/// The power of nodes with a BMC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PowerReading {
    /// Requests to BMCs that are under way.
    pub calls_in_flight: usize,
    /// Nodes that are on, as of the last round.
    pub on: usize,
    /// Nodes that are off.
    pub off: usize,
    /// Nodes whose power state is not known.
    pub unknown: usize,
    /// Nodes with a failing BMC, in any power state.
    pub failing: usize,
}

/// The portals that boots within the last day use, as this host sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortalReading {
    /// Portals that answered the last probe.
    pub answering: usize,
    /// Portals that answered within the last day, and not the last probe: boots try them last.
    pub dead: usize,
    /// Portals without a recent probe, and those that have not answered within the last day.
    pub unknown: usize,
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

/// etcd, as this instance sees it.
#[derive(Debug, Clone, Copy)]
pub struct EtcdReading {
    /// Configured members.
    pub members: usize,
    /// Members that respond.
    pub reachable: usize,
    /// The time since the mirror was last known to show the present records.
    pub age: Duration,
    /// Whether this instance has a session.
    pub has_session: bool,
    /// Whether etcd refuses writes for lack of space.
    pub has_no_space: bool,
    /// The latest revision.
    pub revision: u64,
    /// The revision up to which old records are compacted.
    pub compacted: u64,
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
