//! [`Event`]: an observation about one machine, as plain data.
//!
//! The TFTP server and the boot listener create events. The timeline groups events by machine, stores them and sends
//! them to subscribers. Events are serialized. An unknown word of another version stays readable: the enums of
//! [`crate::model`] keep it as `Other`, and an unknown platform reads as none. Events hold no secrets.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Metrics;
use super::boot_request_event::BootRequestEvent;
use super::dhcp_event::DhcpEvent;
use super::sentence::cut_sentence;
use crate::model::{BootStep, InstanceName, Mac, TransferOutcome, excerpt};

/// Bytes of an event beside its texts, in memory and in the history.
const BASE_SIZE: usize = 256;

/// An observation about one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Time of the first occurrence; of the last one, if a DHCP request stands for many in a row.
    pub at: Timestamp,
    /// Occurrences within a second, or DHCP requests in a row.
    #[serde(default = "default_count", skip_serializing_if = "is_single")]
    pub count: u32,
    /// MAC address of the sending network card, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Source IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The instance that observed it, if several share a store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceName>,
    /// Kind and details.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The kinds of events, with their details.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    /// A network-boot client sent a DHCP request, or another server replied to it.
    Dhcp(DhcpEvent),
    /// A TFTP transfer to firmware or iPXE has ended.
    TftpTransfer(TftpTransfer),
    /// Firmware requested a file over HTTP. Delivery is not observed.
    HttpFetch {
        /// File name.
        file: String,
        /// Size in bytes; absent if there is no such file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
    },
    /// iPXE read `/boot.ipxe`: a boot session starts.
    SessionStarted,
    /// A boot request was answered.
    BootRequest(Box<BootRequestEvent>),
    /// A machine reported a step.
    BootReport {
        /// The step, if the report names one.
        step: Option<BootStep>,
        /// iPXE's error number, for a failed step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rc: Option<String>,
        /// Number of the try.
        attempt: u32,
    },
    /// volboot switched the machine on to boot from the network, and none of the node's cards has sent a request since.
    NoNetworkBoot {
        /// The node.
        node: Uuid,
        /// Time since the machine was switched on, in seconds.
        seconds: u32,
    },
    /// The loop detector delayed a machine that starts sessions without hooking its volume.
    LoopDelay {
        /// Boot sessions in a row without a hooked volume.
        journeys: u32,
        /// Delay in seconds.
        seconds: u32,
    },
}

/// A TFTP transfer, complete or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TftpTransfer {
    /// File name.
    pub file: String,
    /// Outcome of the transfer.
    pub outcome: TransferOutcome,
    /// File size in bytes.
    #[serde(default)]
    pub size: u64,
    /// Block size in bytes.
    #[serde(default)]
    pub block_size: u16,
    /// Window size in blocks.
    #[serde(default)]
    pub window_size: u16,
    /// Acknowledged blocks.
    #[serde(default)]
    pub blocks: u64,
    /// Retransmitted packets.
    #[serde(default)]
    pub retransmissions: u64,
    /// Duration in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
    /// Message of the ERROR packet with which the client aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_message: Option<String>,
    /// The reason why the machine got a script that ends the boot instead of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

impl Event {
    /// An event that occurred once. Its texts are cut: the sender of a request chooses their length.
    pub fn new(at: Timestamp, mac: Option<Mac>, address: Option<IpAddr>, kind: EventKind) -> Self {
        let address = address.map(|address| address.to_canonical());
        Self { at, count: 1, mac, address, instance: None, kind }.with_cut_texts()
    }

    /// Cuts all texts. Needed for an event of an older version, which did not.
    pub fn with_cut_texts(mut self) -> Self {
        match &mut self.kind {
            EventKind::TftpTransfer(transfer) => {
                transfer.file = excerpt(&transfer.file);
                transfer.client_message = transfer.client_message.as_deref().map(excerpt);
                if let Some(refusal) = &mut transfer.refusal {
                    cut_sentence(refusal);
                }
            }
            EventKind::Dhcp(dhcp) => dhcp.cut_texts(),
            EventKind::HttpFetch { file, .. } => *file = excerpt(file),
            EventKind::BootRequest(request) => request.cut_texts(),
            EventKind::BootReport { rc, .. } => *rc = rc.as_deref().map(excerpt),
            EventKind::SessionStarted | EventKind::NoNetworkBoot { .. } | EventKind::LoopDelay { .. } => {}
        }
        self
    }

    /// About how many bytes the event takes, in memory and in the history.
    pub fn byte_size(&self) -> usize {
        let texts = match &self.kind {
            EventKind::TftpTransfer(transfer) => {
                let texts = [&transfer.client_message, &transfer.refusal];
                transfer.file.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()
            }
            EventKind::Dhcp(dhcp) => dhcp.texts_size(),
            EventKind::HttpFetch { file, .. } => file.len(),
            EventKind::BootRequest(request) => request.texts_size(),
            EventKind::BootReport { .. }
            | EventKind::SessionStarted
            | EventKind::NoNetworkBoot { .. }
            | EventKind::LoopDelay { .. } => 0,
        };
        BASE_SIZE + texts + self.instance.as_ref().map_or(0, |name| name.as_str().len())
    }

