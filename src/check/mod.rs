//! Checks the volumes of a node as its machine would meet them: portals, login, logical unit, and the content.
//!
//! | file | purpose |
//! |---|---|
//! | `request` | the volumes to check |
//! | `report` | the result of a check |
//! | `portal` | one session per portal and target: connects, logs in, examines, inspects, logs out |
//! | `refusals` | refused logins, which are not repeated for a while |
//! | `inspector` | the parent of the inspecting process, and its source of blocks |
//! | `judge` | decides from content and portals on which firmware a volume boots |
//! | `faults` | sentences for faults of portals and volumes |
//!
//! A check changes nothing: it attaches no volume, writes no block, and reserves nothing. Each session has an ISID of its
//! own ([`crate::iscsi`]), and ends with a logout, whatever happens to the client that asked. Content is parsed in a
//! process without secrets and network ([`crate::inspect`]).
//!
//! Faults have the words of the error that the machine would report ([`crate::telemetry::errno`]).

mod faults;
mod inspector;
mod judge;
mod portal;
mod refusals;
mod report;
mod request;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use portal::{PathProbe, group_paths, probe_target};
use refusals::Refusals;
pub use report::{Boots, CheckReport, CheckedPortal, PortalLogin, VolumeReport};
pub use request::{CheckRequest, RequestedVolume, VolumeRole};

/// Sessions at once, of all checks.
const MAX_SESSIONS: usize = 16;
/// Checks at once; further ones wait.
const MAX_CHECKS: usize = 8;
/// Nodes whose last check is kept. The oldest one makes room.
const MAX_KEPT: usize = 1024;

/// The checks of this process. Cheap to clone; clones share their state.
#[derive(Debug, Clone)]
pub struct VolumeChecks {
    shared: Arc<CheckShared>,
}

#[derive(Debug)]
struct CheckShared {
    /// The binary with the subcommand `inspect-volume`.
    program: PathBuf,
    sessions: Semaphore,
    checks: Semaphore,
    refusals: Refusals,
    running: Mutex<HashMap<Uuid, watch::Receiver<Option<Arc<CheckReport>>>>>,
    last: Mutex<BTreeMap<Uuid, Arc<CheckReport>>>,
}

impl Default for VolumeChecks {
    /// Inspects volumes with the running binary, which may have been replaced on disk.
    fn default() -> Self {
        Self::new("/proc/self/exe")
    }
}

impl VolumeChecks {
    /// Inspects volumes with this binary of volboot.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let shared = CheckShared {
            program: program.into(),
            sessions: Semaphore::new(MAX_SESSIONS),
            checks: Semaphore::new(MAX_CHECKS),
            refusals: Refusals::default(),
            running: Mutex::default(),
            last: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The last check of a node since the start of this process.
    pub fn last(&self, node: Uuid) -> Option<Arc<CheckReport>> {
        self.shared.last.lock().get(&node).cloned()
    }

    /// Checks the volumes of a node. A request during a check of the same node gets that check's result. The check goes on
    /// if the caller is dropped: its sessions have to be logged out. `None`: the check panicked.
    pub async fn check(&self, request: CheckRequest) -> Option<Arc<CheckReport>> {
        let mut result = self.join(request);
        result.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Joins the running check of the node, or starts one.
    fn join(&self, request: CheckRequest) -> watch::Receiver<Option<Arc<CheckReport>>> {
        let node = request.node;
        let mut running = self.shared.running.lock();
        // A sender that is gone belongs to a check that panicked.
        if let Some(result) = running.get(&node).filter(|result| result.has_changed().is_ok()) {
            return result.clone();
        }
        let (sender, receiver) = watch::channel(None);
        running.insert(node, receiver.clone());
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let report = Arc::new(shared.run(request).await);
            shared.keep(node, Arc::clone(&report));
            shared.running.lock().remove(&node);
            let _ = sender.send(Some(report));
        });
        receiver
    }
}

impl CheckShared {
    async fn run(self: &Arc<Self>, request: CheckRequest) -> CheckReport {
        let _permit = self.checks.acquire().await;
        let mut probes: Vec<Vec<PathProbe>> = request.volumes.iter().map(|_| Vec::new()).collect();
        let request = Arc::new(request);
        let sessions: Vec<_> = group_paths(&request)
            .into_iter()
            .map(|target| tokio::spawn(probe_target(Arc::clone(self), Arc::clone(&request), target)))
            .collect();
        for session in sessions {
            for (volume, probe) in session.await.unwrap_or_default() {
                probes[volume].push(probe);
            }
        }
        let volumes = request.volumes.iter().zip(probes).map(|(volume, mut probes)| {
            probes.sort_by_key(|probe| probe.position);
            judge::judge_volume(&request, volume, &probes)
        });
        CheckReport::new(Timestamp::now(), volumes.collect())
    }

    fn keep(&self, node: Uuid, report: Arc<CheckReport>) {
        let mut last = self.last.lock();
        last.insert(node, report);
        if last.len() > MAX_KEPT {
            let oldest = last.iter().min_by_key(|(_, report)| report.checked_at).map(|(node, _)| *node);
            oldest.and_then(|node| last.remove(&node));
        }
    }
}
