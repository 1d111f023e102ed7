//! Enrollment: creates a new node with its port, connector and boot volume in one transaction.
//!
//! With Ironic's API the same takes four requests, any of which may fail.

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Operator;
use crate::boot::VolumeUser;
use crate::model::{
    EnabledHardware, InterfaceError, Iqn, IqnError, Mac, Node, NodeNameError, Port, SanUri, StorageInterface,
    VolumeConnector, VolumeTarget,
};
use crate::store::{Enrollment, InventoryError, UniqueKey};

/// The default driver: Ironic's for machines that are switched on and off by hand.
const DRIVER: &str = "manual-management";

/// The values of an enrollment, as a client or a form sent them.
#[derive(Debug)]
pub struct EnrollmentRequest<'a> {
    /// The node's name.
    pub name: &'a str,
    /// The MAC address of the boot card.
    pub mac: Mac,
    /// The initiator name.
    pub iqn: &'a str,
    /// The boot volume.
    pub volume: VolumeText<'a>,
    /// The CHAP user at the target; empty without CHAP.
    pub chap_user: &'a str,
    /// The CHAP secret of that user.
    pub chap_secret: SecretString,
    /// The node's driver, if not the default.
    pub driver: Option<&'a str>,
}

/// The boot volume of an enrollment, as text.
#[derive(Debug, Clone, Copy)]
pub enum VolumeText<'a> {
    /// The UUID of a Cinder volume, resolved at each boot.
    Cinder(&'a str),
    /// The [`SanUri`] of a fixed iSCSI target.
    Target(&'a str),
}

/// The reason why one value of an enrollment is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The name is not a node name.
    Name(NodeNameError),
    /// The initiator name is not an iSCSI name.
    Iqn(IqnError),
    /// The Cinder volume is not a UUID.
    VolumeId,
    /// The target is not a SAN URI.
    TargetUri,
    /// The CHAP secret has no user.
    MissingChapUser,
    /// The CHAP user has no secret.
    MissingChapSecret,
    /// Cinder provides the credentials of its volumes.
    ChapForCinder,
    /// The driver, or the storage interface of this kind of volume, is not enabled.
    Interface(InterfaceError),
    /// Another record has this unique value.
    Duplicate(UniqueKey),
    /// Another node keeps the volume for itself.
    VolumeInUse(VolumeUser),
}

/// An enrollment failed; nothing was created.
#[derive(Debug)]
pub enum EnrollError {
    /// The refused values, in the order of the fields. At least one.
    Refused(Vec<Refusal>),
    /// The records cannot be written.
    Inventory(InventoryError),
}

impl Operator {
    /// Creates the four records of a new node, or none.
    pub async fn enroll(
        &self,
        request: EnrollmentRequest<'_>,
        now: Timestamp,
    ) -> Result<Enrollment, EnrollError> {
        let mut records = request
            .build_records(&self.conductor.hardware, &self.enabled_storage_interfaces, now)
            .map_err(EnrollError::Refused)?;
        records.node.conductor_group.clone_from(&self.conductor.group);
        let keeper = self.boot.find_keeper(&records.target, now).await;
        if let Some(user) = keeper.map_err(|error| EnrollError::Inventory(error.into()))? {
            return Err(EnrollError::Refused(vec![Refusal::VolumeInUse(user)]));
        }
        match self.inventory.enroll(&records).await {
            Ok(()) => Ok(records),
            Err(InventoryError::Duplicate(key)) => Err(EnrollError::Refused(vec![Refusal::Duplicate(key)])),
            Err(error) => Err(EnrollError::Inventory(error)),
        }
    }
}

impl<'a> VolumeText<'a> {
    /// The text of a field for both kinds of volume.
    pub fn from_either(text: &'a str) -> Self {
        if text.parse::<Uuid>().is_ok() { Self::Cinder(text) } else { Self::Target(text) }
    }

    /// The storage interface for this kind of volume.
    pub(super) fn storage_interface(self) -> StorageInterface {
        match self {
            Self::Cinder(_) => StorageInterface::Cinder,
            Self::Target(_) => StorageInterface::External,
        }
    }

