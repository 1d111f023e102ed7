//! [`TransferOutcome`]: the result of a TFTP transfer, for events and metrics.

use serde::{Deserialize, Serialize};

/// The result of a TFTP transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferOutcome {
    /// The client has acknowledged every block.
    Complete,
    /// Every block was sent, but the client did not acknowledge the last window.
    Unconfirmed,
    /// The client learnt the file's size and aborted, as firmware does before the real transfer.
    Probe,
    /// The client aborted the transfer with an ERROR packet.
    Aborted,
    /// The same client and port sent another request meanwhile.
    Replaced,
    /// The client fell silent or made no progress.
    TimedOut,
    /// The server shut down, and the grace period expired.
    Stopped,
    /// The file does not exist.
    NotFound,
    /// A limit on concurrent transfers was reached: the request got no response, or gave way before the client responded.
    Busy,
    /// A write request, a malformed request, or a client outside of the allowed networks.
    Refused,
    /// A word of another version of volboot, read from the history.
    #[serde(untagged)]
    Other(String),
}

impl TransferOutcome {
    /// The word for logs and events.
    pub fn as_str(&self) -> &str {
        if let Self::Other(word) = self { word } else { self.as_label() }
    }

    /// The label for metrics: a closed set.
    pub const fn as_label(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Unconfirmed => "unconfirmed",
            Self::Probe => "probe",
            Self::Aborted => "aborted",
            Self::Replaced => "replaced",
            Self::TimedOut => "timed_out",
            Self::Stopped => "stopped",
            Self::NotFound => "not_found",
            Self::Busy => "busy",
            Self::Refused => "refused",
            Self::Other(_) => "other",
        }
    }

    /// Whether the whole file was sent.
    pub const fn is_whole_file(&self) -> bool {
        match self {
            Self::Complete | Self::Unconfirmed => true,
            Self::Probe
            | Self::Aborted
            | Self::Replaced
            | Self::TimedOut
            | Self::Stopped
            | Self::NotFound
            | Self::Busy
            | Self::Refused
            | Self::Other(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_are_serialized_as_labelled_and_others_are_kept() {
        use TransferOutcome::{
            Aborted, Busy, Complete, NotFound, Probe, Refused, Replaced, Stopped, TimedOut, Unconfirmed,
        };
        for outcome in
            [Complete, Unconfirmed, Probe, Aborted, Replaced, TimedOut, Stopped, NotFound, Busy, Refused]
        {
            let value = serde_json::to_value(&outcome).expect("serializes");
            assert_eq!((value.as_str(), outcome.as_str()), (Some(outcome.as_label()), outcome.as_label()));
            assert_eq!(serde_json::from_value::<TransferOutcome>(value).expect("deserializes"), outcome);
        }
        let other: TransferOutcome = serde_json::from_str("\"frobnicated\"").expect("deserializes");
        assert_eq!((other.as_str(), other.as_label()), ("frobnicated", "other"));
        assert_eq!(serde_json::to_value(&other).expect("serializes"), "frobnicated");
    }
}
