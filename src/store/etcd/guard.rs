//! The guard of the prefix: compares the identity of the records below it with the mirror's.
//!
//! A mirror belongs to one identity. Another one below the configured prefix, or none any more, means a wrong prefix, a
//! deleted prefix or another etcd: the store then stays unavailable, and the mirror unchanged. A higher *epoch* of the
//! same identity means that a backup was imported. Revisions may have gone back, so the mirror is loaded again.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::client::EtcdClient;
use super::error::RpcError;
use super::identity::{self, BulkWork, Identity, IdentityKey};
use super::keys::{Layout, all_under};
use super::messages::{
    CREATE, Compare, CompareValue, EQUAL, Operation, PutRequest, RangeRequest, RangeResponse, RequestOp,
    TxnRequest, TxnResponse, key_text,
};
use crate::store::contract::Revision;
use crate::store::schema::Schema;

/// The deadline of each call.
const DEADLINE: Duration = Duration::from_secs(2);

/// The records cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum GuardError {
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// They are others than before, none, or half of a copy. An operator must act.
    #[error("{0}")]
    Refused(String),
    #[error("{0} has schema {1}, this volboot supports schema {2}: install the newer volboot")]
    Newer(String, u64, u64),
    /// An instance is migrating them, or will.
    #[error("the records in etcd have schema {0}; they are migrated to {1} once no older volboot runs")]
    Migrating(u64, u64),
}

/// The verified identity, or one that bulk work has marked.
pub(super) struct Verified {
    /// The value of the key.
    pub(super) text: String,
    pub(super) identity: Identity,
    /// The revision of the key's last change.
    pub(super) revision: Revision,
    /// etcd's revision when the key was read.
    pub(super) read_at: Revision,
}

/// Reads the identity below the prefix, or creates one below an empty prefix. `known` is the mirror's.
pub(super) async fn verify(
    client: &EtcdClient,
    layout: &Layout,
    known: Option<&str>,
    schema: &Schema,
) -> Result<Verified, GuardError> {
    let prefix = layout.prefix();
    let mut found = identity::read(client, layout, Instant::now() + DEADLINE).await?;
    if found.is_none() && known.is_none() {
        create(client, layout, schema).await?;
        found = identity::read(client, layout, Instant::now() + DEADLINE).await?;
    }
    let Some(IdentityKey { value, changed, read_at }) = found else {
        return Err(GuardError::Refused(format!("{prefix} in etcd has lost its records: restore a backup")));
    };
    let refused = || GuardError::Refused(format!("{prefix}meta/cluster in etcd is not volboot's"));
    let identity = Identity::decode(&value).ok_or_else(refused)?;
    let text = String::from_utf8(value).map_err(|_| refused())?;
    let before = known.and_then(|text| Identity::decode(text.as_bytes()));
    if before.is_some_and(|before| before.id != identity.id) {
        return Err(GuardError::Refused(format!(
            "{prefix} in etcd holds the records of another cluster than the local mirror: correct the \
             endpoints or the prefix, or move the mirror away"
        )));
    }
    Ok(Verified { text, identity, revision: changed, read_at })
}

/// Fails if the records cannot be served.
pub(super) fn check(identity: &Identity, layout: &Layout, schema: &Schema) -> Result<(), GuardError> {
    let prefix = layout.prefix();
    match identity.work {
        Some(BulkWork::Copying { .. }) => Err(GuardError::Refused(format!(
            "a copy of records into {prefix} in etcd is not complete: begin 'volboot store copy' or 'volboot store \
             import' again"
        ))),
        Some(BulkWork::Migrating { to, .. }) => Err(GuardError::Migrating(identity.schema, to)),
        None if identity.schema > schema.version() => {
            Err(GuardError::Newer(prefix.to_owned(), identity.schema, schema.version()))
        }
        None if identity.schema < schema.oldest => {
            Err(GuardError::Migrating(identity.schema, schema.version()))
        }
        None => Ok(()),
    }
}

/// Writes a new identity, if the prefix is empty. Another instance may do the same at the same time.
async fn create(client: &EtcdClient, layout: &Layout, schema: &Schema) -> Result<(), GuardError> {
    let request =
        RangeRequest { limit: 1, keys_only: true, ..all_under(layout.prefix().as_bytes().to_vec()) };
    let found = range(client, &request).await?.kvs;
    if let Some(key) = found.first().map(|kv| key_text(kv).unwrap_or_default().to_owned()) {
        if key.as_bytes() == layout.cluster() {
            return Ok(());
        }
        let prefix = layout.prefix();
        let message = format!("{prefix} in etcd holds keys that are not volboot's, such as {key}");
        return Err(GuardError::Refused(message));
    }
    let identity = Identity { id: Uuid::new_v4(), epoch: 1, schema: schema.version(), work: None };
    let value = identity.encode();
    let absent = Compare {
        result: EQUAL,
        target: CREATE,
        key: layout.cluster(),
        value: Some(CompareValue::CreateRevision(0)),
        range_end: Vec::new(),
    };
    // Every barrier needs a tick.
    let puts = [(layout.cluster(), value), (layout.tick(), Vec::new())];
    let puts = puts.map(|(key, value)| Operation::Put(PutRequest { key, value, lease: 0 }));
    let request = TxnRequest {
        compare: vec![absent],
        success: puts.map(|put| RequestOp { request: Some(put) }).into(),
        failure: Vec::new(),
    };
    let by = Instant::now() + DEADLINE;
    let _: TxnResponse = client.call("/etcdserverpb.KV/Txn", &request, by).await?;
    Ok(())
}

async fn range(client: &EtcdClient, request: &RangeRequest) -> Result<RangeResponse, RpcError> {
    client.call("/etcdserverpb.KV/Range", request, Instant::now() + DEADLINE).await
}
