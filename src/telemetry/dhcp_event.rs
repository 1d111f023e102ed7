//! [`DhcpEvent`]: a request of a network-boot client, as the ProxyDHCP server received it.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::{DhcpAnswer, DhcpStep, cut_to_excerpt};

/// A request of a network-boot client, and its answer. The event's address is the one that the machine requests or has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpEvent {
    /// The request.
    pub step: DhcpStep,
    /// The name of the firmware, by its architecture.
    pub firmware: String,
    /// Whether iPXE sent the request.
    #[serde(default)]
    pub ipxe: bool,
    /// The answer; absent if the request was for another server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<DhcpAnswer>,
    /// The boot file in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The server whose address the machine takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Ipv4Addr>,
    /// The relay that forwarded the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<Ipv4Addr>,
    /// The node of the machine, if it was looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Uuid>,
    /// The name of the node at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl DhcpEvent {
    /// Whether both requests and their answers are the same, whatever the nodes.
    pub fn is_same_request(&self, other: &Self) -> bool {
        let Self { step, firmware, ipxe, answer, file, server, relay, node: _, name: _ } = self;
        (step, firmware, ipxe, answer) == (&other.step, &other.firmware, &other.ipxe, &other.answer)
            && (file, server, relay) == (&other.file, &other.server, &other.relay)
    }

    pub(super) fn cut_texts(&mut self) {
        cut_to_excerpt(&mut self.firmware);
        self.file.iter_mut().for_each(cut_to_excerpt);
    }

    /// Bytes of all texts.
    pub(super) fn texts_size(&self) -> usize {
        let texts = [&self.file, &self.name].into_iter().flatten().map(String::len);
        self.firmware.len() + texts.sum::<usize>()
    }
}
