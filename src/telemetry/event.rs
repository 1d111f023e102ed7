//! [`Event`]: one thing that happened to a machine, as plain data.
//!
//! Events are told by the doors where they happen, joined into timelines, kept on disk and sent to whoever follows:
//! so they can be read back, and what an older volboot wrote can be read by this one. They hold no secret.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Metrics;
use crate::model::Mac;

/// A word out of the code, or one that was read back.
pub type Word = Cow<'static, str>;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When; the first time, if it was told more than once.
    pub at: Timestamp,
    /// How often within a second.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u32,
    /// The card through which the machine spoke, if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// From where it spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// Firmware or iPXE read a file over TFTP, or tried to.
    Transfer(Transfer),
    /// Firmware asked for a file over HTTP, and was sent it if it is there. Whether it arrived is not seen.
    Fetched {
        /// Its name.
        file: String,
        /// Bytes of it; none if there is no such file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
    },
    /// iPXE read the script that is the same for everybody, and with it begins a journey.
    Gathered,
    /// A machine asked for its own script, and was answered.
    Answered(Box<Answered>),
    /// A machine reported a step: `hooked`, `hook-0`, `boot`, `up`, …
    Reported {
        /// Which.
        step: Option<Word>,
        /// iPXE's error number, if it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rc: Option<String>,
        /// At which try.
        attempt: u32,
    },
    /// A machine that begins again and again without ever hooking its volume was told to wait.
    Paced {
        /// How often it has begun.
        journeys: u32,
        /// How long it has to wait, in seconds.
        seconds: u32,
    },
}

/// A file that was asked for over TFTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Its name.
    pub file: String,
    /// How it ended, as `tftp` calls it.
    pub outcome: Word,
    /// Bytes of it.
    #[serde(default)]
    pub size: u64,
    /// Bytes in a block.
    #[serde(default)]
    pub block_size: u16,
    /// Blocks in a window.
    #[serde(default)]
    pub window: u16,
    /// Blocks that arrived.
    #[serde(default)]
    pub blocks: u64,
    /// Packets that were sent more than once.
    #[serde(default)]
    pub again: u64,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub millis: u64,
    /// What the client said when it broke off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
}

/// A question for a machine's own script, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Which try it is, from 1.
    pub attempt: u32,
    /// How many there are.
    pub tries: u32,
    /// All cards it named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<Mac>,
    /// The firmware it said it has: `pcbios` or `efi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Word>,
    /// The build of iPXE it said it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// The machine's UUID, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// The node it was recognised as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Uuid>,
    /// What people called that node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The journey it said it is on; whoever asks by itself says none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journey: Option<String>,
    /// How each volume was found, or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved: Vec<Resolved>,
    /// The volume of each step `hook-0`, `hook-1`, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<String>,
    /// What it got: `boot`, `wait`, `local disk`, `unknown` or `refuse`.
    pub outcome: Word,
    /// Why, where it is not to boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long the answer took, in microseconds.
    #[serde(default)]
    pub micros: u64,
}

/// How it was found out where a volume is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The volume's id.
    pub volume: String,
    /// Who knew: `cinder`, `last known` or `records`.
    pub source: Word,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub millis: u64,
    /// Why Cinder did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl Event {
    /// Something that happened once.
    pub fn new(at: Timestamp, mac: Option<Mac>, address: Option<IpAddr>, what: What) -> Self {
        Self { at, times: 1, mac, address: address.map(|address| address.to_canonical()), what }
    }

    /// Counts what happened.
    pub fn count(&self, metrics: &Metrics) {
        match &self.what {
            What::Transfer(transfer) => {
                let took = Duration::from_millis(transfer.millis);
                metrics.transfer(label(&transfer.outcome), transfer.size, transfer.again, took);
            }
            What::Answered(answered) => {
                let took = Duration::from_micros(answered.micros);
                metrics.boot_request(label(&answered.outcome), took);
                for resolved in &answered.resolved {
                    metrics.resolution(label(&resolved.source), Duration::from_millis(resolved.millis));
                }
            }
            What::Reported { step, .. } => metrics.report(match step.as_deref() {
                Some("hooked") => "hooked",
                Some("boot") => "boot",
                Some("up") => "up",
                Some(step) if step.starts_with("hook-") => "hook",
                _ => "other",
            }),
            What::Paced { .. } => metrics.report("paced"),
            What::Gathered => metrics.report("gathered"),
            What::Fetched { .. } => metrics.report("fetched"),
        }
    }

    /// Whether this is the same thing again, however long it took.
    pub fn repeats(&self, other: &Self) -> bool {
        let same = match (&self.what, &other.what) {
            (What::Transfer(a), What::Transfer(b)) => {
                (&a.file, &a.outcome, &a.words) == (&b.file, &b.outcome, &b.words)
            }
            (What::Answered(a), What::Answered(b)) => a.timeless() == b.timeless(),
            (a, b) => a == b,
        };
        same && self.address == other.address
    }
}

impl Answered {
    /// The same, without how long anything took.
    fn timeless(&self) -> Self {
        let mut same = Self { micros: 0, ..self.clone() };
        same.resolved.iter_mut().for_each(|resolved| resolved.millis = 0);
        same
    }
}

/// A word out of the code. What was read back is counted by nobody.
fn label(word: &Word) -> &'static str {
    match word {
        Cow::Borrowed(word) => word,
        Cow::Owned(_) => "other",
    }
}

fn once() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_once(times: &u32) -> bool {
    *times == 1
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_read_back_as_it_was_written() {
        let what = What::Answered(Box::new(Answered {
            attempt: 2,
            tries: 10,
            macs: vec![Mac::new([2, 0, 0, 0, 0, 1])],
            platform: Some("efi".into()),
            arch: None,
            uuid: None,
            node: Some(Uuid::nil()),
            name: Some("web-1".into()),
            journey: None,
            resolved: vec![Resolved {
                volume: "root".into(),
                source: "cinder".into(),
                millis: 40,
                fault: None,
            }],
            hooks: vec!["root".into()],
            outcome: "boot".into(),
            reason: None,
            micros: 41_000,
        }));
        let address = "::ffff:192.0.2.7".parse().ok();
        let event = Event::new(Timestamp::UNIX_EPOCH, None, address, what);
        let written = serde_json::to_value(&event).expect("is written");
        assert_eq!(
            written,
            json!({
                "at": "1970-01-01T00:00:00Z", "address": "192.0.2.7", "kind": "answered", "attempt": 2, "tries": 10,
                "macs": ["02:00:00:00:00:01"], "platform": "efi", "node": Uuid::nil(), "name": "web-1", "hooks": ["root"],
                "resolved": [{"volume": "root", "source": "cinder", "millis": 40}], "outcome": "boot", "micros": 41000,
            })
        );
        assert_eq!(serde_json::from_value::<Event>(written).expect("is read"), event);
    }

    #[test]
    fn the_same_is_the_same_however_long_it_took() {
        let event = |file: &str, millis| {
            let what = What::Transfer(Transfer {
                file: file.into(),
                outcome: "complete".into(),
                size: 1,
                block_size: 512,
                window: 1,
                blocks: 1,
                again: 0,
                millis,
                words: None,
            });
            Event::new(Timestamp::UNIX_EPOCH, None, None, what)
        };
        assert!(event("a", 1).repeats(&event("a", 2)));
        assert!(!event("a", 1).repeats(&event("b", 1)));
        assert!(!event("a", 1).repeats(&Event { what: What::Gathered, ..event("a", 1) }));
    }
}
