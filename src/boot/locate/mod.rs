//! [`VolumeLocator`]: finds the volumes of each storage interface. The only place that maps one to the other.
//!
//! A further storage interface is a variant here and a file with its locator beside [`mod@records`] and
//! [`mod@cinder`].

mod cinder;
mod once;
mod records;

pub(super) use once::locate_once;

use std::collections::HashMap;

use jiff::Timestamp;

use crate::attach::{Attach, Resolution, StoreOutage};
use crate::model::{BootRequest, BootVolume, Node, StorageInterface, VolumeConnector, VolumeTarget};
use crate::store::StoreError;

use super::decision::{Mode, Stop};
use super::plan::LocatedVolumes;
use super::records::BootableRecords;

/// The source of a node's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VolumeLocator {
    /// The volume targets, in which an operator has written the connections.
    Records,
    /// Cinder, at every boot.
    Cinder,
}

impl VolumeLocator {
    /// The locator of a storage interface, or the reason why there is none. `None`: the interface has no volumes.
    pub(super) fn find(interface: &StorageInterface) -> Option<Result<Self, String>> {
        match interface {
            StorageInterface::Noop => None,
            StorageInterface::External => Some(Ok(Self::Records)),
            StorageInterface::Cinder => Some(Ok(Self::Cinder)),
            StorageInterface::Other(name) => Some(Err(format!("storage interface \"{name}\" is unknown"))),
        }
    }

    /// Checks the part of a target's record that this locator reads.
    pub(super) fn check_record(self, target: &VolumeTarget) -> Result<(), String> {
        match self {
            Self::Records => records::read_volume(target).map(drop),
            Self::Cinder => Ok(()),
        }
    }

    /// Finds the faults and the notes that only the service behind the volumes knows, without changing anything.
    pub(super) async fn check_with_service(
        self,
        attach: &Attach,
        node: &Node,
        connectors: &[VolumeConnector],
        targets: &[VolumeTarget],
    ) -> (Vec<String>, Vec<String>) {
        match self {
            Self::Records => (Vec::new(), Vec::new()),
            Self::Cinder => attach.check(node, connectors, targets).await.into_findings(),
        }
    }

    /// Finds the recorded connection of a volume without a call to the service behind it, and when the service returned
    /// it. `Err` in the result: the reason why none is recorded.
    pub(super) async fn find_recorded(
        self,
        attach: &Attach,
        records: &BootableRecords<'_>,
        target: &VolumeTarget,
    ) -> Result<Result<(BootVolume, Option<Timestamp>), String>, StoreError> {
        match self {
            Self::Records => Ok(records::read_volume(target).map(|volume| (volume, None))),
            Self::Cinder => {
                let id = &target.volume_id;
                let found = attach.find_recorded(records.node.uuid, id, &records.initiator).await?;
                Ok(found.map(|(connection, resolved_at)| {
                    let volume =
                        BootVolume { id: id.clone(), paths: connection.paths, chap: connection.chap };
                    (volume, Some(resolved_at))
                }))
            }
        }
    }

    /// Attaches the volumes of a node whose records are valid, ahead of its boot request.
    pub(super) async fn attach(self, attach: &Attach, records: &BootableRecords<'_>) -> Resolution {
        match self {
            // The targets have the connections.
            Self::Records => Resolution::Ready(HashMap::new()),
            Self::Cinder => cinder::attach(attach, records).await,
        }
    }

    /// Locates the volumes of an admitted node. `outage`: the records are the last known ones.
    pub(super) async fn locate(
        self,
        attach: &Attach,
        records: &BootableRecords<'_>,
        request: &BootRequest,
        mode: Mode,
        outage: Option<&StoreOutage>,
    ) -> Result<LocatedVolumes, Stop> {
        match self {
            Self::Records => records::locate(records, outage),
            Self::Cinder => cinder::locate(attach, records, request, mode, outage).await,
        }
    }
}
