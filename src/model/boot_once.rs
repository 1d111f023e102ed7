//! [`BootOnce`]: what a node's machine boots at its next boot, once, in place of its own volumes.
//!
//! | state | meaning | ends |
//! |---|---|---|
//! | armed | the next boot session (journey) of the machine consumes it | at [`BootOnce::expires_at`] |
//! | consumed | every try of that journey gets it, no other journey | with the script of the next journey |
//!
//! A Cinder volume is attached for the record, not for a volume target. That attachment ends with the record: when the script of
//! the next journey is out, at undeployment, or at the operator's request (of a record that replaced a consumed one, and is
//! not consumed itself: only if the machine is off). It never ends by time: the machine may run
//! from the volume.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Properties, SanUri, VolumeTarget};

/// A one-time boot of a node. A node has at most one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BootOnce {
    /// The record's identity.
    pub uuid: Uuid,
    /// When the record was created.
    pub created_at: Timestamp,
    /// The node.
    pub node_uuid: Uuid,
    /// What the machine boots.
    pub source: OnceSource,
    /// Whether the node's own volumes follow as further drives.
    #[serde(default)]
    pub with_volumes: bool,
    /// Whether another node may name the same volume.
    #[serde(default)]
    pub shared: bool,
    /// From then on, no journey consumes the record.
    pub expires_at: Timestamp,
    /// The journey that consumed the record.
    #[serde(default)]
    pub journey: Option<String>,
    /// When the journey consumed the record.
    #[serde(default)]
    pub consumed_at: Option<Timestamp>,
    /// The Cinder volume of a replaced, consumed record: the machine may still run from the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier_volume: Option<String>,
}

/// What a machine boots once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OnceSource {
    /// A Cinder volume, attached for this boot.
    Volume {
        /// The volume's id.
        volume_id: String,
    },
    /// A fixed iSCSI target.
    Target {
        /// The connection, with the CHAP secret if there is one (see [`Connection`](super::Connection)).
        properties: Properties,
    },
    /// A script or a program that iPXE fetches.
    Url {
        /// The URL, in the form of [`ChainUrl`](super::ChainUrl).
        url: String,
    },
    /// The machine's local disk.
    Local,
    /// The iPXE shell.
    Shell,
}

/// The meaning of a [`BootOnce`] for a boot request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OncePhase {
    /// The request's journey consumes the record.
    Armed,
    /// The request is a later one of the journey that consumed the record.
    Bound,
    /// Another journey consumed the record, or its time has passed: the script of this request ends it.
    Over,
    /// The request is outside a journey, so it neither consumes nor ends the record.
    OutOfReach,
}

impl BootOnce {
    /// The meaning of the record for a request of this journey.
    pub fn phase(&self, journey: Option<&str>, now: Timestamp) -> OncePhase {
        match (&self.journey, journey) {
            (_, None) => OncePhase::OutOfReach,
            (Some(bound), Some(journey)) if bound == journey => OncePhase::Bound,
            (None, Some(_)) if now < self.expires_at => OncePhase::Armed,
            (Some(_) | None, Some(_)) => OncePhase::Over,
        }
    }

    /// Whether the next journey would consume the record.
    pub fn is_armed(&self, now: Timestamp) -> bool {
        self.journey.is_none() && now < self.expires_at
    }

    /// The Cinder volume of the source.
    pub fn cinder_volume(&self) -> Option<&str> {
        match &self.source {
            OnceSource::Volume { volume_id } => Some(volume_id),
            OnceSource::Target { .. } | OnceSource::Url { .. } | OnceSource::Local | OnceSource::Shell => {
                None
            }
        }
    }

    /// Whether the machine may run from the volume of a record that this one, not consumed yet, replaced.
    pub const fn has_earlier_volume(&self) -> bool {
        self.journey.is_none() && self.earlier_volume.is_some()
    }

    /// Whether the record calls for an attachment of this Cinder volume, or keeps an earlier one.
    pub fn holds_volume(&self, volume: &str) -> bool {
        self.cinder_volume() == Some(volume) || self.earlier_volume.as_deref() == Some(volume)
    }

    /// The volume target that stands for the source in a boot: boot index 0, with the record's identity. `None` for a
    /// source without a volume.
    pub fn volume_target(&self) -> Option<VolumeTarget> {
        let (volume, properties) = match &self.source {
            OnceSource::Volume { volume_id } => (volume_id.as_str(), Properties::default()),
            OnceSource::Target { properties } => {
                (properties.text("target_iqn").unwrap_or_default(), properties.clone())
            }
            OnceSource::Url { .. } | OnceSource::Local | OnceSource::Shell => return None,
        };
        let target = VolumeTarget::new(self.uuid, self.node_uuid, 0, volume, self.created_at);
        Some(VolumeTarget { properties, ..target })
    }

    /// Marks the record as consumed by a journey. The earlier volume is released with that.
    #[must_use]
    pub fn consumed_by(&self, journey: &str, now: Timestamp) -> Self {
        Self {
            journey: Some(journey.to_owned()),
            consumed_at: Some(now),
            earlier_volume: None,
            ..self.clone()
        }
    }

