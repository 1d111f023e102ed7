//! [`SiteMachine`]: a machine of the site.

use uuid::Uuid;

use crate::model::Mac;

/// A machine: its node, and the card that it boots from.
#[derive(Debug, Clone, Copy)]
pub(super) struct SiteMachine {
    pub(super) node: Uuid,
    pub(super) card: Mac,
}
