//! Power and boot device of nodes with a BMC.
//!
//! | file | content |
//! |---|---|
//! | `driver_info` | a node's `driver_info`, validated as Ironic does |
//! | `decide` | the steps of a power change: pure |
//! | `change` | power changes: sends each command, waits for its effect |
//! | `boot_device` | Ironic's boot devices and the boot override |
//! | `stations` | the clients of the BMCs, one per node |
//! | `round` | the slow round that reads all power states |
//! | `error` | [`PowerError`] |
//!
//! At most `[power] at_once` requests to BMCs are under way, and never two for one node: each operation holds the node's
//! *claim*, which the store grants to one task of one instance. Each request has a time limit. The round uses half of the permits, so that BMCs without an answer do not
//! delay an operator's command to another BMC.
//!
//! Invariant: a node's `power_state` is what its BMC said last. No boot request and no provision verb replaces it.

mod boot_device;
mod change;
mod decide;
mod driver_info;
mod error;
mod round;
mod stations;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::model::{Node, PowerState};
use crate::redfish::{Bmc, CallLimits, SystemPower};
use crate::store::{Claim, Inventory};
use crate::tls;
pub use boot_device::{BOOT_DEVICES, BootDevice, BootDeviceNote, BootDeviceState};
pub use decide::PowerAction;
pub use driver_info::{DRIVER_INFO_PROPERTIES, DriverInfoError, parse_driver_info};
pub use error::PowerError;
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
    /// The interval of the round.
    pub round: Duration,
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
}

impl Power {
    /// Works on these records, with at most `at_once` concurrent requests.
    pub fn new(inventory: Inventory, at_once: usize, limits: PowerLimits) -> Self {
        tls::install_provider();
        let stations = Arc::new(Stations::new(Arc::new(Semaphore::new(at_once)), limits.calls));
        Self { inventory, stations, limits, round_width: at_once.div_ceil(2) }
    }

    /// Claims a node for an operation. A read of the round ends soon; beside another operation, the node is busy.
    pub async fn claim(&self, node: &Node) -> Result<Claim, PowerError> {
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
    async fn try_claim(&self, node: &Node) -> Result<Option<Claim>, PowerError> {
        let claim = self.inventory.cluster().claim(&format!("power/{}", node.uuid), b"").await;
        claim.map_err(|error| PowerError::Store(error.to_string()))
    }

    /// Reads the power state from the BMC; `None` if the BMC does not know it. The caller holds the claim.
    pub async fn read_state(&self, node: &Node, _claim: &Claim) -> Result<Option<PowerState>, PowerError> {
        let bmc = self.station(node).await?;
        Ok(bmc.read_system().await?.power.map(PowerState::from))
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
