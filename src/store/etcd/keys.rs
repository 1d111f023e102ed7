//! [`Layout`]: the keys below the configured prefix.
//!
//! | key | value |
//! |---|---|
//! | `r/<key>` | a record |
//! | `tick` | changes with every write: see [`super::barrier`] |
//! | `writer/<mirror>/<slot>` | the last write of a slot: see [`super::write`] |
//! | `meta/cluster` | the identity of the records: see [`super::identity`] |
//! | `staged/<key>` | a migrated record, before it replaces the present one: see [`super::migration`] |
//! | `session/<session>` | an announcement, with the session's lease |
//! | `claim/<work>` | a claim, with the lease of the holder's session |

use super::messages::{RangeRequest, prefix_end};

/// The keys of one store.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    prefix: String,
}

impl Layout {
    /// The keys below a prefix, which ends with a slash.
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: format!("{}/", prefix.trim_end_matches('/')) }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn record(&self, key: &str) -> Vec<u8> {
        format!("{}r/{key}", self.prefix).into_bytes()
    }

    /// The record's key, if an etcd key is one of a record.
    pub(super) fn parse_record<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.prefix)?.strip_prefix("r/")
    }

    pub(super) fn staged(&self, key: &str) -> Vec<u8> {
        format!("{}staged/{key}", self.prefix).into_bytes()
    }

    /// The record's key, if an etcd key is one of a staged record.
    pub(super) fn parse_staged<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.prefix)?.strip_prefix("staged/")
    }

    pub(super) fn tick(&self) -> Vec<u8> {
        format!("{}tick", self.prefix).into_bytes()
    }

    pub(super) fn writer(&self, mirror: &str, slot: usize) -> Vec<u8> {
        format!("{}writer/{mirror}/{slot}", self.prefix).into_bytes()
    }

    pub(super) fn cluster(&self) -> Vec<u8> {
        format!("{}meta/cluster", self.prefix).into_bytes()
    }

    pub(super) fn session(&self, id: &str) -> Vec<u8> {
        format!("{}session/{id}", self.prefix).into_bytes()
    }

    pub(super) fn claim(&self, work: &str) -> Vec<u8> {
        format!("{}claim/{work}", self.prefix).into_bytes()
    }

    /// Whether a key below the prefix is one of this table.
    pub(super) fn is_own(&self, key: &str) -> bool {
        key.strip_prefix(&self.prefix).is_some_and(|rest| {
            let folders = ["r/", "writer/", "session/", "claim/", "staged/"];
            ["tick", "meta/cluster"].contains(&rest) || folders.iter().any(|folder| rest.starts_with(folder))
        })
    }

    /// The last part of a session's key.
    pub(super) fn parse_session<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.prefix)?.strip_prefix("session/")
    }
}

/// Reads one key.
pub(super) fn one(key: Vec<u8>) -> RangeRequest {
    RangeRequest { key, ..RangeRequest::default() }
}

/// Reads all keys with a prefix.
pub(super) fn all_under(prefix: Vec<u8>) -> RangeRequest {
    RangeRequest { range_end: prefix_end(&prefix), key: prefix, ..RangeRequest::default() }
}
