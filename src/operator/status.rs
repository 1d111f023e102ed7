//! Status of volboot: the store, the history and Cinder, measured on demand.

use std::fmt;
use std::time::{Duration, Instant};

use super::Operator;
use crate::model::Node;
use crate::store::{StoreAccess, StoreError, StoreInfo};
use crate::telemetry::{BootCount, ConnectionReading, DhcpReading, EtcdReading, Reading};
use crate::timeline::BootWindows;

/// The status of Cinder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CinderStatus {
    /// No cloud is configured.
    NotConfigured,
    /// The circuit breaker is closed.
    Available,
    /// The circuit breaker is open, for this reason.
    Unavailable(String),
}

impl CinderStatus {
    /// The status for programs, without the reason.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotConfigured => "not configured",
            Self::Available => "ok",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

impl fmt::Display for CinderStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(reason) => write!(f, "{}: {reason}", self.as_str()),
            Self::NotConfigured | Self::Available => f.write_str(self.as_str()),
        }
    }
}

impl Operator {
    /// The status of Cinder.
    pub fn cinder_status(&self) -> CinderStatus {
        match self.attach.cinder_outage() {
            _ if !self.attach.is_configured() => CinderStatus::NotConfigured,
            None => CinderStatus::Available,
            Some(reason) => CinderStatus::Unavailable(reason),
        }
    }

    /// Checks that the store responds, and returns the latency of the read.
    pub async fn check_store(&self) -> Result<Duration, StoreError> {
        let started = Instant::now();
        self.inventory.list::<Node>(None, 1).await?;
        Ok(started.elapsed())
    }

    /// Whether the store accepts changes.
    pub fn store_access(&self) -> StoreAccess {
        self.inventory.store_access()
    }

    /// The store's place and size; `None` if the store is unavailable.
    pub async fn store_info(&self) -> Option<StoreInfo> {
        self.inventory.store_info().await.ok()
    }

    /// The size of the history's file in bytes; `None` if the file does not exist.
    pub async fn history_bytes(&self) -> Option<u64> {
        let path = self.appliance.history_path.clone();
        let size = tokio::task::spawn_blocking(move || std::fs::metadata(path).map(|file| file.len()));
        size.await.ok()?.ok()
    }

    /// Measures the values that are read on demand, such as file sizes and the store's latency.
    pub async fn measure(&self) -> Reading {
        let (timeline, tftp) = (&self.timeline, &self.appliance.tftp_counters);
        let dhcp = self.appliance.dhcp_status.as_ref();
        let store = self.check_store().await;
        let (store_info, history_bytes) = tokio::join!(self.store_info(), self.history_bytes());
        let connections = self.appliance.connection_counters.iter().map(|(name, counters)| {
            let (open, displaced, refused) = (counters.open(), counters.displaced(), counters.refused());
            ConnectionReading { listener: name, open, displaced, refused }
        });
        let states = timeline.count_by_state().into_iter();
        Reading {
            store: store.ok(),
            store_writable: self.store_access() == StoreAccess::ReadWrite,
            store_bytes: store_info.and_then(|info| info.bytes),
            history_bytes: history_bytes.unwrap_or_default(),
            events_queued: timeline.queued_events(),
            events_dropped: timeline.dropped_events(),
            tftp_events_dropped: tftp.events_dropped(),
            tftp_requests_dropped: tftp.requests_dropped(),
            dhcp: dhcp.map(|(discovery, counters)| DhcpReading {
                discovery: *discovery,
                events_dropped: counters.events_dropped(),
            }),
            machines: states.map(|(state, count)| (state.as_str(), count)).collect(),
            boots: count_boots(&timeline.summarize_boots().windows),
            power: self.power.reading(),
            cluster: self.membership.reading(),
            nodes_in_fallback: self.boot.fallback_watch().count_in_force(),
            portals: self.boot.count_portals(),
            etcd: self.inventory.shared_status().map(|status| EtcdReading {
                members: status.members,
                reachable: status.reachable,
                age: status.age,
                has_session: status.has_session,
                has_no_space: status.has_no_space,
                revision: status.revision,
                compacted: status.compacted,
            }),
            event_subscribers: timeline.subscriber_count(),
            connections: connections.collect(),
        }
    }
}

fn count_boots(windows: &BootWindows) -> Vec<BootCount> {
    let windows = [("1h", &windows.hour), ("1d", &windows.day), ("7d", &windows.week)];
    let counts = windows.into_iter().flat_map(|(window, summary)| {
        let results = summary.results.iter();
        results.map(move |(result, count)| BootCount { window, result: result.as_str(), count: *count })
    });
    counts.collect()
}
