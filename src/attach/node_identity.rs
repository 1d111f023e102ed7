//! [`NodeIdentity`]: the names by which Cinder knows a node, and whether an attachment's server and host are the node's.
//!
//! A server id alone proves nothing: `instance_uuid` is a free field of the API, and may name a virtual machine. Its
//! volume, booted by a bare machine too, would have two writers. The host name of the attachment tells them apart:
//!
//! * volboot and Ironic send the node's UUID.
//! * Nova sends the node's `ip` connector, else the instance's address, else the instance's host name. For a virtual
//!   machine it sends the name of the compute host.

use std::net::IpAddr;

use uuid::Uuid;

use crate::model::{Node, Ownership, VolumeConnector};

/// The longest host name of an instance (Nova's `sanitize_hostname`).
const MAX_HOST_NAME: usize = 63;

/// The node's UUID, its instance, and the host names of attachments that are the node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeIdentity {
    node: Uuid,
    instance: Option<Uuid>,
    hosts: Vec<String>,
}

impl NodeIdentity {
    pub(super) fn of(node: &Node, connectors: &[VolumeConnector]) -> Self {
        let addresses = connectors.iter().filter(|connector| connector.kind == "ip");
        let addresses = addresses.map(|connector| connector.connector_id.clone());
        let mut hosts: Vec<_> = std::iter::once(node.uuid.to_string()).chain(addresses).collect();
        // The fields of `instance_info` that Nova's driver sets (`nova/virt/ironic/patcher.py`).
        if let Some(name) = node.instance_info.text("display_name") {
            hosts.extend([name.to_owned(), to_host_name(name)]);
        }
        if let Some(addresses) = node.instance_info.text("fixed_ips") {
            hosts.extend(find_addresses(addresses));
        }
        hosts.retain(|host| !host.is_empty());
        Self { node: node.uuid, instance: node.instance_uuid, hosts }
    }

    pub(super) fn node(&self) -> Uuid {
        self.node
    }

    /// The node's instance.
    pub(super) fn instance(&self) -> Option<Uuid> {
        self.instance
    }

    /// The ownership of an attachment for this server; `None` if the server is another one.
    pub(super) fn ownership_for(&self, server: Option<&str>) -> Option<Ownership> {
        let server: Uuid = server?.parse().ok()?;
        if server == self.node {
            Some(Ownership::Adopted)
        } else {
            (self.instance == Some(server)).then_some(Ownership::Borrowed(server))
        }
    }

    /// Whether the host name of an attachment is the node's.
    pub(super) fn has_host(&self, host: &str) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        self.hosts.iter().any(|own| {
            own.eq_ignore_ascii_case(host) || (address.is_some() && own.parse::<IpAddr>().ok() == address)
        })
    }
}

/// The host name that Nova derives from the display name of an instance.
fn to_host_name(name: &str) -> String {
    let latin = name.chars().filter(|c| u32::from(*c) <= 0xff).take(MAX_HOST_NAME);
    let dashed = latin.map(|c| if matches!(c, ' ' | '_' | '.') { '-' } else { c });
    let kept: String = dashed.filter(|c| c.is_alphanumeric() || *c == '-').collect();
    kept.to_lowercase().trim_matches('-').to_owned()
}

/// The addresses in `fixed_ips`, which Nova writes as the text of a Python list.
fn find_addresses(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'));
    words.filter_map(|word| word.parse::<IpAddr>().ok()).map(|address| address.to_string())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::model::StorageInterface;

    const NODE: Uuid = Uuid::from_u128(1);
    const INSTANCE: Uuid = Uuid::from_u128(2);

    fn identity(instance_info: serde_json::Value, connectors: &[(&str, &str)]) -> NodeIdentity {
        let node = Node::new(NODE, "fake-hardware", StorageInterface::Cinder, Timestamp::UNIX_EPOCH);
        let node = Node {
            instance_uuid: Some(INSTANCE),
            instance_info: serde_json::from_value(instance_info).expect("an object"),
            ..node
        };
        let connectors: Vec<_> = connectors
            .iter()
            .map(|(kind, id)| VolumeConnector::new(NODE, NODE, kind, id, Timestamp::UNIX_EPOCH))
            .collect();
        NodeIdentity::of(&node, &connectors)
    }

    #[test]
    fn the_server_is_the_nodes_instance_or_the_node() {
        let identity = identity(json!({}), &[]);
        let of = |server: &str| identity.ownership_for(Some(server));
        assert_eq!(of(&INSTANCE.to_string()), Some(Ownership::Borrowed(INSTANCE)));
        assert_eq!(of(&INSTANCE.simple().to_string()), Some(Ownership::Borrowed(INSTANCE)));
        assert_eq!(of(&NODE.to_string()), Some(Ownership::Adopted));
        assert_eq!(of(&Uuid::from_u128(3).to_string()), None);
        assert_eq!(of("server-7"), None);
        assert_eq!(identity.ownership_for(None), None);
        let without_instance = NodeIdentity { instance: None, ..identity };
        assert_eq!(without_instance.ownership_for(Some(&INSTANCE.to_string())), None);
    }

    #[test]
    fn the_host_is_one_of_the_nodes_names() {
        let fixed_ips = "[FixedIP({'address': '10.0.0.5', 'type': 'fixed', 'version': 4, 'meta': {}}), \
                         {'address': 'fd00::5', 'version': 6}]";
        let info =
            json!({"display_name": "Web 1 (blue)", "fixed_ips": fixed_ips, "nova_host_id": "compute-1"});
        let connectors =
            [("ip", "192.0.2.9"), ("iqn", "iqn.2017-08.org.openstack.web-1"), ("mac", "52:54:00:00:00:01")];
        let identity = identity(info, &connectors);
        for host in [
            &NODE.to_string()[..],
            "192.0.2.9",
            "10.0.0.5",
            "fd00::5",
            "FD00:0::5",
            "web-1-blue",
            "Web 1 (blue)",
        ] {
            assert!(identity.has_host(host), "{host}");
        }
        for host in [
            "compute-1",
            "",
            "web-1",
            "10.0.0.50",
            "4",
            "iqn.2017-08.org.openstack.web-1",
            "52:54:00:00:00:01",
        ] {
            assert!(!identity.has_host(host), "{host}");
        }
    }

    #[test]
    fn a_node_without_a_name_has_no_empty_host() {
        assert!(!identity(json!({"display_name": ""}), &[("ip", "")]).has_host(""));
        assert!(!identity(json!({"display_name": "(((", "fixed_ips": "[]"}), &[]).has_host(""));
    }

    #[test]
    fn host_names_are_sanitized_as_in_nova() {
        for (name, host) in [
            ("web-1", "web-1"),
            ("Web_1.example org", "web-1-example-org"),
            ("-.db!.-", "db"),
            ("größe", "größe"),
            ("数据", ""),
        ] {
            assert_eq!(to_host_name(name), host, "{name}");
        }
        assert_eq!(to_host_name(&"a".repeat(70)), "a".repeat(63));
    }
}
