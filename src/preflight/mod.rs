//! Preflight: which portals of a volume do not answer this host any more, before a machine tries them.
//!
//! The iBFT has room for the first path of a volume, or the first two, and iPXE uses these alone
//! ([`SanTable`](crate::model::SanTable)). If they lead to a silent portal, the machine waits for a time-out. A portal counts as
//! *dead* only if this host reached it within [`REACHED_WITHIN`] and does not reach it now. Its path then goes to the end of
//! the list, with target name and LUN. Nothing is refused: the machine may see what this host does not. Where this host never reached a
//! portal, nothing changes.
//!
//! A probe is a TCP connection, closed at once. It is off the hot path: results last [`RESULT_AGE`], portals in use are
//! probed again before that, and a boot request waits [`MAX_WAIT`] at most for a first result. Only boot plans of admitted
//! machines name portals. Portals and concurrent probes have a limit. The memory is this process's own.

mod portals;
mod reorder;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::PreflightMode;
use crate::model::{BootPlan, Portal};
use crate::telemetry::PortalReading;
use portals::Portals;

/// How long after its last answer a silent portal counts as dead.
pub const REACHED_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the result of a probe counts.
pub const RESULT_AGE: Duration = Duration::from_secs(60);
/// How long a boot request waits for probes.
pub const MAX_WAIT: Duration = Duration::from_millis(50);
/// The time limit of a probe. A target in the same site answers within milliseconds.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between two looks for results that become old.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// Concurrent probes.
const MAX_PROBES: usize = 16;

/// Knows which portals answer this host. Cheap to clone; clones share their state.
#[derive(Debug, Clone)]
pub struct Preflight(Arc<State>);

#[derive(Debug)]
struct State {
    portals: Mutex<Portals>,
    permits: Arc<Semaphore>,
    /// Replaced on reload.
    mode: Mutex<PreflightMode>,
}

impl Default for Preflight {
    fn default() -> Self {
        Self(Arc::new(State {
            portals: Mutex::default(),
            permits: Arc::new(Semaphore::new(MAX_PROBES)),
            mode: Mutex::new(PreflightMode::Portals),
        }))
    }
}

impl Preflight {
    /// Changes the mode, for a reload.
    pub fn configure(&self, mode: PreflightMode) {
        *self.0.mode.lock() = mode;
    }

    fn is_on(&self) -> bool {
        *self.0.mode.lock() == PreflightMode::Portals
    }

    /// Puts the paths through dead portals last, and notes that in the plan. Waits for first results.
    pub async fn apply(&self, plan: &mut BootPlan) {
        let portals = reorder::portals_with_alternatives(plan);
        if portals.is_empty() || !self.is_on() {
            return;
        }
        let now = Instant::now();
        let missing = self.0.portals.lock().note_use(&portals, now);
        let probes: Vec<_> = missing.into_iter().filter_map(|portal| self.start_probe(portal)).collect();
        if !probes.is_empty() {
            // The probes go on.
            let _ = timeout(MAX_WAIT, join_all(probes)).await;
        }
        self.apply_known(plan);
    }

    /// Like [`Preflight::apply`], with the known results alone: for previews.
    pub fn apply_known(&self, plan: &mut BootPlan) {
        if !self.is_on() {
            return;
        }
        let (known, now) = (self.0.portals.lock(), Instant::now());
        reorder::put_dead_portals_last(plan, |portal| known.silent_since(portal, now));
    }

    /// Whether this host reaches a portal; `None` without a recent result.
    pub fn is_reachable(&self, portal: &Portal) -> Option<bool> {
        self.0.portals.lock().is_reachable(portal, Instant::now())
    }

    /// The number of portals by whether they answer this host; 0 while preflight is off.
    pub fn count_portals(&self) -> PortalReading {
        if !self.is_on() {
            return PortalReading::default();
        }
        self.0.portals.lock().count(Instant::now())
    }

    /// Probes the portals in use again before their results become old, until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(REFRESH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let refresh = async {
            loop {
                ticks.tick().await;
                if self.is_on() {
                    let due = self.0.portals.lock().take_due(Instant::now());
                    for portal in due {
                        // Without a free permit, the next look starts it.
                        drop(self.start_probe(portal));
                    }
                }
            }
        };
        stop.run_until_cancelled(refresh).await;
    }

    /// Starts a probe, unless one is under way, or too many are.
    fn start_probe(&self, portal: Portal) -> Option<JoinHandle<()>> {
        let permit = Arc::clone(&self.0.permits).try_acquire_owned().ok()?;
        if !self.0.portals.lock().begin_probe(&portal) {
            return None;
        }
        let state = Arc::clone(&self.0);
        Some(tokio::spawn(async move {
            let is_reached = probe(&portal).await;
            let change = state.portals.lock().finish_probe(&portal, is_reached, Instant::now());
            if change {
                if is_reached {
                    tracing::info!(%portal, "portal answers again");
                } else {
                    tracing::warn!(%portal, "portal does not answer this host any more; boots try it last");
                }
            }
            drop(permit);
        }))
    }
}

/// Opens a connection to a portal, and closes it.
async fn probe(portal: &Portal) -> bool {
    let address = (portal.connect_host(), portal.connect_port());
    timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await.is_ok_and(|connected| connected.is_ok())
}
