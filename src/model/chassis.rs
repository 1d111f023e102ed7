//! [`Chassis`]: an enclosure that holds several nodes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Properties;

/// A chassis, stored for Ironic's clients: they may group nodes by chassis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chassis {
    /// The chassis' identity in the API.
    pub uuid: Uuid,
    /// When the chassis was created.
    pub created_at: Timestamp,
    /// When the API last changed the chassis.
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
    /// A name for display.
    #[serde(default)]
    pub description: Option<String>,
    /// Stored for clients.
    #[serde(default)]
    pub extra: Properties,
}
