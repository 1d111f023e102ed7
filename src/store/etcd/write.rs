//! [`TransactionWriter`]: transactions whose outcome is always found out, even if the answer is lost.
//!
//! A request without an answer may have been applied, and may still be applied later: a suspended member can wake up and
//! forward it. So each transaction uses a *slot*, a key of this writer whose revision it requires and changes. After a
//! lost answer, a second transaction with the same requirement takes the slot instead. Exactly one of the two is applied,
//! and the slot's value names it. Only then is the outcome reported, or the transaction repeated.
//!
//! A key may occur only once in a transaction, so a deletion and a put of one key are merged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch as channel};
use tokio::time::Instant;
use uuid::Uuid;

use super::client::EtcdClient;
use super::error::RpcError;
use super::keys::{Layout, one};
use super::messages::{KeyValue, Operation, PutRequest, PutResponse, TxnRequest, TxnResponse, revision};
use super::transaction::{
    Check, Fence, Test, build, compare, delete, header_revision, put, ranges, read_failure, wrap,
};
use crate::store::contract::{Batch, Condition, Revision};

/// Concurrent transactions; others wait.
const SLOTS: usize = 32;
/// The deadline over all attempts of a transaction.
const DEADLINE: Duration = Duration::from_secs(6);
const TXN: &str = "/etcdserverpb.KV/Txn";

/// The outcome of a transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TransactionOutcome {
    /// It was applied, at this revision.
    Applied(Revision),
    /// It was not applied: the check with this index failed.
    Failed(usize),
}

/// Writes transactions.
pub(super) struct TransactionWriter {
    client: Arc<EtcdClient>,
    layout: Layout,
    /// The mirror's identity, which names the slots.
    mirror: String,
    /// The identity that every write of records requires.
    served: channel::Receiver<Option<String>>,
    permits: Semaphore,
    free: Mutex<Vec<Slot>>,
    /// Distinguishes the transactions of this process from those of earlier ones.
    run: String,
    sequence: AtomicU64,
}

/// A key whose revision this writer knows; `None`: to be written first.
#[derive(Debug)]
struct Slot {
    number: usize,
    revision: Option<Revision>,
}

/// What a transaction, or the loss of its answer, has brought.
enum Attempt {
    Done(TransactionOutcome),
    /// It was not applied, for no reason of its checks.
    Repeat,
}

impl TransactionWriter {
    pub(super) fn new(
        client: Arc<EtcdClient>,
        layout: Layout,
        mirror: &str,
        served: channel::Receiver<Option<String>>,
    ) -> Self {
        let free = (0..SLOTS).map(|number| Slot { number, revision: None }).collect();
        Self {
            client,
            layout,
            mirror: mirror.to_owned(),
            served,
            permits: Semaphore::new(SLOTS),
            free: Mutex::new(free),
            run: Uuid::new_v4().to_string(),
            sequence: AtomicU64::new(0),
        }
    }

    /// Commits a batch of records. The second part of a failure is the condition.
    pub(super) async fn write(&self, batch: Batch) -> Result<Result<Revision, Condition>, RpcError> {
        let released = batch.release.iter().cloned().map(Condition::Held);
        let mut conditions: Vec<Condition> = batch.conditions.into_iter().chain(released).collect();
        // A repeated condition would be a repeated key.
        let mut seen = Vec::new();
        conditions.retain(|condition| {
            !seen.contains(condition) && {
                seen.push(condition.clone());
                true
            }
        });
        let checks = conditions.iter().map(|condition| self.check(condition)).collect();
        let mut operations: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let mut merged: Vec<Operation> = Vec::new();
        let deleted = batch.delete.iter().map(|key| self.layout.record(key));
        let released = batch.release.iter().map(|claim| self.layout.claim(&claim.work));
        let deletions = deleted.chain(released).map(|key| (key.clone(), delete(key)));
        let puts = batch.put.into_iter().map(|(key, value)| {
            let key = self.layout.record(&key);
            (key.clone(), put(key, value, 0))
        });
        for (key, operation) in deletions.chain(puts) {
            if let Some(at) = operations.get(&key) {
                merged[*at] = operation;
            } else {
                operations.insert(key, merged.len());
                merged.push(operation);
            }
        }
        Ok(match self.commit(checks, merged, true).await? {
            TransactionOutcome::Applied(revision) => Ok(revision),
            TransactionOutcome::Failed(at) => Err(conditions.swap_remove(at)),
        })
    }

    /// Commits a transaction. `ticks`: it changes records.
    pub(super) async fn commit(
        &self,
        checks: Vec<Check>,
        operations: Vec<Operation>,
        ticks: bool,
    ) -> Result<TransactionOutcome, RpcError> {
        let by = Instant::now() + DEADLINE;
        let busy = || RpcError::Unreachable("too many writes wait for an answer".into());
        let permit = tokio::time::timeout_at(by, self.permits.acquire()).await.map_err(|_| busy())?;
        let permit = permit.map_err(|_| busy())?;
        let slot = self.free.lock().pop().unwrap_or(Slot { number: SLOTS, revision: None });
        // A caller that no longer waits must not lose the slot.
        let mut slot = SlotGuard { slot, free: &self.free };
        let result = self.commit_in(&mut slot.slot, &checks, &operations, ticks, by).await;
        if result.is_err() {
            // A late request then requires a revision that is gone.
            slot.slot.revision = None;
        }
        drop((slot, permit));
        result
    }

