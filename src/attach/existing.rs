//! Finds the attachment through which a node already has a volume, and that volboot did not create.
//!
//! | the attachment's server | its host | result |
//! |---|---|---|
//! | the node's `instance_uuid` | one of the node's names | borrowed from the Compute service |
//! | the node's `instance_uuid` | another one, or not shown | refused |
//! | the node's UUID | one of the node's names, or none | adopted: an Ironic made it, and gives Cinder no host |
//! | the node's UUID | another one, or a virtual machine's disk | refused |
//! | one of the two | the volume is reserved, or in transition | the machine waits |
//! | another one | | none of the node's |

use super::error::{AttachError, classify};
use super::monitored_cinder::MonitoredCinder;
use super::node_identity::NodeIdentity;
use crate::cinder::{CinderAttachment, CinderVolume, VolumeHolder};
use crate::model::{ConnectorProperties, Ownership};

/// What Cinder writes for a missing device name.
const NO_DEVICE: &str = "na";

/// An attachment of the node that another client created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExistingAttachment {
    /// The id in Cinder.
    pub(super) id: String,
    pub(super) ownership: Ownership,
    host: Option<String>,
    device: Option<String>,
}

impl ExistingAttachment {
    /// The connector for exports through the attachment: the node's, with the host and the device that Cinder has.
    pub(super) fn connector(&self, node: &ConnectorProperties) -> ConnectorProperties {
        ConnectorProperties {
            host: self.host.clone().unwrap_or_else(|| node.host.clone()),
            mountpoint: self.device.clone(),
            ..node.clone()
        }
    }
}

/// Asks Cinder for the volume if an attachment may be the node's, and finds that one. `listed` are the attachments of the
/// volume that volboot can see.
pub(super) async fn find_existing(
    cinder: &MonitoredCinder,
    identity: &NodeIdentity,
    volume: &str,
    listed: &[CinderAttachment],
) -> Result<Option<ExistingAttachment>, AttachError> {
    let is_of_node =
        |attachment: &CinderAttachment| identity.ownership_for(attachment.instance.as_deref()).is_some();
    // An instance may have the volume through an attachment that the list does not show.
    if identity.instance().is_none() && !listed.iter().any(is_of_node) {
        return Ok(None);
    }
    let details = cinder.volume(volume).await.map_err(|error| classify(volume, error))?;
    select_existing(identity, &details, listed)
}

/// Finds the attachment of the node among those of a volume. An error: one is for the node's instance, but unusable.
pub(super) fn select_existing(
    identity: &NodeIdentity,
    volume: &CinderVolume,
    listed: &[CinderAttachment],
) -> Result<Option<ExistingAttachment>, AttachError> {
    let mut refusal = None;
    for holder in &volume.attachments {
        let Some(ownership) = identity.ownership_for(holder.server_id.as_deref()) else { continue };
        match check_host(identity, &volume.id, holder, ownership) {
            Ok(()) => {
                let device = holder.device.clone().filter(|device| device != NO_DEVICE);
                let (id, host) = (holder.attachment_id.clone(), holder.host_name.clone());
                return Ok(Some(ExistingAttachment { id, ownership, host, device }));
            }
            Err(reason) => drop(refusal.get_or_insert(reason)),
        }
    }
    if let Some(reason) = refusal {
        return Err(AttachError::Refused(reason));
    }
    let is_attached = |id: &str| volume.attachments.iter().any(|holder| holder.attachment_id == id);
    match listed.iter().find(|listed| {
        !is_attached(&listed.id) && identity.ownership_for(listed.instance.as_deref()).is_some()
    }) {
        Some(attachment) => Err(explain_status(&volume.id, attachment)),
        None => Ok(None),
    }
}

