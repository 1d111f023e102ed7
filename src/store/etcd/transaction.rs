//! Transactions of etcd: their requirements, their limits, and what a failed one says.
//!
//! etcd limits a transaction to 128 conditions and 128 operations. Nested transactions lift the second limit: along each
//! path, the larger of conditions and operations counts.

use super::error::RpcError;
use super::keys::one;
use super::messages::{
    CREATE, Compare, CompareValue, DeleteRangeRequest, EQUAL, KeyValue, LESS, MOD, Operation,
    OperationResult, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse, VALUE, etcd_revision,
    prefix_end, revision,
};
use crate::store::contract::Revision;

/// etcd's default limit of conditions, and of operations (`--max-txn-ops`).
const MAX_OPERATIONS: usize = 128;
/// The most conditions of a transaction. The rest of etcd's limit is for nested operations.
const MAX_CHECKS: usize = 122;
/// Operations beside those of the batch: the slot and the tick.
const OWN_OPERATIONS: usize = 2;

/// A requirement of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) key: Vec<u8>,
    pub(super) test: Test,
}

/// What a [`Check`] requires of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    /// The key was last changed at this revision; 0: the key does not exist.
    Changed(Revision),
    /// The key was created at this revision; 0: the key does not exist.
    Created(Revision),
    /// No key with this prefix was changed after this revision.
    Untouched(Revision),
}

/// The required value of the identity.
pub(super) struct Fence {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// Why a transaction was not applied.
pub(super) struct TransactionFailure {
    /// The slot's revision; `None`: it is gone.
    pub(super) slot: Option<Revision>,
    /// The index of the failed check; `None`: only the slot has changed.
    pub(super) check: Option<usize>,
    /// Whether the identity is another one than required.
    pub(super) is_fenced: bool,
}

/// Reads the branch of a failed transaction that [`build`] has built.
pub(super) fn read_failure(
    fence: Option<&Fence>,
    checks: &[Check],
    answer: &TxnResponse,
) -> TransactionFailure {
    let mut found = ranges(answer);
    let slot = found.next().and_then(<[KeyValue]>::first).map(|kv| revision(kv.mod_revision));
    let is_other = |kvs: Option<&[KeyValue]>, fence: &Fence| {
        kvs.and_then(<[KeyValue]>::first).is_none_or(|kv| kv.value != fence.value)
    };
    let is_fenced = fence.is_some_and(|fence| is_other(found.next(), fence));
    let check = checks.iter().zip(found).position(|(check, kvs)| {
        let first = kvs.first();
        match check.test {
            Test::Changed(expected) => first.map_or(0, |kv| revision(kv.mod_revision)) != expected,
            Test::Created(expected) => first.map_or(0, |kv| revision(kv.create_revision)) != expected,
            Test::Untouched(_) => first.is_some(),
        }
    });
    TransactionFailure { slot, check, is_fenced }
}

/// The results of the ranges of a transaction's branch.
pub(super) fn ranges(answer: &TxnResponse) -> impl Iterator<Item = &[KeyValue]> {
    let results = answer.responses.iter().filter_map(|response| response.response.as_ref());
    results.map(|OperationResult::Range(range)| range.kvs.as_slice())
}

pub(super) fn header_revision(answer: &TxnResponse) -> Revision {
    answer.header.as_ref().map_or(0, |header| revision(header.revision))
}

/// Builds a transaction within etcd's limits.
pub(super) fn build(
    slot: &[u8],
    known: Revision,
    fence: Option<&Fence>,
    checks: &[Check],
    operations: &[Operation],
    own: Vec<Operation>,
) -> Result<TxnRequest, RpcError> {
    let refuse = |what: &str, count: usize| {
        Err(RpcError::Refused(format!("a write with {count} {what} is too large for etcd")))
    };
    if checks.len() > MAX_CHECKS {
        return refuse("conditions", checks.len());
    }
    let slot_check = Check { key: slot.to_vec(), test: Test::Changed(known) };
    let compare_fence = fence.map(|fence| Compare {
        result: EQUAL,
        target: VALUE,
        key: fence.key.clone(),
        value: Some(CompareValue::Value(fence.value.clone())),
        range_end: Vec::new(),
    });
    let probes = std::iter::once(probe(&slot_check))
        .chain(fence.map(|fence| one(fence.key.clone())))
        .chain(checks.iter().map(probe));
    let mut request = TxnRequest {
        compare: std::iter::once(compare(&slot_check))
            .chain(compare_fence)
            .chain(checks.iter().map(compare))
            .collect(),
        success: own.into_iter().map(wrap).collect(),
        failure: probes.map(|range| wrap(Operation::Range(range))).collect(),
    };
    if operations.len() + OWN_OPERATIONS <= MAX_OPERATIONS {
        request.success.extend(operations.iter().cloned().map(wrap));
        return Ok(request);
    }
    let outer = request.compare.len().max(MAX_OPERATIONS / 2);
    let inner = MAX_OPERATIONS - outer;
    if operations.len() > inner * (outer - OWN_OPERATIONS) {
        return refuse("changes", operations.len());
    }
    request.success.extend(operations.chunks(inner).map(|group| {
        let success = group.iter().cloned().map(wrap).collect();
        wrap(Operation::Transaction(TxnRequest { success, ..TxnRequest::default() }))
    }));
    Ok(request)
}

/// The comparison of a check.
pub(super) fn compare(check: &Check) -> Compare {
    let (result, target, value) = match check.test {
        Test::Changed(expected) => (EQUAL, MOD, CompareValue::ModRevision(etcd_revision(expected))),
        Test::Created(expected) => (EQUAL, CREATE, CompareValue::CreateRevision(etcd_revision(expected))),
        Test::Untouched(since) => (LESS, MOD, CompareValue::ModRevision(etcd_revision(since + 1))),
    };
    let range_end = match check.test {
        Test::Untouched(_) => prefix_end(&check.key),
        Test::Changed(_) | Test::Created(_) => Vec::new(),
    };
    Compare { result, target, key: check.key.clone(), value: Some(value), range_end }
}

/// The range that shows whether a check failed.
fn probe(check: &Check) -> RangeRequest {
    let mut range = RangeRequest { keys_only: true, ..one(check.key.clone()) };
    if let Test::Untouched(since) = check.test {
        range.range_end = prefix_end(&check.key);
        range.min_mod_revision = etcd_revision(since + 1);
        range.limit = 1;
    }
    range
}

pub(super) fn put(key: Vec<u8>, value: Vec<u8>, lease: i64) -> Operation {
    Operation::Put(PutRequest { key, value, lease })
}

pub(super) fn delete(key: Vec<u8>) -> Operation {
    Operation::Delete(DeleteRangeRequest { key, range_end: Vec::new() })
}

pub(super) fn wrap(operation: Operation) -> RequestOp {
    RequestOp { request: Some(operation) }
}