    /// The record in place of `old`, whose machine may run from its volume if a journey consumed it.
    #[must_use]
    pub fn replacing(self, old: &Self) -> Self {
        let held = match old.journey {
            Some(_) => old.cinder_volume().map(str::to_owned),
            None => old.earlier_volume.clone(),
        };
        let earlier_volume = held.filter(|volume| self.cinder_volume() != Some(volume.as_str()));
        Self { earlier_volume, ..self }
    }
}

impl OnceSource {
    /// A fixed target, with its connection properties.
    pub fn from_target(uri: &SanUri, credentials: Option<(&str, &str)>) -> Self {
        let mut properties = uri.properties();
        if let Some((user, secret)) = credentials {
            properties.insert("auth_method".to_owned(), "CHAP".into());
            properties.insert("auth_username".to_owned(), user.into());
            properties.insert("auth_password".to_owned(), secret.into());
        }
        Self::Target { properties: properties.into() }
    }

    /// The source's kind, as the API names it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Volume { .. } => "volume",
            Self::Target { .. } => "target",
            Self::Url { .. } => "url",
            Self::Local => "local",
            Self::Shell => "shell",
        }
    }
}

impl fmt::Display for OnceSource {
    /// Names the source in a sentence, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume { volume_id } => write!(f, "volume {volume_id}"),
            Self::Target { properties } => {
                write!(f, "target {}", properties.text("target_iqn").unwrap_or_default())
            }
            Self::Url { url } => write!(f, "{url}"),
            Self::Local => f.write_str("the local disk"),
            Self::Shell => f.write_str("the iPXE shell"),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn once(source: OnceSource) -> BootOnce {
        BootOnce {
            uuid: Uuid::from_u128(7),
            created_at: START,
            node_uuid: Uuid::from_u128(1),
            source,
            with_volumes: false,
            shared: false,
            expires_at: START + SignedDuration::from_hours(1),
            journey: None,
            consumed_at: None,
            earlier_volume: None,
        }
    }

    fn of_volume(id: &str) -> BootOnce {
        once(OnceSource::Volume { volume_id: id.to_owned() })
    }

    #[test]
    fn one_journey_gets_it_at_every_try_and_no_other_journey_does() {
        let armed = of_volume("rescue");
        let consumed = armed.consumed_by("a", START);
        let (early, late) = (START, START + SignedDuration::from_hours(1));
        for (record, journey, now, expected) in [
            (&armed, Some("a"), early, OncePhase::Armed),
            (&armed, None, early, OncePhase::OutOfReach),
            (&armed, Some("a"), late, OncePhase::Over),
            (&armed, None, late, OncePhase::OutOfReach),
            (&consumed, Some("a"), early, OncePhase::Bound),
            // The time limit ends only what no journey has consumed.
            (&consumed, Some("a"), late, OncePhase::Bound),
            (&consumed, Some("b"), early, OncePhase::Over),
            (&consumed, Some("b"), late, OncePhase::Over),
            (&consumed, None, early, OncePhase::OutOfReach),
        ] {
            assert_eq!(record.phase(journey, now), expected, "{journey:?} at {now}: {record:?}");
        }
        assert!(armed.is_armed(early) && !armed.is_armed(late) && !consumed.is_armed(early));
    }

    #[test]
    fn a_replaced_record_leaves_the_volume_that_the_machine_may_run_from() {
        let consumed = of_volume("rescue").consumed_by("a", START);
        let next = once(OnceSource::Local).replacing(&consumed);
        assert!(next.holds_volume("rescue"));
        // Replaced again before any boot.
        let next = of_volume("other").replacing(&next);
        assert!(next.holds_volume("rescue") && next.holds_volume("other"));
        assert!(!next.consumed_by("b", START).holds_volume("rescue"));
        // The same volume again is one attachment.
        assert_eq!(of_volume("rescue").replacing(&consumed).earlier_volume, None);
        // A record without a journey has no machine that runs from its volume.
        assert!(!once(OnceSource::Shell).replacing(&of_volume("rescue")).holds_volume("rescue"));
    }

    #[test]
    fn a_target_stands_for_the_source_and_no_text_shows_its_secret() {
        let uri: SanUri = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:rescue".parse().expect("a path");
        let once = once(OnceSource::from_target(&uri, Some(("ann", "a-long-secret"))));
        let target = once.volume_target().expect("a target");
        assert_eq!((target.boot_index, target.uuid), (0, once.uuid));
        let connection = super::super::Connection::from_record(&target.properties).expect("a connection");
        assert_eq!(
            (connection.paths, connection.chap.map(|chap| chap.username)),
            (vec![uri], Some("ann".into()))
        );
        assert_eq!(once.source.to_string(), "target iqn.2010-10.org.example:rescue");
        let debug = format!("{once:?}");
        assert!(debug.contains("iqn.2010-10") && !debug.contains("a-long-secret"), "{debug}");
        assert_eq!(of_volume("v").volume_target().map(|target| target.volume_id), Some("v".into()));
    }
}
