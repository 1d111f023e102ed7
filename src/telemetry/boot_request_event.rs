//! [`BootRequestEvent`]: a boot request with its answer, as an event.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::sentence::cut_sentence;
use crate::model::{BootOutcome, Mac, Platform, SourceKind, excerpt};

/// A boot request and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRequestEvent {
    /// Number of the try, from 1.
    pub attempt: u32,
    /// Permitted tries in a boot session.
    pub tries: u32,
    /// All MAC addresses that the requester sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<Mac>,
    /// Firmware as reported by the requester.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "Platform::deserialize_known"
    )]
    pub platform: Option<Platform>,
    /// iPXE's build architecture as reported by the requester.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// System UUID as reported by the requester.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// Bytes of the machine's host name as reported by the requester.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name_bytes: Option<usize>,
    /// The identified node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Uuid>,
    /// Name of the node at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Boot session id; absent if the requester did not start with `/boot.ipxe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journey: Option<String>,
    /// Resolution of each volume.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolutions: Vec<ResolutionEvent>,
    /// Volume ids of the steps `hook-0`, `hook-1`, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<String>,
    /// Portals that the boot script tries last, and paths and volumes that it had to omit from the hooks or the iBFT, as
    /// sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Outcome of the request.
    pub outcome: BootOutcome,
    /// Reason of every outcome except `boot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the machine could boot, but waits because of a boot loop.
    #[serde(default, skip_serializing_if = "is_false")]
    pub held: bool,
    /// Source of the one-time boot, if this request got one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<String>,
    /// The node's card that the neighbour table showed for the requester.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached_card: Option<Mac>,
    /// The MAC address that the requester claimed, against its place in the network. The event belongs to the
    /// requester, and shows nothing of the machine with this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_mac: Option<Mac>,
    /// Response time in microseconds.
    #[serde(default)]
    pub duration_us: u64,
}

/// The resolution of one volume to its connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolutionEvent {
    /// Volume id.
    pub volume: String,
    /// Source of the connection.
    pub source: SourceKind,
    /// Duration in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
    /// Error of the Cinder call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Server of the attachment, if another client created it for the node's instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Uuid>,
}

impl BootRequestEvent {
    pub(super) fn cut_texts(&mut self) {
        for word in [&mut self.arch, &mut self.journey] {
            *word = word.as_deref().map(excerpt);
        }
        let errors = self.resolutions.iter_mut().filter_map(|resolution| resolution.error.as_mut());
        errors.chain(&mut self.reason).chain(&mut self.once).chain(&mut self.warnings).for_each(cut_sentence);
    }

    /// Bytes of all texts and lists.
    pub(super) fn texts_size(&self) -> usize {
        let words = [&self.arch, &self.name, &self.journey, &self.reason, &self.once].into_iter().flatten();
        let words = words.chain(&self.hooks).chain(&self.warnings).map(String::len);
        let resolutions = self.resolutions.iter().map(|resolution| {
            size_of::<ResolutionEvent>()
                + resolution.volume.len()
                + resolution.error.as_ref().map_or(0, String::len)
        });
        size_of::<Self>()
            + size_of_val(self.macs.as_slice())
            + words.sum::<usize>()
            + resolutions.sum::<usize>()
    }

    /// A copy with all durations zero, for comparison.
    pub(super) fn without_durations(&self) -> Self {
        let mut copy = Self { duration_us: 0, ..self.clone() };
        copy.resolutions.iter_mut().for_each(|resolution| resolution.duration_ms = 0);
        copy
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "signature required by serde's skip_serializing_if")]
fn is_false(flag: &bool) -> bool {
    !flag
}
