//! [`MachineOffers`]: the policy of the ProxyDHCP server. It finds the machine's node, and the boot file for its firmware.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use uuid::Uuid;

use super::boot_url::BootUrl;
use super::known_ports::KnownPorts;
use super::node_cache::{FoundNode, NodeCache};
use crate::config::{DhcpConfig, UnknownMachines};
use crate::dhcp::{BootPolicy, NamedFile, NetbootClient};
use crate::images::{BootClient, BootFile, DhcpBootFile, Images, Transport, choose_boot_file};
use crate::model::{DhcpAnswer, Mac, Node, Port};
use crate::store::{Inventory, StoreError};

/// The facts of a decision, for the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OfferNote {
    /// The reason for no file.
    pub(super) refusal: Option<DhcpAnswer>,
    /// The node of the machine, and its name.
    pub(super) node: Option<(Uuid, Option<String>)>,
}

/// The boot files of machines, as one configuration defines them.
#[derive(Debug, Clone)]
pub(super) struct MachineOffers {
    pub(super) inventory: Inventory,
    pub(super) known_ports: KnownPorts,
    pub(super) nodes: NodeCache,
    pub(super) images: Images,
    pub(super) config: DhcpConfig,
    pub(super) boot_url: BootUrl,
    /// The addresses of the TFTP server.
    pub(super) tftp: Vec<SocketAddr>,
}

impl BootPolicy for MachineOffers {
    type Note = OfferNote;

    fn serves_interface(&self, name: &str) -> bool {
        self.config.interfaces.iter().any(|interface| interface == name)
    }

    fn serves_relay(&self, relay: Ipv4Addr) -> bool {
        self.config.relays.contains(&relay)
    }

    async fn decide(&self, client: &NetbootClient) -> (Option<NamedFile>, OfferNote) {
        let mac = Mac::new(client.mac);
        let (node, refusal) = if self.known_ports.lacks(&self.inventory, mac) {
            (None, self.refuse_unknown())
        } else {
            self.look_up(mac).await
        };
        let file = match refusal {
            Some(refusal) => Err(refusal),
            None => self.choose_file(client),
        };
        match file {
            Ok(file) => (Some(file), OfferNote { refusal: None, node }),
            Err(refusal) => (None, OfferNote { refusal: Some(refusal), node }),
        }
    }
}

impl MachineOffers {
    /// The node of a network card, from the cache or the store.
    async fn look_up(&self, mac: Mac) -> FoundNode {
        let now = Instant::now();
        let revision = match self.nodes.find(&self.inventory, mac, now) {
            Ok(found) => return found,
            Err(revision) => revision,
        };
        match self.find_node(mac).await {
            Ok((node, refusal)) => {
                let found = (node.map(|node| (node.uuid, node.name)), refusal);
                self.nodes.insert(mac, found.clone(), revision, now);
                found
            }
            Err(error) => {
                tracing::debug!(error = %error, "cannot look up the node of a DHCP request");
                (None, Some(DhcpAnswer::StoreUnavailable))
            }
        }
    }

    /// The node of a network card, and the reason why its machine gets no answer.
    async fn find_node(&self, mac: Mac) -> Result<(Option<Node>, Option<DhcpAnswer>), StoreError> {
        let ports = self.inventory.find_ports(&[mac]).await?;
        let mut found: Option<(Port, Node)> = None;
        for port in ports {
            // A port with `pxe_enabled` decides, as for a boot.
            if let Some(node) = self.inventory.get::<Node>(port.node_uuid).await?
                && (found.is_none() || port.pxe_enabled)
            {
                found = Some((port, node.value));
            }
        }
        let refusal = match &found {
            None => self.refuse_unknown(),
            Some((_, node)) if !node.allows_netboot() => Some(DhcpAnswer::NetbootOff),
            Some((port, _)) if !port.pxe_enabled => Some(DhcpAnswer::PortDisabled),
            Some(_) => None,
        };
        Ok((found.map(|(_, node)| node), refusal))
    }

    /// The reason why a machine without a node gets no answer.
    fn refuse_unknown(&self) -> Option<DhcpAnswer> {
        (self.config.unknown == UnknownMachines::Ignore).then_some(DhcpAnswer::UnknownMachine)
    }