    /// The id and the properties of the volume target.
    pub(super) fn parse(self) -> Result<(String, Map<String, Value>), Refusal> {
        match self {
            Self::Cinder(text) => {
                let uuid: Uuid = text.parse().map_err(|_| Refusal::VolumeId)?;
                Ok((uuid.to_string(), Map::new()))
            }
            Self::Target(text) => {
                let uri: SanUri = text.parse().map_err(|_| Refusal::TargetUri)?;
                Ok((uri.target.as_str().to_owned(), uri.properties()))
            }
        }
    }
}

impl EnrollmentRequest<'_> {
    /// Builds the records, or returns all refusals at once.
    fn build_records(
        &self,
        hardware: &EnabledHardware,
        enabled_storage: &[StorageInterface],
        now: Timestamp,
    ) -> Result<Enrollment, Vec<Refusal>> {
        let mut refusals = Vec::new();
        let mut refuse = |refusal| refusals.push(refusal);
        let driver = self.driver.unwrap_or(DRIVER);
        let mut node = Node::new(Uuid::new_v4(), driver, self.volume.storage_interface(), now);
        node.name = Some(self.name.to_owned());
        node.properties = Map::from_iter([("capabilities".to_owned(), json!("iscsi_boot:True"))]).into();
        Node::check_name(self.name).map_err(Refusal::Name).unwrap_or_else(&mut refuse);
        let iqn = self.iqn.parse::<Iqn>().map_err(|error| refuse(Refusal::Iqn(error))).ok();
        let volume = self.volume.parse().map_err(&mut refuse).ok();
        let chap = build_chap_properties(self.volume, self.chap_user, &self.chap_secret);
        let chap = chap.map_err(&mut refuse).ok();
        node.check_interfaces(hardware, enabled_storage)
            .map_err(Refusal::Interface)
            .unwrap_or_else(&mut refuse);
        match (iqn, volume, chap) {
            (Some(iqn), Some((volume, mut properties)), Some(chap)) if refusals.is_empty() => {
                properties.extend(chap);
                Ok(Enrollment {
                    port: Port::new(Uuid::new_v4(), node.uuid, self.mac, now),
                    connector: VolumeConnector::new(Uuid::new_v4(), node.uuid, "iqn", iqn.as_str(), now),
                    target: VolumeTarget {
                        properties: properties.into(),
                        ..VolumeTarget::new(Uuid::new_v4(), node.uuid, 0, &volume, now)
                    },
                    node,
                })
            }
            _ => Err(refusals),
        }
    }
}

