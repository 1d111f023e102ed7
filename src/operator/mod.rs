//! The operations of operators, defined once for the API and the web pages: both only translate.
//!
//! | operation | file |
//! |---|---|
//! | set what a node boots once, show and cancel it | [`mod@boot_once`] |
//! | check the volumes of a node | [`mod@check`] |
//! | list the conductors | [`mod@conductors`] |
//! | delete a node | [`mod@deletion`] |
//! | enroll a machine as a new node | [`mod@enroll`] |
//! | set and clear maintenance | [`mod@maintenance`] |
//! | set, promote and remove the fallback of a node | [`mod@fallback`] |
//! | end the operations that an instance left behind | [`mod@interrupted`] |
//! | list a node's machines, read their timelines | [`mod@machines`] |
//! | predict a machine's next boot request, preview the answer | [`mod@preview`] |
//! | switch a node's machine, set its boot device | [`mod@power`] |
//! | tell whether a machine that was switched on boots from the network | [`mod@network_boot`] |
//! | begin and end an operation in the background | [`mod@operation`] |
//! | deploy and undeploy nodes with a BMC | [`mod@provision`] |
//! | the rules of the provision verbs, and their start | [`mod@verb`], [`mod@transition`] |
//! | add, change and remove volumes | [`mod@volumes`] |
//! | why an operation is refused | [`mod@refusal`] |
//! | decide whether this instance should get boot requests | [`mod@readiness`] |
//! | measure the store, the history and Cinder | [`mod@status`] |

mod boot_once;
mod check;
mod conductors;
mod deletion;
mod enroll;
mod fallback;
mod interrupted;
mod machines;
mod maintenance;
mod network_boot;
mod operation;
mod power;
mod preview;
mod provision;
mod readiness;
mod refusal;
mod status;
mod transition;
mod verb;
mod volumes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::attach::Attach;
use crate::boot::Boot;
use crate::check::VolumeChecks;
use crate::cluster::Membership;
use crate::config::BootConfig;
use crate::dhcp::ProxyCounters;
use crate::images::Images;
use crate::listen::ConnectionCounters;
use crate::model::{Conductor, Node, StorageInterface};
use crate::power::Power;
use crate::store::{Inventory, StoreError, UniqueKey};
use crate::telemetry::Metrics;
use crate::tftp::Counters;
use crate::timeline::Timeline;
pub use boot_once::{DEFAULT_ONCE_TTL, MAX_ONCE_TTL, OnceRequest, SourceText};
pub use conductors::ConductorStatus;
pub use deletion::check_deletable;
pub use enroll::{EnrollError, EnrollmentRequest, Refusal, VolumeText};
pub use fallback::{FallbackStatus, FallbackValues};
pub use interrupted::InterruptedOperations;
pub use maintenance::MaintenanceChange;
pub use network_boot::NetworkBootWatch;
pub use power::find_power_obstacle;
pub use preview::{BootPreview, Requester};
pub use provision::ProvisionTask;
pub use readiness::{Readiness, StoreReadiness};
pub use refusal::{OperationRefusal, check_unprotected, check_unreserved};
pub use status::CinderStatus;
pub use transition::RequestedVerb;
pub use verb::Verb;
pub use volumes::{VolumeError, VolumeValues, check_power_off, check_volume_removal};

/// The services and settings of the API and the pages, as one configuration defines them.
#[derive(Debug)]
pub struct Operator {
    /// The records.
    pub inventory: Inventory,
    /// Decides boot requests; for previews and validation.
    pub boot: Boot,
    /// The Cinder attachments of nodes.
    pub attach: Attach,
    /// Switches machines through their BMCs.
    pub power: Power,
    /// The checks of nodes' volumes.
    pub volume_checks: VolumeChecks,
    /// The machines and their events.
    pub timeline: Timeline,
    /// The iPXE binaries.
    pub images: Images,
    /// The settings of boot scripts, for previews.
    pub scripts: BootConfig,
    /// The storage interfaces that a node may use.
    pub enabled_storage_interfaces: Vec<StorageInterface>,
    /// The storage interface of a node created without one.
    pub default_storage_interface: StorageInterface,
    /// Whether a node keeps its volume targets when it is undeployed. Ironic deletes them.
    pub keep_targets_on_undeploy: bool,
    /// This process among the instances on the store.
    pub membership: Membership,
    /// This process as one of Ironic's conductors.
    pub conductor: Conductor,
    /// This process.
    pub appliance: Appliance,
}

/// This process: what stays the same until it exits.
#[derive(Debug, Clone)]
pub struct Appliance {
    /// The counters and histograms.
    pub metrics: Metrics,
    /// The listeners' names and addresses.
    pub listeners: Vec<(&'static str, SocketAddr)>,
    /// The path of the history.
    pub history_path: PathBuf,
    /// The TFTP server's counters of dropped events and requests.
    pub tftp_counters: Arc<Counters>,
    /// Whether the ProxyDHCP server has port 67, and its counter; `None` if the server is off.
    pub dhcp_status: Option<(bool, Arc<ProxyCounters>)>,
    /// The HTTP listeners' counts of connections, by name.
    pub connection_counters: Vec<(&'static str, Arc<ConnectionCounters>)>,
    /// The start time of this process.
    pub started_at: Timestamp,
    /// Cancelled once the shutdown is requested: the instance is not ready any more, and everything else goes on until
    /// `stop`.
    pub leaving: CancellationToken,
    /// Cancelled at shutdown; ends event streams.
    pub stop: CancellationToken,
}

impl Operator {
    /// Finds a node by its UUID or name.
    pub async fn find_node(&self, ident: &str) -> Result<Option<Node>, StoreError> {
        let node = match ident.parse() {
            Ok(uuid) => self.inventory.get::<Node>(uuid).await?,
            Err(_) => self.inventory.find::<Node>(&UniqueKey::NodeName(ident.to_owned())).await?,
        };
        Ok(node.map(|node| node.value))
    }
}
