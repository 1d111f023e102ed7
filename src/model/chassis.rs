//! [`Chassis`]: what several nodes stand in.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Properties;

/// A chassis; kept for clients, who may group nodes by it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chassis {
    /// Its identity in the API.
    pub uuid: Uuid,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed by the API.
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
    /// What people call it.
    #[serde(default)]
    pub description: Option<String>,
    /// Kept for clients.
    #[serde(default)]
    pub extra: Properties,
}
