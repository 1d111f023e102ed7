//! Status of volboot: the store, the history and Cinder, measured on demand.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Operator;
use crate::model::Node;
use crate::store::StoreError;
use crate::telemetry::Reading;

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
    /// The status in one word for programs, without the reason.
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

    /// The size of the store's file.
    pub async fn store_bytes(&self) -> Option<u64> {
        file_size(&self.appliance.store_path).await
    }

    /// The size of the history's file.
    pub async fn history_bytes(&self) -> Option<u64> {
        file_size(&self.appliance.history_path).await
    }

    /// Measures the values that are read on demand, such as file sizes and the store's latency.
    pub async fn measure(&self) -> Reading {
        let (timeline, tftp) = (&self.timeline, &self.appliance.tftp_counters);
        let store = self.check_store().await;
        let (store_bytes, history_bytes) = tokio::join!(self.store_bytes(), self.history_bytes());
        let states = timeline.count_by_state().into_iter();
        Reading {
            store: store.ok(),
            store_bytes: store_bytes.unwrap_or_default(),
            history_bytes: history_bytes.unwrap_or_default(),
            events_queued: timeline.queued_events(),
            events_dropped: timeline.dropped_events(),
            tftp_events_dropped: tftp.events_dropped(),
            tftp_requests_dropped: tftp.requests_dropped(),
            machines: states.map(|(state, count)| (state.as_str(), count)).collect(),
            event_subscribers: timeline.subscriber_count(),
        }
    }
}

/// The size of a file in bytes; `None` if the file does not exist.
async fn file_size(path: &Path) -> Option<u64> {
    let path = path.to_owned();
    let size = tokio::task::spawn_blocking(move || std::fs::metadata(path).map(|file| file.len()));
    size.await.ok()?.ok()
}
