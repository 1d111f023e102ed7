//! [`DhcpStep`] and [`DhcpAnswer`]: the requests of network-boot clients, the replies of other servers, and volboot's answers,
//! for events and metrics.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A request of a network-boot client, or the reply of another server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DhcpStep {
    /// DHCPDISCOVER: an address and a boot file are needed.
    Discover,
    /// DHCPREQUEST: an address of the site's server is taken.
    Request,
    /// A request to the boot server, at port 4011.
    BootServer,
    /// DHCPOFFER of another server, with an address.
    Offer,
    /// DHCPOFFER of another ProxyDHCP server.
    ProxyOffer,
    /// DHCPACK of another server: the address is the machine's.
    Ack,
    /// DHCPNAK of another server: the machine cannot have the address.
    Nak,
    /// A word of another version of volboot, read from the history.
    #[serde(untagged)]
    Other(String),
}

/// The answer to a request of a network-boot client, or the reason why it got none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DhcpAnswer {
    /// A boot file was named.
    Sent,
    /// No node has a port with the MAC address, and `[dhcp] unknown` is `ignore`.
    UnknownMachine,
    /// The node's property `netboot` is false.
    NetbootOff,
    /// The port of the node has `pxe_enabled` false.
    PortDisabled,
    /// There is no boot file for the architecture.
    NoFile,
    /// volboot's host lacks the iPXE binary.
    MissingImage,
    /// The relay is not in `[dhcp] relays`.
    RelayNotNamed,
    /// The machine, or all together, sent too many requests.
    RateLimited,
    /// The store did not tell whether the machine has a node.
    StoreUnavailable,
    /// The answer could not be sent.
    Failed,
    /// A word of another version of volboot, read from the history.
    #[serde(untagged)]
    Other(String),
}

impl DhcpStep {
    /// Whether another server sent the message, not the machine.
    pub const fn is_reply(&self) -> bool {
        matches!(self, Self::Offer | Self::ProxyOffer | Self::Ack | Self::Nak)
    }

    /// The word for logs and events.
    pub fn as_str(&self) -> &str {
        if let Self::Other(word) = self { word } else { self.as_label() }
    }

    /// The label for metrics: a closed set.
    pub const fn as_label(&self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Request => "request",
            Self::BootServer => "boot_server",
            Self::Offer => "offer",
            Self::ProxyOffer => "proxy_offer",
            Self::Ack => "ack",
            Self::Nak => "nak",
            Self::Other(_) => "other",
        }
    }
}

impl DhcpAnswer {
    /// The word for logs and events.
    pub fn as_str(&self) -> &str {
        if let Self::Other(word) = self { word } else { self.as_label() }
    }

    /// The label for metrics: a closed set.
    pub const fn as_label(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::UnknownMachine => "unknown_machine",
            Self::NetbootOff => "netboot_off",
            Self::PortDisabled => "port_disabled",
            Self::NoFile => "no_file",
            Self::MissingImage => "missing_image",
            Self::RelayNotNamed => "relay_not_named",
            Self::RateLimited => "rate_limited",
            Self::StoreUnavailable => "store_unavailable",
            Self::Failed => "failed",
            Self::Other(_) => "other",
        }
    }
}

/// The name of a firmware, by its architecture in DHCP option 93 (IANA, "Processor Architecture Types").
pub fn name_architecture(code: Option<u16>) -> Cow<'static, str> {
    let name = match code {
        None => "firmware without an architecture",
        Some(0) => "BIOS",
        Some(6) => "UEFI x86",
        Some(7 | 9) => "UEFI x86_64",
        Some(10) => "UEFI arm",
        Some(11) => "UEFI arm64",
        Some(15) => "UEFI x86, HTTP boot",
        Some(16) => "UEFI x86_64, HTTP boot",
        Some(18) => "UEFI arm, HTTP boot",
        Some(19) => "UEFI arm64, HTTP boot",
        Some(20) => "BIOS, HTTP boot",
        Some(22) => "U-Boot arm64",
        Some(27) => "UEFI riscv64",
        Some(28) => "UEFI riscv64, HTTP boot",
        Some(code) => return Cow::Owned(format!("architecture {code}")),
    };
    Cow::Borrowed(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_serialized_as_labelled_and_others_are_kept() {
        use DhcpAnswer::{
            Failed, MissingImage, NetbootOff, NoFile, PortDisabled, RateLimited, RelayNotNamed, Sent,
            StoreUnavailable, UnknownMachine,
        };
        use DhcpStep::{Ack, BootServer, Discover, Nak, Offer, ProxyOffer, Request};
        for answer in [
            Sent,
            UnknownMachine,
            NetbootOff,
            PortDisabled,
            NoFile,
            MissingImage,
            RelayNotNamed,
            RateLimited,
            StoreUnavailable,
            Failed,
        ] {
            let value = serde_json::to_value(&answer).expect("serializes");
            assert_eq!((value.as_str(), answer.as_str()), (Some(answer.as_label()), answer.as_label()));
            assert_eq!(serde_json::from_value::<DhcpAnswer>(value).expect("deserializes"), answer);
        }
        for step in [Discover, Request, BootServer, Offer, ProxyOffer, Ack, Nak] {
            let value = serde_json::to_value(&step).expect("serializes");
            assert_eq!(value.as_str(), Some(step.as_label()));
        }
        let other: DhcpAnswer = serde_json::from_str("\"frobnicated\"").expect("deserializes");
        assert_eq!((other.as_str(), other.as_label()), ("frobnicated", "other"));
        let other: DhcpStep = serde_json::from_str("\"frobnicated\"").expect("deserializes");
        assert_eq!(other.as_label(), "other");
    }

    #[test]
    fn architectures_have_names() {
        assert_eq!(name_architecture(Some(9)), "UEFI x86_64");
        assert_eq!(name_architecture(Some(35)), "architecture 35");
        assert_eq!(name_architecture(None), "firmware without an architecture");
    }
}
