//! [`RecordedBoot`]: the volumes of a node as they were recorded at its boot, for the operating system on them.
//!
//! Only the records are read. With storage interface `cinder` they have the connection of the last export for this node;
//! Cinder is not called. CHAP secrets are left out: the machine's firmware has them in its table (iBFT), and any process
//! of the operating system may ask.

use jiff::Timestamp;

use super::Boot;
use super::decision::node_reason;
use super::identify::{find_node, read_records};
use super::locate::VolumeLocator;
use super::records::NodeRecords;
use super::validate::validate;
use crate::model::{BootVolume, Iqn, Mac, Node, SanUri, StorageInterface};
use crate::store::StoreError;

/// What was recorded at a node's boot.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedBoot {
    /// The node's name, else its UUID.
    pub node: String,
    /// The initiator name for every target.
    pub initiator: Iqn,
    /// The boot volume first, then the others in the order of their boot indexes.
    pub volumes: Vec<RecordedVolume>,
}

/// One volume of a [`RecordedBoot`].
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedVolume {
    /// The volume's id.
    pub id: String,
    /// The boot index of the volume's target.
    pub boot_index: i64,
    /// At least one path.
    pub paths: Vec<SanUri>,
    /// Whether the target requires a CHAP secret.
    pub requires_chap: bool,
    /// When Cinder returned the connection; `None` if it is a record of the operator.
    pub resolved_at: Option<Timestamp>,
}

/// Nothing is recorded for a machine. The text is for its operating system.
#[derive(Debug, thiserror::Error)]
pub enum RecordedBootError {
    /// No node has a port with the address.
    #[error("no node has a port with the address {0}")]
    Unknown(Mac),
    /// The node has no volumes, or no usable record of them.
    #[error("{0}")]
    NotRecorded(String),
    /// The store cannot be read.
    #[error("the store cannot be read; see the log of volboot")]
    Store(#[source] StoreError),
}

impl From<StoreError> for RecordedBootError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The boot of a machine that may run from another volume than its node's own.
enum OtherBoot {
    /// There was none.
    None,
    /// The node's records, with that volume in place of the boot target.
    Volume(Box<NodeRecords>),
    /// It is in no records, for this reason.
    Unrecorded(String),
}

impl Boot {
    /// Finds the one-time boot or the fallback that a node's machine may run from.
    async fn find_other_boot(&self, own: &NodeRecords) -> Result<OtherBoot, StoreError> {
        let once = self.inventory.find_boot_once(own.node.uuid).await?;
        if let Some(once) = once.filter(|once| once.journey.is_some()) {
            let storage_interface = match once.cinder_volume() {
                Some(_) => StorageInterface::Cinder,
                None => StorageInterface::External,
            };
            return Ok(match once.volume_target() {
                Some(target) if !once.with_volumes => OtherBoot::Volume(Box::new(NodeRecords {
                    node: Node { storage_interface, ..own.node.clone() },
                    connectors: own.connectors.clone(),
                    targets: vec![target],
                })),
                Some(_) | None => {
                    OtherBoot::Unrecorded(format!("its machine booted once from {}", once.source))
                }
            });
        }
        let running = self.fallback_watch.find_running(own).await?;
        Ok(running.map_or(OtherBoot::None, |records| OtherBoot::Volume(Box::new(records))))
    }

    /// Reads what was recorded at the boot of the machine with this card. The caller has verified the requester.
    pub async fn read_recorded(&self, card: Mac) -> Result<RecordedBoot, RecordedBootError> {
        let node = find_node(&self.inventory, &[card]).await?.ok_or(RecordedBootError::Unknown(card))?;
        let own = read_records(&self.inventory, node).await?;
        let NodeRecords { node, connectors, targets } = match self.find_other_boot(&own).await? {
            OtherBoot::None => own,
            OtherBoot::Volume(records) => *records,
            OtherBoot::Unrecorded(sentence) => {
                return Err(RecordedBootError::NotRecorded(node_reason(&own.node, sentence)));
            }
        };
        let not_recorded = |sentence: String| RecordedBootError::NotRecorded(node_reason(&node, sentence));
        let locator = match VolumeLocator::find(&node.storage_interface) {
            None => {
                return Err(not_recorded(format!(
                    "storage interface is {}: no volumes",
                    node.storage_interface
                )));
            }
            Some(locator) => locator.map_err(not_recorded)?,
        };
        let records = validate(locator, &node, &connectors, &targets)
            .map_err(|faults| not_recorded(faults.join("; ")))?;
        let mut volumes = Vec::new();
        for target in std::iter::once(records.boot).chain(records.data.iter().copied()) {
            let found = locator.find_recorded(&self.attach, &records, target).await?;
            let (BootVolume { id, paths, chap }, resolved_at) = found.map_err(not_recorded)?;
            let boot_index = target.boot_index;
            volumes.push(RecordedVolume {
                id,
                boot_index,
                paths,
                requires_chap: chap.is_some(),
                resolved_at,
            });
        }
        Ok(RecordedBoot { node: node.label(), initiator: records.initiator.clone(), volumes })
    }
}
