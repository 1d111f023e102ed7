//! [`BootSession`]: one boot attempt of a machine, as far as this instance knows it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::progress::VolumeResults;
use super::request::DesiredAttachment;
use super::resolution::ResolvedVolume;
use crate::store::BootWait;

/// How long a boot session lives without a request, and an undelivered result with it.
pub(super) const IDLE_TTL: Duration = Duration::from_secs(120);
/// A journey and a try.
pub(super) type Journey = (String, u32);

/// A boot attempt, as this instance knows it.
#[derive(Debug)]
pub(super) struct BootSession {
    /// The journey and the try, if the request had them.
    pub(super) journey: Option<Journey>,
    /// When the first request arrived.
    pub(super) started_at: Instant,
    /// When the first request to this instance arrived.
    pub(super) entered_at: Instant,
    /// When the latest request arrived.
    pub(super) last_request: Instant,
    /// Since when the machine waits because of a transient error.
    pub(super) transient_since: Option<Instant>,
    /// When the wait was last noted in the store.
    pub(super) noted_at: Option<Instant>,
    /// Cinder's results for this session, including late results of an earlier request.
    pub(super) results: HashMap<String, ResolvedVolume>,
}

impl BootSession {
    pub(super) fn new(journey: Option<Journey>, now: Instant) -> Self {
        Self {
            journey,
            started_at: now,
            entered_at: now,
            last_request: now,
            transient_since: None,
            noted_at: None,
            results: HashMap::new(),
        }
    }

    /// Continues a wait that began at another instance.
    pub(super) fn continue_wait(&mut self, wait: &BootWait) {
        let before = |seconds| self.entered_at.checked_sub(Duration::from_secs(seconds));
        let (waited, transient) = (before(wait.waited), wait.transient.and_then(before));
        self.started_at = waited.unwrap_or(self.started_at);
        self.transient_since = transient;
        self.noted_at = Some(self.entered_at);
    }

    pub(super) fn is_recent(&self, now: Instant) -> bool {
        now.duration_since(self.last_request) < IDLE_TTL
    }

    /// The known results for these volumes, and the volumes without a result.
    pub(super) fn split_known(
        &self,
        desired: &[DesiredAttachment],
    ) -> (VolumeResults, Vec<DesiredAttachment>) {
        let (mut known, mut missing) = (Vec::new(), Vec::new());
        for volume in desired {
            match self.results.get(&volume.volume) {
                Some(resolved) => known.push((volume.volume.clone(), Ok(resolved.clone()))),
                None => missing.push(volume.clone()),
            }
        }
        (known, missing)
    }
}