    async fn commit_in(
        &self,
        slot: &mut Slot,
        checks: &[Check],
        operations: &[Operation],
        ticks: bool,
        by: Instant,
    ) -> Result<TransactionOutcome, RpcError> {
        let key = self.layout.writer(&self.mirror, slot.number);
        let mut attempts = 0;
        loop {
            let known = match slot.revision {
                Some(known) => known,
                None => self.take_slot(&key, by).await?,
            };
            // Unknown, should the caller stop to wait.
            slot.revision = None;
            let name = format!("{}/{}", self.run, self.sequence.fetch_add(1, Ordering::Relaxed));
            let mut own = vec![put(key.clone(), name.clone().into_bytes(), 0)];
            let mut fence = None;
            if ticks {
                own.push(put(self.layout.tick(), name.clone().into_bytes(), 0));
                fence = Some(self.fence().inspect_err(|_| slot.revision = Some(known))?);
            }
            let request = build(&key, known, fence.as_ref(), checks, operations, own)?;
            let answer = self.client.call_once::<_, TxnResponse>(TXN, &request, by).await;
            let attempt = match answer {
                Ok(answer) if answer.succeeded => {
                    let revision = header_revision(&answer);
                    slot.revision = Some(revision);
                    Attempt::Done(TransactionOutcome::Applied(revision))
                }
                Ok(answer) => {
                    let failure = read_failure(fence.as_ref(), checks, &answer);
                    slot.revision = failure.slot;
                    if failure.is_fenced {
                        let cause = "the records are copied, migrated or restored; nothing was written";
                        return Err(RpcError::NotServed(cause.into()));
                    }
                    let failed = |at| Attempt::Done(TransactionOutcome::Failed(at));
                    failure.check.map_or(Attempt::Repeat, failed)
                }
                Err(error) if error.is_unreachable() => self.settle(slot, &key, known, &name, by).await?,
                Err(error) => {
                    slot.revision = Some(known);
                    return Err(error);
                }
            };
            match attempt {
                Attempt::Done(outcome) => return Ok(outcome),
                Attempt::Repeat => attempts += 1,
            }
            if !self.client.pause(attempts, by).await {
                return Err(RpcError::Unreachable("no answer in time; nothing was written".into()));
            }
        }
    }

    /// The identity that the mirror shows, as a requirement.
    fn fence(&self) -> Result<Fence, RpcError> {
        let served = self.served.borrow().clone();
        let value =
            served.ok_or_else(|| RpcError::NotServed("the records in etcd are not verified yet".into()))?;
        Ok(Fence { key: self.layout.cluster(), value: value.into_bytes() })
    }

    /// Writes a slot, and so ends every earlier transaction that requires its revision.
    async fn take_slot(&self, key: &[u8], by: Instant) -> Result<Revision, RpcError> {
        let request = PutRequest { key: key.to_vec(), value: self.run.clone().into_bytes(), lease: 0 };
        let answer: PutResponse = self.client.call("/etcdserverpb.KV/Put", &request, by).await?;
        Ok(answer.header.map_or(0, |header| revision(header.revision)))
    }

    /// Finds out whether a transaction without an answer was applied; if not, it never will be.
    async fn settle(
        &self,
        slot: &mut Slot,
        key: &[u8],
        known: Revision,
        name: &str,
        by: Instant,
    ) -> Result<Attempt, RpcError> {
        let request = TxnRequest {
            compare: vec![compare(&Check { key: key.to_vec(), test: Test::Changed(known) })],
            success: vec![wrap(put(key.to_vec(), format!("{name} ended").into_bytes(), 0))],
            failure: vec![wrap(Operation::Range(one(key.to_vec())))],
        };
        let unknown = |error: RpcError| match error {
            RpcError::Unreachable(cause) => {
                RpcError::Unreachable(format!("{cause}; the change may be in effect"))
            }
            error => error,
        };
        let answer: TxnResponse = self.client.call(TXN, &request, by).await.map_err(unknown)?;
        if answer.succeeded {
            slot.revision = Some(header_revision(&answer));
            return Ok(Attempt::Repeat);
        }
        let Some(found) = ranges(&answer).next().and_then(<[KeyValue]>::first) else {
            return Ok(Attempt::Repeat);
        };
        slot.revision = Some(revision(found.mod_revision));
        if found.value == name.as_bytes() {
            tracing::debug!(name, "write without an answer was applied");
            return Ok(Attempt::Done(TransactionOutcome::Applied(revision(found.mod_revision))));
        }
        Ok(Attempt::Repeat)
    }

    fn check(&self, condition: &Condition) -> Check {
        match condition {
            Condition::Unchanged(key, revision) => {
                Check { key: self.layout.record(key), test: Test::Changed(*revision) }
            }
            Condition::Absent(key) => Check { key: self.layout.record(key), test: Test::Created(0) },
            Condition::Untouched(prefix, revision) => {
                Check { key: self.layout.record(prefix), test: Test::Untouched(*revision) }
            }
            Condition::Held(claim) => {
                Check { key: self.layout.claim(&claim.work), test: Test::Created(claim.revision) }
            }
        }
    }
}

/// Puts the slot back, also if the caller is cancelled.
struct SlotGuard<'a> {
    slot: Slot,
    free: &'a Mutex<Vec<Slot>>,
}

impl Drop for SlotGuard<'_> {
    fn drop(&mut self) {
        self.free.lock().push(Slot { number: self.slot.number, revision: self.slot.revision });
    }
}
