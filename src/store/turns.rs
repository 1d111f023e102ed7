//! [`TurnShares`]: how the instances divide the limit of concurrent resolutions.
//!
//! One record for all instances, changed by compare-and-swap. The share of a session that has ended is free.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::encoding::{decode, encode};
use super::{Attachments, Batch, Revision, StoreError, WriteError};

/// The key of the record.
const KEY: &str = "slots";

/// The share of one instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnShare {
    /// The resolutions that it may run concurrently.
    pub turns: usize,
    /// The resolutions that wait for a turn.
    pub queued: usize,
    /// Counts the times at which the instance has confirmed its share while others waited.
    #[serde(default)]
    pub confirmations: u64,
}

/// The shares by session, and the revision of the record, if it exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TurnShares {
    /// By session.
    pub shares: BTreeMap<String, TurnShare>,
    /// The revision of the record.
    pub revision: Option<Revision>,
}

impl Attachments {
    /// Reads the shares.
    pub async fn read_turns(&self) -> Result<TurnShares, StoreError> {
        let Some(record) = self.store().get(&[KEY.to_owned()]).await?.pop().flatten() else {
            return Ok(TurnShares::default());
        };
        let shares = decode(&record)?;
        Ok(TurnShares { shares: shares.value, revision: Some(shares.revision) })
    }

    /// Writes the shares, unless another instance changed them since they were read. Returns whether they were written.
    pub async fn write_turns(&self, shares: &TurnShares) -> Result<bool, StoreError> {
        let batch = match shares.revision {
            Some(revision) => Batch::default().require_unchanged(KEY, revision),
            None => Batch::default().require_absent(KEY),
        };
        match self.store().write(batch.put(KEY, encode(&shares.shares)?)).await {
            Ok(_) => Ok(true),
            Err(WriteError::Conflict(_)) => Ok(false),
            Err(WriteError::Store(error)) => Err(error),
        }
    }
}