    /// The file for the client's firmware.
    fn choose_file(&self, client: &NetbootClient) -> Result<NamedFile, DhcpAnswer> {
        let file = choose_boot_file(&BootClient {
            architectures: &client.architectures,
            vendor_class: Some(&client.vendor_class),
            ipxe: client.ipxe.as_deref(),
        });
        // The vendor class and the architecture must name the same transport.
        let is_usable = |file: &DhcpBootFile| match file {
            DhcpBootFile::Image(row) => (row.transport == Transport::Http) == client.is_http_boot(),
            DhcpBootFile::Script | DhcpBootFile::CompleteIpxe { .. } => !client.is_http_boot(),
        };
        let file = file.filter(is_usable).ok_or(DhcpAnswer::NoFile)?;
        let path = file.to_string();
        let is_missing = match BootFile::from_path(path.as_bytes()) {
            Some(BootFile::Image(image)) => self.images.get(image).is_none(),
            Some(BootFile::BootScript | BootFile::Autoexec) => false,
            None => true,
        };
        if is_missing {
            return Err(DhcpAnswer::MissingImage);
        }
        let name = match file.transport() {
            Transport::Tftp => path,
            Transport::Http => {
                let base = self.boot_url.build(Some(client.local_ip.into())).ok_or(DhcpAnswer::Failed)?;
                base + &path
            }
        };
        Ok(NamedFile { name, server: self.tftp_server(client.local_ip) })
    }

