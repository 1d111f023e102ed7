//! Power and boot device of nodes with a BMC.
//!
//! | file | content |
//! |---|---|
//! | `driver_info` | a node's `driver_info`, validated as Ironic does |
//! | `decide` | the steps of a power change: pure |
//! | `change` | power changes: sends each command, waits for its effect |
//! | `claim` | [`BmcClaim`]: the right to send commands |
//! | `boot_device` | Ironic's boot devices and the boot override |
//! | `stations` | the clients of the BMCs, one per node |
//! | `observation` | calls by result and nodes by power state, for the metrics |
//! | `round` | the slow round that reads all power states |
//! | `error` | [`PowerError`] |
//!
//! At most `[power] at_once` requests to BMCs are under way, and never two for one node: each operation holds the node's
//! *claim*, which the store grants to one task of one instance. A command is sent only while the claim lasts. Each request has a
//! time limit. The round uses half of the permits, so that BMCs without an answer do not delay an operator's command to
//! another BMC.
//!
//! Invariant: a node's `power_state` is what its BMC said last. No boot request and no provision verb replaces it.

mod boot_device;
mod change;
mod claim;
mod decide;
mod driver_info;
mod error;
mod observation;
mod round;
mod stations;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::model::{Node, PowerState};
use crate::redfish::{Bmc, CallLimits, SystemPower};
use crate::store::Inventory;
use crate::telemetry::{Metrics, PowerOnTimes};
use crate::tls;
pub use boot_device::{BOOT_DEVICES, BootDevice, BootDeviceNote, BootDeviceState};
pub use claim::BmcClaim;
pub use decide::PowerAction;
pub use driver_info::{DRIVER_INFO_PROPERTIES, DriverInfoError, parse_driver_info};
pub use error::PowerError;
use observation::{NodeCounts, PowerCall};
use stations::Stations;

/// How long an operation waits for a claim: longer than one request to a BMC.
const MAX_CLAIM_TIME: Duration = Duration::from_secs(30);
/// The interval between attempts to claim a node.
const CLAIM_INTERVAL: Duration = Duration::from_millis(100);

/// Time limits of power changes and of the round.
#[derive(Debug, Clone, Copy)]
pub struct PowerLimits {
    /// For the effect of a hard command, as Ironic's `power_state_change_timeout`.
    pub change: Duration,
    /// For the effect of a soft command, as Ironic's `soft_power_off_timeout`.
    pub soft: Duration,
    /// The interval between reads while a change is under way.
    pub poll: Duration,
    /// How long a machine has to stay on after it was switched on.
    pub settle: Duration,
    /// The interval of the round, as Ironic's `sync_power_state_interval`.
    pub round: Duration,
    /// From the power-on to the first request over the network, the power-on self-test included.
    pub first_request: Duration,
    /// Of one request.
    pub calls: CallLimits,
}

impl Default for PowerLimits {
    fn default() -> Self {
        Self {
            change: Duration::from_secs(90),
            soft: Duration::from_secs(600),
            poll: Duration::from_secs(2),
            settle: Duration::from_secs(3),
            round: Duration::from_secs(60),
            first_request: Duration::from_secs(600),
            calls: CallLimits::default(),
        }
    }
}

/// Switches machines through their BMCs. Cheap to clone; clones share their state.
#[derive(Debug, Clone)]
pub struct Power {
    inventory: Inventory,
    stations: Arc<Stations>,
    limits: PowerLimits,
    /// The number of concurrent reads of the round.
    round_width: usize,
    metrics: Metrics,
    switch_on_times: PowerOnTimes,
    node_counts: Arc<NodeCounts>,
}

impl Power {
    /// Works on these records, with at most `at_once` concurrent requests.
    pub fn new(inventory: Inventory, at_once: usize, limits: PowerLimits) -> Self {
        tls::install_provider();
        Self {
            inventory,
            stations: Arc::new(Stations::new(at_once, limits.calls)),
            limits,
            round_width: at_once.div_ceil(2),
            metrics: Metrics::new(),
            switch_on_times: PowerOnTimes::default(),
            node_counts: Arc::default(),
        }
    }

    /// Counts calls in these metrics, and notes there when machines are switched on.
    #[must_use]
    pub fn with_telemetry(self, metrics: Metrics, switch_on_times: PowerOnTimes) -> Self {
        Self { metrics, switch_on_times, ..self }
    }

    /// The time limits.
    pub fn limits(&self) -> PowerLimits {
        self.limits
    }

    /// Claims a node for an operation. A read of the round ends soon; beside another operation, the node is busy.
    pub async fn claim(&self, node: &Node) -> Result<BmcClaim<'static>, PowerError> {
        let deadline = Instant::now() + MAX_CLAIM_TIME;
        loop {
            if let Some(claim) = self.try_claim(node).await? {
                return Ok(claim);
            }
            if Instant::now() >= deadline {
                return Err(PowerError::Busy);
            }
            sleep(CLAIM_INTERVAL).await;
        }
    }

    /// Claims a node without waiting; `None` while a task of any instance works on it.
    async fn try_claim(&self, node: &Node) -> Result<Option<BmcClaim<'static>>, PowerError> {
        let claim = self.inventory.cluster().claim(&format!("power/{}", node.uuid), b"").await;
        let claim = claim.map_err(|error| PowerError::Store(error.to_string()))?;
        Ok(claim.map(BmcClaim::new))
    }

    /// Reads the power state from the BMC; `None` if the BMC does not know it. The caller holds the claim.
    pub async fn read_state(
        &self,
        node: &Node,
        _claim: &BmcClaim<'_>,
    ) -> Result<Option<PowerState>, PowerError> {
        let started_at = std::time::Instant::now();
        let read = async { Ok(self.station(node).await?.read_system().await?.power.map(PowerState::from)) };
        let result = read.await;
        self.count_call(PowerCall::Read, started_at, &result);
        result
    }

    /// The client of a node's BMC.
    async fn station(&self, node: &Node) -> Result<Arc<Bmc>, PowerError> {
        let access = parse_driver_info(node)?;
        Ok(self.stations.find(node.uuid, access).await?)
    }

    /// Ends all sessions at BMCs, at shutdown.
    pub async fn close(&self) {
        self.stations.close().await;
    }
}

impl From<SystemPower> for PowerState {
    fn from(power: SystemPower) -> Self {
        match power {
            SystemPower::On => Self::On,
            SystemPower::Off => Self::Off,
        }
    }
}
