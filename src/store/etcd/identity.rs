//! [`Identity`]: the key `meta/cluster`, which says what the records below the prefix are, and whether they are complete.
//!
//! While a copy, an import or a migration changes all records, the identity names this *bulk work*. Every write of an
//! instance requires the identity that the instance has verified, and every write of bulk work requires the revision of
//! its own identity. So no instance serves or changes half a store, and a successor shuts out an earlier work that goes
//! on.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use super::client::EtcdClient;
use super::error::RpcError;
use super::keys::{Layout, one};
use super::messages::{RangeResponse, revision};
use crate::store::contract::Revision;

/// The identity of the records below a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Never changes.
    pub(super) id: Uuid,
    /// Increased by each copy and import: mirrors of earlier records are loaded again.
    pub(super) epoch: u64,
    /// The schema of keys and values.
    pub(super) schema: u64,
    /// The bulk work that is not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) work: Option<BulkWork>,
}

/// Work that changes all records. The run distinguishes one attempt from the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum BulkWork {
    /// A copy or an import into the prefix.
    Copying {
        /// The attempt.
        run: Uuid,
    },
    /// A migration.
    Migrating {
        /// The attempt.
        run: Uuid,
        /// The schema after it.
        to: u64,
        /// Whether all migrated records are staged. Until then, no record has changed.
        is_staged: bool,
    },
}

impl Identity {
    /// The value of the key.
    pub(super) fn encode(&self) -> Vec<u8> {
        // Cannot fail: an identity has numbers, flags and UUIDs.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a value; `None`: it is not volboot's.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }
}

/// The key, as it was read.
pub(super) struct IdentityKey {
    pub(super) value: Vec<u8>,
    /// The revision of its last change.
    pub(super) changed: Revision,
    /// etcd's revision at the read.
    pub(super) read_at: Revision,
}

/// Reads the key.
pub(super) async fn read(
    client: &EtcdClient,
    layout: &Layout,
    by: Instant,
) -> Result<Option<IdentityKey>, RpcError> {
    let request = one(layout.cluster());
    let response: RangeResponse = client.call("/etcdserverpb.KV/Range", &request, by).await?;
    let read_at = response.header.map_or(0, |header| revision(header.revision));
    let kv = response.kvs.into_iter().next();
    Ok(kv.map(|kv| IdentityKey { value: kv.value, changed: revision(kv.mod_revision), read_at }))
}
