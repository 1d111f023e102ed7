//! [`BulkWriter`]: changes of many records, in transactions that require that no other bulk work has begun since.
//!
//! A repeated transaction has the same effect, so a lost answer needs no more than a repetition. But the first attempt may
//! still arrive later, from a suspended member. So a deletion ends with a new revision of the identity: an attempt that arrives
//! after it is refused, and deletes nothing that was written since.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::client::EtcdClient;
use super::error::RpcError;
use super::identity::Identity;
use super::keys::{Layout, all_under, one};
use super::messages::{
    Compare, CompareValue, DeleteRangeRequest, EQUAL, KeyValue, LESS, MOD, Operation, OperationResult,
    RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse, etcd_revision, prefix_end, revision,
};
use super::transaction::{put, wrap};
use crate::store::contract::Revision;

/// The deadline of each transaction, over an election of etcd's leader.
const DEADLINE: Duration = Duration::from_secs(30);
/// The most operations of a transaction: below etcd's limit of 128.
const OPERATIONS: usize = 100;
/// The bytes of a transaction, unless one record is larger. etcd's limit is 1.5 MiB.
const BYTES: usize = 512 << 10;
/// Keys for each deletion of a range.
const DELETED: i64 = 2000;

/// Bulk work failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BulkError {
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The identity is no longer this work's.
    #[error("another copy, import or migration has begun")]
    Superseded,
}

/// The writer of one bulk work.
pub(super) struct BulkWriter<'a> {
    pub(super) client: &'a EtcdClient,
    pub(super) layout: &'a Layout,
    pub(super) identity: Identity,
    /// The revision of the identity's last change.
    revision: Revision,
}

impl<'a> BulkWriter<'a> {
    /// Begins bulk work by writing its identity, if the present one is of `revision` (0: there is none), and no key under
    /// the `untouched` prefixes was changed after their revisions.
    pub(super) async fn begin(
        client: &'a EtcdClient,
        layout: &'a Layout,
        identity: Identity,
        revision: Revision,
        untouched: &[(Vec<u8>, Revision)],
    ) -> Result<Self, BulkError> {
        let mut writer = Self { client, layout, identity: identity.clone(), revision };
        let untouched = untouched.iter().map(|(prefix, since)| Compare {
            result: LESS,
            target: MOD,
            key: prefix.clone(),
            value: Some(CompareValue::ModRevision(etcd_revision(since + 1))),
            range_end: prefix_end(prefix),
        });
        writer.replace_identity(identity, untouched.collect(), Vec::new()).await?;
        Ok(writer)
    }

    /// The revision of the identity's last change.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// Replaces the identity. With `ticks`, the records have changed: mirrors wait for them.
    pub(super) async fn set_identity(&mut self, identity: Identity, ticks: bool) -> Result<(), BulkError> {
        let tick = ticks.then(|| put(self.layout.tick(), Uuid::new_v4().to_string().into_bytes(), 0));
        self.replace_identity(identity, Vec::new(), tick.into_iter().collect()).await
    }

    async fn replace_identity(
        &mut self,
        identity: Identity,
        mut compare: Vec<Compare>,
        further: Vec<Operation>,
    ) -> Result<(), BulkError> {
        let (key, value) = (self.layout.cluster(), identity.encode());
        compare.push(self.own());
        let mut success = vec![wrap(put(key.clone(), value.clone(), 0))];
        success.extend(further.into_iter().map(wrap));
        let request = TxnRequest { compare, success, failure: vec![wrap(Operation::Range(one(key)))] };
        let answer = self.transact(&request).await?;
        if answer.succeeded {
            self.revision = answer.header.map_or(0, |header| revision(header.revision));
        } else {
            // An earlier attempt without an answer may have written it.
            let own = found(&answer).filter(|kv| kv.value == value).ok_or(BulkError::Superseded)?;
            self.revision = revision(own.mod_revision);
        }
        self.identity = identity;
        Ok(())
    }

    /// Applies operations, in as many transactions as it takes.
    pub(super) async fn write(&self, operations: Vec<Operation>) -> Result<(), BulkError> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        for operation in operations {
            let size = size(&operation);
            if group.len() == OPERATIONS || (bytes + size > BYTES && !group.is_empty()) {
                self.apply(std::mem::take(&mut group)).await?;
                bytes = 0;
            }
            bytes += size;
            group.push(wrap(operation));
        }
        if group.is_empty() { Ok(()) } else { self.apply(group).await }
    }

    async fn apply(&self, success: Vec<RequestOp>) -> Result<(), BulkError> {
        let request = TxnRequest { compare: vec![self.own()], success, failure: Vec::new() };
        let answer = self.transact(&request).await?;
        if answer.succeeded { Ok(()) } else { Err(BulkError::Superseded) }
    }

    /// Deletes all keys with a prefix, and renews the identity's revision if there were any.
    pub(super) async fn delete_all(&mut self, prefix: Vec<u8>) -> Result<(), BulkError> {
        let mut has_deleted = false;
        loop {
            let request = RangeRequest { limit: DELETED, keys_only: true, ..all_under(prefix.clone()) };
            let page = self.range(&request).await?.kvs;
            let (Some(first), Some(last)) = (page.first(), page.last()) else { break };
            has_deleted = true;
            let range_end = [last.key.as_slice(), &[0]].concat();
            let range = DeleteRangeRequest { key: first.key.clone(), range_end };
            self.write(vec![Operation::Delete(range)]).await?;
        }
        if has_deleted {
            self.replace_identity(self.identity.clone(), Vec::new(), Vec::new()).await?;
        }
        Ok(())
    }

    /// Reads a range.
    pub(super) async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, BulkError> {
        Ok(self.client.call_long("/etcdserverpb.KV/Range", request, Instant::now() + DEADLINE).await?)
    }

    async fn transact(&self, request: &TxnRequest) -> Result<TxnResponse, BulkError> {
        Ok(self.client.call_long("/etcdserverpb.KV/Txn", request, Instant::now() + DEADLINE).await?)
    }

    /// Requires that the identity is still this work's.
    fn own(&self) -> Compare {
        Compare {
            result: EQUAL,
            target: MOD,
            key: self.layout.cluster(),
            value: Some(CompareValue::ModRevision(etcd_revision(self.revision))),
            range_end: Vec::new(),
        }
    }
}

fn found(answer: &TxnResponse) -> Option<&KeyValue> {
    match answer.responses.first()?.response.as_ref()? {
        OperationResult::Range(range) => range.kvs.first(),
    }
}

fn size(operation: &Operation) -> usize {
    match operation {
        Operation::Put(put) => put.key.len() + put.value.len(),
        Operation::Delete(delete) => delete.key.len() + delete.range_end.len(),
        Operation::Range(_) | Operation::Transaction(_) => 0,
    }
}
