//! [`Watch`]: what the API can tell of machines and of volboot itself, beyond the records.

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

/// What happens, and what volboot is.
#[derive(Debug, Clone)]
pub struct Watch {
    /// What happened to each machine.
    pub timeline: Timeline,
    /// What is counted.
    pub metrics: Metrics,
    /// How scripts are written.
    pub scripts: BootConfig,
    /// What is known of Cinder.
    pub attach: Attach,
    /// What is served to firmware.
    pub images: Images,
    /// The doors, and where they are.
    pub doors: Vec<(&'static str, SocketAddr)>,
    /// The store's file.
    pub store: PathBuf,
    /// The history's file.
    pub history: PathBuf,
    /// What the TFTP door lost.
    pub transfers: Arc<Counters>,
    /// Since when it runs.
    pub started: Timestamp,
    /// Ends what would go on for ever.
    pub stop: CancellationToken,
}

impl Watch {
    /// Looks at what only shows when somebody looks.
    pub(super) async fn reading(&self, state: &ApiState) -> Reading {
        let began = Instant::now();
        let store = alive(state).await.is_ok().then(|| began.elapsed());
        let (store_bytes, history_bytes) = tokio::join!(size(&self.store), size(&self.history));
        Reading {
            store,
            store_bytes,
            history_bytes,
            queue: self.timeline.queue(),
            lost: self.timeline.lost(),
            transfers_untold: self.transfers.events_lost(),
            transfers_unheard: self.transfers.requests_lost(),
            machines: self
                .timeline
                .count()
                .into_iter()
                .map(|(state, count)| (state.as_str(), count))
                .collect(),
            streams: self.timeline.followers(),
        }
    }

    /// In words, how Cinder is.
    pub(super) fn cinder(&self) -> String {
        match self.attach.cinder_is_away() {
            _ if !self.attach.is_configured() => "not configured".to_owned(),
            None => "answers".to_owned(),
            Some(reason) => format!("is away: {reason}"),
        }
    }
}

/// Whether the store answers.
pub(super) async fn alive(state: &ApiState) -> Result<(), StoreError> {
    state.inventory.list::<Node>(None, 1).await.map(drop)
}

/// The size of a file, 0 if there is none.
pub(super) async fn size(path: &std::path::Path) -> u64 {
    let path = path.to_owned();
    let size = tokio::task::spawn_blocking(move || std::fs::metadata(path).map(|file| file.len()));
    size.await.ok().and_then(Result::ok).unwrap_or_default()
}