/// Checks that the host of an attachment for the node's server is the node.
fn check_host(
    identity: &NodeIdentity,
    volume: &str,
    holder: &VolumeHolder,
    ownership: Ownership,
) -> Result<(), String> {
    let server = holder.server_id.as_deref().unwrap_or_default();
    match &holder.host_name {
        Some(host) if identity.has_host(host) => Ok(()),
        Some(host) => Err(format!(
            "volume {volume} is in use by server {server} on host \"{host}\", which is neither the node's UUID, nor one of \
             its ip connectors, nor the name or an address in its instance_info"
        )),
        None if ownership == Ownership::Adopted && !is_disk_of_server(holder) => Ok(()),
        None => Err(format!(
            "volume {volume} is in use by server {server}, whose host Cinder does not show: only a user with the role admin \
             in Cinder sees whether the host is this node"
        )),
    }
}

/// Whether the device name is one that Nova gives the disks of a server. Ironic writes `ironic_mountpoint`.
fn is_disk_of_server(holder: &VolumeHolder) -> bool {
    holder.device.as_deref().is_some_and(|device| device.starts_with("/dev/"))
}

/// Explains the status of an attachment for the node's server that is not complete.
fn explain_status(volume: &str, attachment: &CinderAttachment) -> AttachError {
    let CinderAttachment { status, instance, .. } = attachment;
    let server = instance.as_deref().unwrap_or_default();
    let state =
        format!("volume {volume} is in state \"{status}\", held by server {server} (this node's instance)");
    match status.as_str() {
        "reserved" | "attaching" => {
            AttachError::Transient(format!("{state}: the Compute service has not attached it yet"))
        }
        "detaching" => AttachError::Transient(state),
        _ => AttachError::Refused(state),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::model::{Node, StorageInterface, VolumeConnector};

    const NODE: Uuid = Uuid::from_u128(1);
    const INSTANCE: Uuid = Uuid::from_u128(2);
    const ANOTHER: Uuid = Uuid::from_u128(3);

    fn identity() -> NodeIdentity {
        let node = Node::new(NODE, "fake-hardware", StorageInterface::Cinder, Timestamp::UNIX_EPOCH);
        let node = Node {
            instance_uuid: Some(INSTANCE),
            instance_info: serde_json::from_value(json!({"display_name": "Web 1"})).expect("an object"),
            ..node
        };
        NodeIdentity::of(&node, &[VolumeConnector::new(NODE, NODE, "ip", "192.0.2.9", Timestamp::UNIX_EPOCH)])
    }

    fn holder(id: &str, server: Uuid, host: Option<&str>, device: Option<&str>) -> Value {
        json!({"attachment_id": id, "server_id": server, "host_name": host, "device": device})
    }

    fn select(
        holders: &[Value],
        listed: &[(&str, Uuid, &str)],
    ) -> Result<Option<ExistingAttachment>, AttachError> {
        let volume = json!({"id": "root", "status": "in-use", "attachments": holders});
        let listed: Vec<CinderAttachment> = listed
            .iter()
            .map(|(id, server, status)| {
                let attachment = json!({"id": id, "status": status, "instance": server});
                serde_json::from_value(attachment).expect("an attachment")
            })
            .collect();
        select_existing(&identity(), &serde_json::from_value(volume).expect("a volume"), &listed)
    }

    fn found(id: &str, ownership: Ownership, host: Option<&str>, device: Option<&str>) -> ExistingAttachment {
        let (host, device) = (host.map(str::to_owned), device.map(str::to_owned));
        ExistingAttachment { id: id.into(), ownership, host, device }
    }

    #[test]
    fn the_server_and_the_host_decide() {
        let borrowed = Ownership::Borrowed(INSTANCE);
        let node = NODE.to_string();
        for host in [&node[..], "192.0.2.9", "web-1"] {
            let expected = found("a", borrowed, Some(host), Some("/dev/sda"));
            let holders = [holder("a", INSTANCE, Some(host), Some("/dev/sda"))];
            assert_eq!(select(&holders, &[]), Ok(Some(expected)), "{host}");
        }
        let expected = found("a", borrowed, Some("192.0.2.9"), None);
        assert_eq!(select(&[holder("a", INSTANCE, Some("192.0.2.9"), Some("na"))], &[]), Ok(Some(expected)));

        let elsewhere = AttachError::Refused(format!(
            "volume root is in use by server {INSTANCE} on host \"compute-1\", which is neither the node's UUID, nor one of \
             its ip connectors, nor the name or an address in its instance_info"
        ));
        assert_eq!(
            select(&[holder("a", INSTANCE, Some("compute-1"), Some("/dev/vda"))], &[]),
            Err(elsewhere)
        );
        let hidden = |server| {
            AttachError::Refused(format!(
                "volume root is in use by server {server}, whose host Cinder does not show: only a user with the role \
                 admin in Cinder sees whether the host is this node"
            ))
        };
        assert_eq!(select(&[holder("a", INSTANCE, None, Some("/dev/sda"))], &[]), Err(hidden(INSTANCE)));

        assert_eq!(select(&[holder("a", ANOTHER, Some("192.0.2.9"), None)], &[]), Ok(None));
        assert_eq!(select(&[], &[]), Ok(None));
        // A volume may have several holders.
        let holders =
            [holder("a", ANOTHER, Some("compute-1"), None), holder("b", INSTANCE, Some("web-1"), None)];
        assert_eq!(select(&holders, &[]), Ok(Some(found("b", borrowed, Some("web-1"), None))));
    }

    #[test]
    fn an_attachment_of_an_ironic_needs_no_host() {
        for device in [Some("ironic_mountpoint"), Some("na"), None] {
            let expected = found("a", Ownership::Adopted, None, device.filter(|device| *device != "na"));
            assert_eq!(select(&[holder("a", NODE, None, device)], &[]), Ok(Some(expected)), "{device:?}");
        }
        let node = NODE.to_string();
        let expected = found("a", Ownership::Adopted, Some(&node), None);
        assert_eq!(select(&[holder("a", NODE, Some(&node), None)], &[]), Ok(Some(expected)));
        for (host, device) in [(Some("compute-1"), None), (None, Some("/dev/vda"))] {
            let result = select(&[holder("a", NODE, host, device)], &[]);
            assert!(matches!(result, Err(AttachError::Refused(_))), "{result:?}");
        }
    }

    #[test]
    fn an_attachment_that_is_not_complete_makes_the_machine_wait() {
        let state = |status| {
            format!("volume root is in state \"{status}\", held by server {INSTANCE} (this node's instance)")
        };
        for status in ["reserved", "attaching"] {
            let reason = format!("{}: the Compute service has not attached it yet", state(status));
            assert_eq!(select(&[], &[("a", INSTANCE, status)]), Err(AttachError::Transient(reason)));
        }
        assert_eq!(
            select(&[], &[("a", INSTANCE, "detaching")]),
            Err(AttachError::Transient(state("detaching")))
        );
        let refused = AttachError::Refused(state("error_attaching"));
        assert_eq!(select(&[], &[("a", INSTANCE, "error_attaching")]), Err(refused));
        assert_eq!(select(&[], &[("a", ANOTHER, "reserved")]), Ok(None));
        // The list shows the complete attachment too.
        let holders = [holder("a", INSTANCE, Some("web-1"), None)];
        let result = select(&holders, &[("b", INSTANCE, "reserved"), ("a", INSTANCE, "attached")]);
        assert_eq!(result.expect("usable").map(|found| found.id).as_deref(), Some("a"));
    }

    #[test]
    fn the_connector_keeps_host_and_device() {
        let node = ConnectorProperties {
            initiator: "iqn.2017-08.org.openstack.web-1".into(),
            host: NODE.to_string(),
            ip: Some("192.0.2.9".into()),
            multipath: true,
            mountpoint: None,
        };
        let attachment = found("a", Ownership::Borrowed(INSTANCE), Some("web-1"), Some("/dev/sda"));
        let expected =
            ConnectorProperties { host: "web-1".into(), mountpoint: Some("/dev/sda".into()), ..node.clone() };
        assert_eq!(attachment.connector(&node), expected);
        assert_eq!(found("a", Ownership::Adopted, None, None).connector(&node), node);
    }
}
