//! [`Enrolment`]: all that has to be said of a machine so that it boots from a volume; and the records it becomes.

use std::str::FromStr;

use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::{Map, json};
use uuid::Uuid;

use super::{
    Chap, Iqn, Mac, Node, Port, RESERVED_NAMES, SanUri, StorageInterface, VolumeConnector, VolumeTarget,
};

/// The driver of machines that are switched by hand (Ironic's own name for it).
const DRIVER: &str = "manual-management";

/// A machine that is to boot from a volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Enrolment {
    /// What people call it.
    pub name: String,
    /// Its cards; it is recognised by each of them.
    pub macs: Vec<Mac>,
    /// What it calls itself towards storage.
    pub initiator: Iqn,
    /// What it boots from.
    pub volume: Source,
    /// What the volume's target asks for, if it is not Cinder who knows.
    pub chap: Option<Chap>,
}

/// Where the volume is that a machine boots from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Cinder is asked for it at each boot.
    Cinder(Uuid),
    /// Always there.
    Target(SanUri),
}

/// The text says of no volume where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected the UUID of a volume in Cinder, or a target such as iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:disk-1"
)]
pub struct SourceError;

/// The records of an enrolled machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Enrolled {
    /// The machine.
    pub node: Node,
    /// Its cards.
    pub ports: Vec<Port>,
    /// What it shows to storage.
    pub connector: VolumeConnector,
    /// What it boots from.
    pub target: VolumeTarget,
}

impl Enrolment {
    /// Whether a node may be called so: what needs no escape in an address, and is no UUID and no word of the API's.
    pub fn is_name(text: &str) -> bool {
        (1..=255).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
            && text.parse::<Uuid>().is_err()
            && !RESERVED_NAMES.contains(&text)
    }

    /// The records, as the API would make them one by one.
    pub fn records(&self, now: Timestamp) -> Enrolled {
        let storage = match self.volume {
            Source::Cinder(_) => StorageInterface::Cinder,
            Source::Target(_) => StorageInterface::External,
        };
        let mut node = Node::new(Uuid::new_v4(), DRIVER, storage, now);
        node.name = Some(self.name.clone());
        node.properties = Map::from_iter([("capabilities".to_owned(), json!("iscsi_boot:True"))]).into();
        let ports = self.macs.iter().map(|mac| Port::new(Uuid::new_v4(), node.uuid, *mac, now)).collect();
        let connector = VolumeConnector::new(Uuid::new_v4(), node.uuid, "iqn", self.initiator.as_str(), now);
        let target = self.target(node.uuid, now);
        Enrolled { node, ports, connector, target }
    }

    fn target(&self, node: Uuid, now: Timestamp) -> VolumeTarget {
        let path = match &self.volume {
            Source::Cinder(volume) => {
                return VolumeTarget::new(Uuid::new_v4(), node, 0, &volume.to_string(), now);
            }
            Source::Target(path) => path,
        };
        let mut target = VolumeTarget::new(Uuid::new_v4(), node, 0, path.target.as_str(), now);
        let mut properties = Map::from_iter([
            ("target_portal".to_owned(), json!(path.portal.to_string())),
            ("target_iqn".to_owned(), json!(path.target.as_str())),
            ("target_lun".to_owned(), json!(path.lun.number())),
        ]);
        if let Some(chap) = &self.chap {
            properties.insert("auth_method".into(), json!("CHAP"));
            properties.insert("auth_username".into(), json!(chap.username));
            properties.insert("auth_password".into(), json!(chap.password.expose_secret()));
        }
        target.properties = properties.into();
        target
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let uuid = text.parse().map(Self::Cinder).map_err(|_| SourceError);
        uuid.or_else(|error| text.parse().map(Self::Target).map_err(|_| error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Connection;

    fn enrolment(volume: &str, chap: Option<Chap>) -> Enrolment {
        Enrolment {
            name: "web-1".into(),
            macs: vec![Mac::new([2, 0, 0, 0, 0, 1]), Mac::new([2, 0, 0, 0, 0, 2])],
            initiator: "iqn.2017-08.org.openstack.web-1".parse().expect("a name"),
            volume: volume.parse().expect("a volume"),
            chap,
        }
    }

    #[test]
    fn a_target_becomes_a_node_that_boots_what_its_records_say() {
        let uri = "iscsi:[2001:db8::1]::3261:1f:iqn.2010-10.org.example:disk-1";
        let chap = Chap { username: "web-1".into(), password: "at least 12 bytes".to_owned().into() };
        let records = enrolment(uri, Some(chap.clone())).records(Timestamp::UNIX_EPOCH);
        assert_eq!(records.node.storage_interface, StorageInterface::External);
        assert_eq!(records.node.name.as_deref(), Some("web-1"));
        assert!(records.node.capabilities().is_true("iscsi_boot"));
        assert_eq!(records.ports.len(), 2);
        assert!(records.ports.iter().all(|port| port.node_uuid == records.node.uuid && port.pxe_enabled));
        assert!(records.connector.is_iqn());
        let connection = Connection::try_from(&records.target.properties).expect("is right");
        assert_eq!(connection.paths[0].to_string(), uri);
        assert_eq!(connection.chap, Some(chap));
    }

    #[test]
    fn a_volume_of_cinder_s_is_asked_for_there() {
        let id = "0b1d4a52-6d5f-4d21-9a7e-0e8a4d0a6a11";
        let records = enrolment(id, None).records(Timestamp::UNIX_EPOCH);
        assert_eq!(records.node.storage_interface, StorageInterface::Cinder);
        assert_eq!((records.target.volume_id.as_str(), records.target.boot_index), (id, 0));
        assert!(records.target.properties.reveal().is_empty());
    }

    #[test]
    fn what_is_no_volume_is_told_what_one_looks_like() {
        for text in ["", "disk-1", "iscsi:192.0.2.1", "https://192.0.2.1/disk"] {
            assert_eq!(text.parse::<Source>(), Err(SourceError), "{text}");
        }
    }
}
