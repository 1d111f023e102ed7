//! [`DhcpEvent`]: a request of a network-boot client, as the ProxyDHCP server received it, or another server's reply to it.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::{DhcpAnswer, DhcpStep, cut_to_excerpt};

/// A request of a network-boot client with its answer, or the reply of another server. The event's address is the one that
/// the machine requests, has, or is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpEvent {
    /// The request or reply.
    pub step: DhcpStep,
    /// The name of the firmware, by its architecture.
    pub firmware: String,
    /// Whether iPXE sent the request.
    #[serde(default)]
    pub ipxe: bool,
    /// The answer; absent if the request was for another server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<DhcpAnswer>,
    /// The boot file in the answer or reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The server whose address the machine takes, or that sent the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Ipv4Addr>,
    /// The relay that forwarded the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<Ipv4Addr>,
    /// Whether replies of other servers to the request are observed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub watched: bool,
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
        let Self { step, firmware, ipxe, answer, file, server, relay, watched, node: _, name: _ } = self;
        (step, firmware, ipxe, answer) == (&other.step, &other.firmware, &other.ipxe, &other.answer)
            && (file, server, relay, watched) == (&other.file, &other.server, &other.relay, &other.watched)
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

#[allow(clippy::trivially_copy_pass_by_ref, reason = "signature required by serde's skip_serializing_if")]
fn is_false(flag: &bool) -> bool {
    !flag
}
