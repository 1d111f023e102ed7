//! [`BootState`] and [`Verdict`]: the result of a machine's last boot, as lists show it.

use std::fmt;

use serde::Serialize;

/// State of a machine's last boot: a closed set, for lists and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BootState {
    /// The boot is in progress.
    Booting,
    /// The machine waits, as its boot request was answered with `wait`.
    Waiting,
    /// The volumes are hooked. Whether the machine starts from them is not known yet.
    Hooked,
    /// The volumes are hooked, and no error followed.
    HandedOver,
    /// The operating system reported `up`.
    Booted,
    /// The machine was sent to its local disk.
    LocalDisk,
    /// A step failed, and another try follows.
    Retrying,
    /// The boot did not complete.
    Stopped,
    /// The machine is in a boot loop.
    Looping,
    /// No node is enrolled for the machine.
    Unknown,
}

impl BootState {
    /// All states.
    pub const ALL: [Self; 10] = [
        Self::Booting,
        Self::Waiting,
        Self::Hooked,
        Self::HandedOver,
        Self::Booted,
        Self::LocalDisk,
        Self::Retrying,
        Self::Stopped,
        Self::Looping,
        Self::Unknown,
    ];

    /// Label for JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Waiting => "waiting",
            Self::Hooked => "hooked",
            Self::HandedOver => "handed_over",
            Self::Booted => "booted",
            Self::LocalDisk => "local_disk",
            Self::Retrying => "retrying",
            Self::Stopped => "stopped",
            Self::Looping => "looping",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for BootState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The result of a machine's last boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The state.
    pub state: BootState,
    /// One line of text.
    pub text: String,
    /// Advice for the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Verdict {
    pub(super) fn with_text(state: BootState, text: impl Into<String>) -> Self {
        Self { state, text: text.into(), advice: None }
    }

    pub(super) fn with_advice(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

/// A word of an event, such as `timed_out`, as it stands in a sentence.
pub(super) fn in_words(word: &str) -> String {
    word.replace('_', " ")
}
