//! The guard of the prefix: `meta/cluster` holds the identity of the records below it.
//!
//! A mirror belongs to one identity. Another one below the configured prefix, or none any more, means a wrong prefix, a
//! deleted prefix or another etcd: the store then stays unavailable, and the mirror unchanged. A higher *epoch* of the
//! same identity means that a backup was restored. Revisions may have gone back, so the mirror is loaded again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use super::client::EtcdClient;
use super::error::RpcError;
use super::keys::{Layout, all_under, one};
use super::messages::{
    CREATE, Compare, CompareValue, EQUAL, Operation, PutRequest, RangeRequest, RangeResponse, RequestOp,
    TxnRequest, TxnResponse, key_text,
};
use crate::store::schema;

/// The deadline of each call.
const DEADLINE: Duration = Duration::from_secs(2);

/// The identity of the records below a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Never changes.
    id: Uuid,
    /// Increased by each restoration of a backup.
    epoch: u64,
    /// The schema of keys and values.
    schema: u64,
}

/// The records cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum GuardError {
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// They are others than before, or none. An operator must decide.
    #[error("{0}")]
    Refused(String),
    #[error("{0} has schema {1}, this volboot supports schema {supported}", supported = schema::version(schema::STEPS))]
    Schema(String, u64),
}

/// Reads the identity below the prefix, or creates one below an empty prefix. `known` is the mirror's.
pub(super) async fn verify(
    client: &EtcdClient,
    layout: &Layout,
    known: Option<&str>,
) -> Result<String, GuardError> {
    let prefix = layout.prefix();
    let mut text = read(client, layout).await?;
    if text.is_none() && known.is_none() {
        create(client, layout).await?;
        text = read(client, layout).await?;
    }
    let Some(text) = text else {
        return Err(GuardError::Refused(format!("{prefix} in etcd has lost its records: restore a backup")));
    };
    let refused = |_| GuardError::Refused(format!("{prefix}meta/cluster in etcd is not volboot's"));
    let identity: Identity = serde_json::from_str(&text).map_err(refused)?;
    if identity.schema != schema::version(schema::STEPS) {
        return Err(GuardError::Schema(prefix.to_owned(), identity.schema));
    }
    let before = known.and_then(|text| serde_json::from_str::<Identity>(text).ok());
    if before.is_some_and(|before| before.id != identity.id) {
        return Err(GuardError::Refused(format!(
            "{prefix} in etcd holds the records of another cluster than the local mirror: correct the \
             endpoints or the prefix, or move the mirror away"
        )));
    }
    Ok(text)
}

async fn read(client: &EtcdClient, layout: &Layout) -> Result<Option<String>, RpcError> {
    let response = range(client, &one(layout.cluster())).await?;
    Ok(response.kvs.into_iter().next().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
}

/// Writes a new identity, if the prefix is empty. Another instance may do the same at the same time.
async fn create(client: &EtcdClient, layout: &Layout) -> Result<(), GuardError> {
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
    let identity = Identity { id: Uuid::new_v4(), epoch: 1, schema: schema::version(schema::STEPS) };
    // Cannot fail: the identity has numbers and a UUID.
    let value = serde_json::to_vec(&identity).unwrap_or_default();
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