/// The credentials among the properties of a volume target.
pub(super) fn build_chap_properties(
    volume: VolumeText<'_>,
    user: &str,
    secret: &SecretString,
) -> Result<Map<String, Value>, Refusal> {
    match (volume, user, secret.expose_secret()) {
        (_, "", "") => Ok(Map::new()),
        (_, "", _) => Err(Refusal::MissingChapUser),
        (_, _, "") => Err(Refusal::MissingChapSecret),
        (VolumeText::Cinder(_), ..) => Err(Refusal::ChapForCinder),
        (VolumeText::Target(_), user, secret) => Ok(Map::from_iter([
            ("auth_method".to_owned(), "CHAP".into()),
            ("auth_username".to_owned(), user.into()),
            ("auth_password".to_owned(), secret.into()),
        ])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Connection;

    const IQN: &str = "iqn.2017-08.org.openstack.web-1";
    const TARGET: &str = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:disk-1";
    const VOLUME: &str = "0b1d4a52-6d5f-4d21-9a7e-0e8a4d0a6a11";
    const ENABLED: [StorageInterface; 2] = [StorageInterface::External, StorageInterface::Cinder];

    fn build(
        name: &str,
        iqn: &str,
        volume: &str,
        user: &str,
        secret: &str,
    ) -> Result<Enrollment, Vec<Refusal>> {
        let request = EnrollmentRequest {
            name,
            mac: Mac::new([2, 0, 0, 0, 0, 1]),
            iqn,
            volume: VolumeText::from_either(volume),
            chap_user: user,
            chap_secret: secret.into(),
            driver: None,
        };
        request.build_records(&EnabledHardware::default(), &ENABLED, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn all_values_are_checked_at_once() {
        use NodeNameError::{Invalid, Reserved};
        use Refusal::{ChapForCinder, Iqn, MissingChapSecret, MissingChapUser, Name, TargetUri};
        let refusals =
            |name, iqn, volume, user, secret| build(name, iqn, volume, user, secret).expect_err("refused");
        assert_eq!(refusals("", "", "", "", ""), [Name(Invalid), Iqn(IqnError::Form), TargetUri]);
        assert_eq!(refusals(VOLUME, IQN, TARGET, "", ""), [Name(Invalid)]);
        assert_eq!(refusals("detail", IQN, "disk-1", "", ""), [Name(Reserved), TargetUri]);
        assert_eq!(refusals("web 1", IQN, TARGET, "", "secret"), [Name(Invalid), MissingChapUser]);
        assert_eq!(refusals("web-1", IQN, TARGET, "ann", ""), [MissingChapSecret]);
        assert_eq!(refusals("web-1", IQN, VOLUME, "ann", "secret"), [ChapForCinder]);
    }

    #[test]
    fn a_target_uri_creates_a_node_with_external_storage() {
        let uri = "iscsi:[2001:db8::1]::3261:1f:iqn.2010-10.org.example:disk-1";
        let records = build("web-1", IQN, uri, "ann", " secret ").expect("records");
        assert_eq!(records.node.name.as_deref(), Some("web-1"));
        assert_eq!(records.node.storage_interface, StorageInterface::External);
        assert!(records.node.capabilities().is_true("iscsi_boot") && records.port.pxe_enabled);
        assert_eq!(records.connector.connector_id, IQN);
        assert_eq!(records.target.volume_id, "iqn.2010-10.org.example:disk-1");
        let connection = Connection::from_record(&records.target.properties).expect("valid properties");
        assert_eq!(connection.paths[0].to_string(), uri);
        let chap = connection.chap.expect("credentials");
        assert_eq!((chap.username.as_str(), chap.password.expose_secret()), ("ann", " secret "));
    }

    #[test]
    fn a_volume_uuid_creates_a_node_with_cinder_storage() {
        let records = build("web-1", IQN, VOLUME, "", "").expect("records");
        assert_eq!(records.node.storage_interface, StorageInterface::Cinder);
        assert_eq!((records.target.volume_id.as_str(), records.target.boot_index), (VOLUME, 0));
        assert!(records.target.properties.reveal().is_empty());
    }

    #[test]
    fn san_uris_become_target_properties() {
        let iqn = "iqn.2010-10.org.example:root";
        for (text, portal, lun) in [
            ("iscsi:192.0.2.2::3260:1", "192.0.2.2:3260", 1),
            ("iscsi:192.0.2.2:6:3261:a", "192.0.2.2:3261", 10),
            ("iscsi:192.0.2.2:::", "192.0.2.2:3260", 0),
            ("iscsi:[2001:db8::1]::3260:ff", "[2001:db8::1]:3260", 255),
            ("iscsi:san.example.org::1:2", "san.example.org:1", 2),
        ] {
            let records = build("web-1", IQN, &format!("{text}:{iqn}"), "", "").expect("records");
            let expected = json!({"target_portal": portal, "target_iqn": iqn, "target_lun": lun});
            assert_eq!(Value::Object(records.target.properties.reveal().clone()), expected, "{text}");
        }
        for text in [
            "",
            "iscsi:",
            "iscsi:a:b",
            "iscsi:192.0.2.2::3260:1",
            "iscsi:192.0.2.2::3260:x:iqn.2010-10.org:a",
        ] {
            assert_eq!(VolumeText::Target(text).parse(), Err(Refusal::TargetUri), "{text}");
        }
    }
}