    /// Updates the metrics.
    pub fn update_metrics(&self, metrics: &Metrics) {
        match &self.kind {
            EventKind::TftpTransfer(transfer) => {
                let duration = Duration::from_millis(transfer.duration_ms);
                metrics.count_transfer(&transfer.outcome, transfer.size, transfer.retransmissions, duration);
            }
            EventKind::BootRequest(request) => {
                let duration = Duration::from_micros(request.duration_us);
                metrics.count_boot_request(&request.outcome, duration);
                for resolution in &request.resolutions {
                    let duration = Duration::from_millis(resolution.duration_ms);
                    metrics.count_resolution(&resolution.source, duration);
                }
            }
            EventKind::Dhcp(dhcp) if dhcp.step.is_reply() => {}
            EventKind::Dhcp(dhcp) => metrics.count_dhcp_request(&dhcp.step, dhcp.answer.as_ref()),
            EventKind::BootReport { step, .. } => metrics.count_boot_report(step.as_ref()),
            EventKind::LoopDelay { .. } => metrics.count_loop_delay(),
            EventKind::SessionStarted => metrics.count_session(),
            EventKind::NoNetworkBoot { .. } => metrics.count_missing_network_boot(),
            EventKind::HttpFetch { .. } => metrics.count_http_fetch(),
        }
    }

    /// Whether both events are equal except for time, count and durations.
    pub fn is_repeat_of(&self, other: &Self) -> bool {
        let is_same_kind = match (&self.kind, &other.kind) {
            (EventKind::TftpTransfer(a), EventKind::TftpTransfer(b)) => {
                (&a.file, &a.outcome, &a.client_message, &a.refusal)
                    == (&b.file, &b.outcome, &b.client_message, &b.refusal)
            }
            (EventKind::BootRequest(a), EventKind::BootRequest(b)) => {
                a.without_durations() == b.without_durations()
            }
            (a, b) => a == b,
        };
        is_same_kind && (self.address, &self.instance) == (other.address, &other.instance)
    }
}

fn default_count() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "signature required by serde's skip_serializing_if")]
fn is_single(count: &u32) -> bool {
    *count == 1
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{BootOutcome, MAX_EXCERPT, Platform, SourceKind};
    use crate::telemetry::ResolutionEvent;
    use crate::telemetry::sentence::MAX_SENTENCE;

    #[test]
    fn events_round_trip_through_json() {
        let kind = EventKind::BootRequest(Box::new(BootRequestEvent {
            attempt: 2,
            tries: 10,
            macs: vec![Mac::new([2, 0, 0, 0, 0, 1])],
            platform: Some(Platform::Uefi),
            arch: None,
            uuid: None,
            host_name_bytes: Some(5),
            node: Some(Uuid::nil()),
            name: Some("web-1".into()),
            journey: None,
            resolutions: vec![ResolutionEvent {
                volume: "root".into(),
                source: SourceKind::Cinder,
                duration_ms: 40,
                error: None,
                server: None,
            }],
            hooks: vec!["root".into()],
            warnings: vec![],
            outcome: BootOutcome::Boot,
            reason: None,
            held: false,
            once: None,
            attached_card: None,
            claimed_mac: None,
            duration_us: 41_000,
        }));
        let address = "::ffff:192.0.2.7".parse().ok();
        let event = Event::new(Timestamp::UNIX_EPOCH, None, address, kind);
        let value = serde_json::to_value(&event).expect("serializes");
        assert_eq!(
            value,
            json!({
                "at": "1970-01-01T00:00:00Z", "address": "192.0.2.7", "kind": "boot_request", "attempt": 2,
                "tries": 10, "macs": ["02:00:00:00:00:01"], "platform": "efi", "host_name_bytes": 5, "node": Uuid::nil(), "name": "web-1",
                "hooks": ["root"], "resolutions": [{"volume": "root", "source": "cinder", "duration_ms": 40}],
                "outcome": "boot", "duration_us": 41000,
            })
        );
        assert_eq!(serde_json::from_value::<Event>(value).expect("deserializes"), event);
    }

    #[test]
    fn texts_are_cut_when_the_event_is_made() {
        let new = |kind| Event::new(Timestamp::UNIX_EPOCH, None, None, kind);
        let long = "x".repeat(15_000);
        let transfer = new(EventKind::TftpTransfer(TftpTransfer {
            file: long.clone(),
            outcome: TransferOutcome::Aborted,
            size: 0,
            block_size: 512,
            window_size: 1,
            blocks: 0,
            retransmissions: 0,
            duration_ms: 0,
            client_message: Some(format!("\u{202e}{long}")),
            refusal: None,
        }));
        let fetch = new(EventKind::HttpFetch { file: long.clone(), size: None });
        for event in [transfer, fetch] {
            let text = serde_json::to_string(&event).expect("serializes");
            assert!(text.len() < 2 * MAX_EXCERPT + 300 && !text.contains('\u{202e}'), "{text}");
            assert!((BASE_SIZE..1000).contains(&event.byte_size()), "{}", event.byte_size());
        }
        let mut reason = "ü".repeat(2 * MAX_SENTENCE);
        cut_sentence(&mut reason);
        assert_eq!(reason.chars().count(), MAX_SENTENCE + 1);
    }

    #[test]
    fn repeats_are_recognized_regardless_of_duration() {
        let event = |file: &str, duration_ms| {
            let kind = EventKind::TftpTransfer(TftpTransfer {
                file: file.into(),
                outcome: TransferOutcome::Complete,
                size: 1,
                block_size: 512,
                window_size: 1,
                blocks: 1,
                retransmissions: 0,
                duration_ms,
                client_message: None,
                refusal: None,
            });
            Event::new(Timestamp::UNIX_EPOCH, None, None, kind)
        };
        assert!(event("a", 1).is_repeat_of(&event("a", 2)));
        assert!(!event("a", 1).is_repeat_of(&event("b", 1)));
        assert!(!event("a", 1).is_repeat_of(&Event { kind: EventKind::SessionStarted, ..event("a", 1) }));
    }
}
