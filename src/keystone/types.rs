//! The body of Keystone's token responses.

use jiff::Timestamp;
use serde::Deserialize;

use super::catalogue::Catalogue;

#[derive(Deserialize)]
pub(super) struct TokenEnvelope {
    pub(super) token: TokenBody,
}

#[derive(Deserialize)]
pub(super) struct TokenBody {
    pub(super) expires_at: Timestamp,
    pub(super) issued_at: Option<Timestamp>,
    pub(super) user: Id,
    #[serde(default)]
    pub(super) roles: Vec<Role>,
    pub(super) project: Option<Project>,
    pub(super) system: Option<System>,
    #[serde(default)]
    pub(super) catalog: Catalogue,
}

#[derive(Deserialize)]
pub(super) struct Id {
    pub(super) id: String,
}

#[derive(Deserialize)]
pub(super) struct Role {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Project {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) domain: Id,
}

#[derive(Deserialize)]
pub(super) struct System {
    #[serde(default)]
    pub(super) all: bool,
}
