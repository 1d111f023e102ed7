//! [`Monitoring`]: the sources of machines' timelines and of volboot's own status, beyond the records.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::ApiState;
use crate::attach::Attach;
use crate::config::BootConfig;
use crate::images::Images;
use crate::model::Node;
use crate::store::StoreError;
use crate::telemetry::{Metrics, Reading};
use crate::tftp::Counters;
use crate::timeline::Timeline;

/// The sources of status, metrics and events.
#[derive(Debug, Clone)]
pub struct Monitoring {
    /// The machines and their timelines.
    pub timeline: Timeline,
    /// The counters and histograms.
    pub metrics: Metrics,
    /// The settings of boot scripts, for previews.
    pub scripts: BootConfig,
    /// The attachments, for the state of Cinder.
    pub attach: Attach,
    /// The iPXE binaries.
    pub images: Images,
    /// The listeners' names and addresses.
    pub listeners: Vec<(&'static str, SocketAddr)>,
    /// The path of the store.
    pub store_path: PathBuf,
    /// The path of the history.
    pub history_path: PathBuf,
    /// The TFTP server's counters of dropped events and requests.
    pub tftp_counters: Arc<Counters>,
    /// The start time of this process.
    pub started_at: Timestamp,
    /// Cancelled at shutdown; ends event streams.
    pub stop: CancellationToken,
}

impl Monitoring {
    /// Measures the values that are read on demand, such as file sizes and the store's latency.
    pub(super) async fn measure(&self, state: &ApiState) -> Reading {
        let started = Instant::now();
        let store = check_store(state).await.is_ok().then(|| started.elapsed());
        let (store_bytes, history_bytes) =
            tokio::join!(file_size(&self.store_path), file_size(&self.history_path));
        Reading {
            store,
            store_bytes,
            history_bytes,
            events_queued: self.timeline.queued_events(),
            events_dropped: self.timeline.dropped_events(),
            tftp_events_dropped: self.tftp_counters.events_dropped(),
            tftp_requests_dropped: self.tftp_counters.requests_dropped(),
            machines: self
                .timeline
                .count_by_state()
                .into_iter()
                .map(|(state, count)| (state.as_str(), count))
                .collect(),
            event_subscribers: self.timeline.subscriber_count(),
        }
    }

    /// The state of Cinder as text.
    pub(super) fn cinder_status(&self) -> String {
        match self.attach.cinder_outage() {
            _ if !self.attach.is_configured() => "not configured".to_owned(),
            None => "ok".to_owned(),
            Some(reason) => format!("unavailable: {reason}"),
        }
    }
}

/// Checks that the store responds.
pub(super) async fn check_store(state: &ApiState) -> Result<(), StoreError> {
    state.inventory.list::<Node>(None, 1).await.map(drop)
}

/// The size of a file, 0 if it does not exist.
pub(super) async fn file_size(path: &std::path::Path) -> u64 {
    let path = path.to_owned();
    let size = tokio::task::spawn_blocking(move || std::fs::metadata(path).map(|file| file.len()));
    size.await.ok().and_then(Result::ok).unwrap_or_default()
}
