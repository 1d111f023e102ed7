//! [`ConnectionSource`]: where the connection of a volume is from, and [`SourceKind`], its word in events.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Where a connection is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionSource {
    /// The node's own records.
    Records,
    /// Cinder, for this boot.
    Cinder,
    /// Cinder, at an earlier boot.
    LastKnown {
        /// When Cinder returned the connection.
        resolved_at: Timestamp,
        /// The outage of Cinder or the backend, as a sentence; `None` in a preview that did not need Cinder.
        outage: Option<String>,
    },
    /// Cinder, from the attachment of another client as it is: Cinder refused to export the volume through it.
    Existing {
        /// Cinder's refusal.
        refusal: String,
    },
    /// The attachment's record, which Cinder confirms: the store is read-only, so nothing can be exported.
    Confirmed {
        /// When Cinder returned the connection.
        resolved_at: Timestamp,
        /// Why the store is read-only.
        store: String,
    },
}

impl ConnectionSource {
    /// The kind, for events and metrics.
    pub const fn kind(&self) -> SourceKind {
        match self {
            Self::Records => SourceKind::Records,
            Self::Cinder => SourceKind::Cinder,
            Self::LastKnown { .. } => SourceKind::LastKnown,
            Self::Existing { .. } => SourceKind::Existing,
            Self::Confirmed { .. } => SourceKind::Confirmed,
        }
    }

    /// The word for logs and the API, from a closed set.
    pub fn as_str(&self) -> &'static str {
        self.kind().as_label()
    }
}

/// The kind of a [`ConnectionSource`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// The node's own records.
    Records,
    /// Cinder, for this boot.
    Cinder,
    /// Cinder, at an earlier boot.
    LastKnown,
    /// Cinder, from the attachment of another client as it is.
    Existing,
    /// The attachment's record, confirmed by Cinder.
    Confirmed,
    /// A word of another version of volboot, read from the history.
    #[serde(untagged)]
    Other(String),
}

impl SourceKind {
    /// The label for metrics: a closed set.
    pub const fn as_label(&self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Cinder => "cinder",
            Self::LastKnown => "last_known",
            Self::Existing => "existing",
            Self::Confirmed => "confirmed",
            Self::Other(_) => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_kinds_are_serialized_as_labelled_and_others_are_kept() {
        for kind in [
            SourceKind::Records,
            SourceKind::Cinder,
            SourceKind::LastKnown,
            SourceKind::Existing,
            SourceKind::Confirmed,
        ] {
            let value = serde_json::to_value(&kind).expect("serializes");
            assert_eq!(value, kind.as_label());
            assert_eq!(serde_json::from_value::<SourceKind>(value).expect("deserializes"), kind);
        }
        let other: SourceKind = serde_json::from_str("\"frobnicated\"").expect("deserializes");
        assert_eq!((&other, other.as_label()), (&SourceKind::Other("frobnicated".into()), "other"));
        assert_eq!(serde_json::to_value(&other).expect("serializes"), "frobnicated");
    }
}
