//! [`InstanceStatus`] and [`MissingEvents`]: the instances on the store as this one sees them, for operators.

use jiff::Timestamp;
use serde::Serialize;

use crate::model::InstanceName;

/// An instance as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstanceStatus {
    /// Its name.
    pub name: InstanceName,
    /// Whether it is this process.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// Its version of volboot.
    pub version: String,
    /// Start of its process, by its clock.
    pub started_at: Timestamp,
    /// Base URL of its cluster listener.
    pub url: Option<String>,
    /// Group of its conductor.
    pub conductor_group: String,
    /// Its boot requests that wait for Cinder.
    pub queue_length: u64,
    /// Whether it has a session in the store.
    pub registered: bool,
    /// Whether it answers this instance.
    pub answering: bool,
    /// Time of its last answer, by this instance's clock.
    pub last_answer_at: Option<Timestamp>,
    /// Why it does not answer.
    pub problem: Option<String>,
    /// How far its clock is ahead of this instance's, in milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// The last time at which events of it turned out to be lost.
    pub events_lost_at: Option<Timestamp>,
    /// What differs from this instance and must not, as phrases.
    pub differences: Vec<String>,
}

/// The events of an instance that may be missing from every timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingEvents {
    /// The instance.
    pub instance: InstanceName,
    /// Events since this time may be missing; by this instance's clock.
    pub since: Timestamp,
    /// The cause.
    pub reason: String,
}
