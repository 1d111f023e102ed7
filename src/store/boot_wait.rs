//! [`BootWait`]: how long a machine has waited in one boot attempt, for the next instance that it asks.
//!
//! The record holds ages, by the clock of the instance that wrote it, and no time. The time between two instances does
//! not count. There is at most one record per node: a machine that waits writes it every few seconds, and the end of the
//! wait deletes it. What a machine that was switched off leaves behind serves no other attempt.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::encoding::{decode, encode};
use super::{Attachments, Batch, StoreError, WriteError};
use crate::model::BootAttempt;

/// A machine's wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootWait {
    /// The boot attempt.
    pub attempt: BootAttempt,
    /// The seconds since its first request.
    pub waited: u64,
    /// The seconds since it waits because of a transient error, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transient: Option<u64>,
}

impl Attachments {
    /// Reads how long a node's machine has waited in this attempt.
    pub async fn read_wait(&self, node: Uuid, attempt: &BootAttempt) -> Result<Option<BootWait>, StoreError> {
        let Some(record) = self.store().get(&[key(node)]).await?.pop().flatten() else { return Ok(None) };
        let wait: BootWait = decode(&record)?.value;
        Ok((wait.attempt == *attempt).then_some(wait))
    }

    /// Writes how long a node's machine has waited.
    pub async fn write_wait(&self, node: Uuid, wait: &BootWait) -> Result<(), WriteError> {
        self.store().write(Batch::default().put(key(node), encode(wait)?)).await.map(drop)
    }

    /// Deletes the record of a wait that has ended.
    pub async fn delete_wait(&self, node: Uuid) -> Result<(), WriteError> {
        self.store().write(Batch::default().delete(key(node))).await.map(drop)
    }
}

fn key(node: Uuid) -> String {
    format!("boot-wait/{node}")
}