    /// The TFTP server's address for a machine on the side of `local_ip`.
    fn tftp_server(&self, local_ip: Ipv4Addr) -> Ipv4Addr {
        let bound = self.tftp.iter().filter_map(|address| match address.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        let is_reachable = bound.clone().any(|ip| ip.is_unspecified() || ip == local_ip);
        if is_reachable { local_ip } else { bound.clone().next().unwrap_or(local_ip) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::config::Config;
    use crate::model::{StorageInterface, VolumeConnector, VolumeTarget};
    use crate::store::{Enrollment, MemoryStore};

    const KNOWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// Offers with one node, whose port has the address [`KNOWN`].
    async fn offers(keys: &str, properties: serde_json::Value, pxe_enabled: bool) -> MachineOffers {
        let text =
            format!("[dhcp]\nmode = \"proxy\"\ninterfaces = [\"eth0\"]\nrelays = [\"10.1.0.1\"]\n{keys}");
        let config = Config::parse(&text).expect("is valid").dhcp;
        let inventory = Inventory::new(Arc::new(MemoryStore::default()));
        let now = Timestamp::UNIX_EPOCH;
        let mut node = Node::new(Uuid::new_v4(), "fake-hardware", StorageInterface::External, now);
        node.name = Some("web-1".into());
        node.properties = serde_json::from_value(properties).expect("an object");
        let mut port = Port::new(Uuid::new_v4(), node.uuid, Mac::new(KNOWN), now);
        port.pxe_enabled = pxe_enabled;
        let connector =
            VolumeConnector::new(Uuid::new_v4(), node.uuid, "iqn", "iqn.2017-08.org.example:a", now);
        let target = VolumeTarget::new(Uuid::new_v4(), node.uuid, 0, "root", now);
        inventory.enroll(&Enrollment { node, port, connector, target }).await.expect("enrolls");
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("undionly.kpxe"), "iPXE").expect("writes");
        std::fs::write(directory.path().join("snponly.efi"), "iPXE").expect("writes");
        MachineOffers {
            inventory,
            known_ports: KnownPorts::default(),
            nodes: NodeCache::default(),
            images: Images::find_blocking(&[directory.path().into()]),
            config,
            boot_url: BootUrl::new(None, "0.0.0.0:8080".parse().expect("an address")),
            tftp: vec!["0.0.0.0:69".parse().expect("an address")],
        }
    }

    fn client(mac: [u8; 6], class: &str, architecture: u16, ipxe: Option<&[u8]>) -> NetbootClient {
        NetbootClient {
            mac,
            architectures: vec![architecture],
            vendor_class: class.into(),
            ipxe: ipxe.map(Into::into),
            relay: None,
            local_ip: Ipv4Addr::new(192, 0, 2, 1),
        }
    }

    async fn decide(offers: &MachineOffers, client: NetbootClient) -> Result<String, DhcpAnswer> {
        let (file, note) = offers.decide(&client).await;
        assert_eq!(file.is_none(), note.refusal.is_some());
        file.map(|file| file.name).ok_or_else(|| note.refusal.expect("a reason"))
    }

    #[tokio::test]
    async fn nodes_get_the_file_of_their_firmware() {
        let offers = offers("", json!({}), true).await;
        let complete: &[u8] = &[17, 19];
        let script = "http://192.0.2.1:8080/boot.ipxe";
        for (class, architecture, ipxe, expected) in [
            ("PXEClient", 0, None, Ok("undionly.kpxe")),
            ("PXEClient", 7, None, Ok("snponly.efi")),
            ("HTTPClient", 16, None, Ok("http://192.0.2.1:8080/images/snponly.efi")),
            ("PXEClient", 0, Some(complete), Ok(script)),
            ("PXEClient", 0, Some(&[17][..]), Ok("without-http/undionly.kpxe")),
            ("PXEClient", 11, None, Err(DhcpAnswer::MissingImage)),
            ("PXEClient", 11, Some(complete), Ok(script)),
            ("PXEClient", 6, None, Err(DhcpAnswer::NoFile)),
            // HTTP boot of one field, PXE of the other.
            ("PXEClient", 16, None, Err(DhcpAnswer::NoFile)),
            ("HTTPClient", 7, None, Err(DhcpAnswer::NoFile)),
        ] {
            let decision = decide(&offers, client(KNOWN, class, architecture, ipxe)).await;
            assert_eq!(decision, expected.map(str::to_owned), "{class} {architecture} {ipxe:?}");
        }
        let (_, note) = offers.decide(&client(KNOWN, "PXEClient", 0, None)).await;
        assert_eq!(note.node.expect("a node").1.as_deref(), Some("web-1"));
    }

    #[tokio::test]
    async fn machines_without_a_node_are_answered_only_on_request() {
        let stranger = || client([2, 0, 0, 0, 0, 9], "PXEClient", 0, None);
        let cautious = offers("", json!({}), true).await;
        assert_eq!(decide(&cautious, stranger()).await, Err(DhcpAnswer::UnknownMachine));
        let open = offers("unknown = \"answer\"", json!({}), true).await;
        assert_eq!(decide(&open, stranger()).await.as_deref(), Ok("undionly.kpxe"));
    }

    #[tokio::test]
    async fn known_addresses_of_ports_change_no_decision() {
        for (keys, expected) in [("", Err(DhcpAnswer::UnknownMachine)), ("unknown = \"answer\"", Ok(()))] {
            let offers = offers(keys, json!({}), true).await;
            let (stranger, inventory) = ([2, 0, 0, 0, 0, 9], offers.inventory.clone());
            let follower = tokio::spawn(offers.known_ports.clone().follow(inventory.clone()));
            while !offers.known_ports.lacks(&inventory, Mac::new(stranger)) {
                tokio::task::yield_now().await;
            }
            let decision = decide(&offers, client(stranger, "PXEClient", 0, None)).await;
            assert_eq!(decision.map(|_| ()), expected);
            follower.abort();
            let known = decide(&offers, client(KNOWN, "PXEClient", 0, None)).await;
            assert_eq!(known.as_deref(), Ok("undionly.kpxe"));
        }
    }

    #[tokio::test]
    async fn nodes_can_be_left_out() {
        for (properties, pxe_enabled, expected) in [
            (json!({"netboot": false}), true, Err(DhcpAnswer::NetbootOff)),
            (json!({"netboot": "False"}), true, Err(DhcpAnswer::NetbootOff)),
            (json!({"netboot": true}), true, Ok("undionly.kpxe".to_owned())),
            (json!({"netboot": null}), true, Ok("undionly.kpxe".to_owned())),
            (json!({}), false, Err(DhcpAnswer::PortDisabled)),
        ] {
            for unknown in ["ignore", "answer"] {
                let keys = format!("unknown = \"{unknown}\"");
                let offers = offers(&keys, properties.clone(), pxe_enabled).await;
                let decision = decide(&offers, client(KNOWN, "PXEClient", 0, None)).await;
                assert_eq!(decision, expected, "{properties} {pxe_enabled}");
            }
        }
    }

    #[tokio::test]
    async fn addresses_are_those_that_the_machine_reaches() {
        let mut offers = offers("", json!({}), true).await;
        let local_ip = Ipv4Addr::new(192, 0, 2, 1);
        for (listen, server) in [
            (&["0.0.0.0:69"][..], "192.0.2.1"),
            (&["[::]:69", "192.0.2.1:69"], "192.0.2.1"),
            (&["10.0.0.5:69"], "10.0.0.5"),
        ] {
            offers.tftp = listen.iter().map(|address| address.parse().expect("an address")).collect();
            assert_eq!(offers.tftp_server(local_ip).to_string(), server, "{listen:?}");
        }
        offers.boot_url = BootUrl::new(Some("https://boot.example.org".into()), offers.tftp[0]);
        let decision = decide(&offers, client(KNOWN, "HTTPClient", 16, None)).await;
        assert_eq!(decision.as_deref(), Ok("https://boot.example.org/images/snponly.efi"));
        assert!(offers.serves_interface("eth0") && !offers.serves_interface("docker0"));
        assert!(offers.serves_relay(Ipv4Addr::new(10, 1, 0, 1)) && !offers.serves_relay(local_ip));
    }
}
