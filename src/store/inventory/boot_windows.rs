//! The boot windows of nodes: one small record per node that volboot has switched on.
//!
//! Every change is a conditional write, so that two instances never grant one window to two boot sessions. The record goes
//! with its node.

use uuid::Uuid;

use super::write::{ATTEMPTS, conflict_limit_error};
use super::{Inventory, decode};
use crate::model::BootWindow;
use crate::store::encoding::{encode, encode_update};
use crate::store::keys::{WINDOWS, guard_key, window_key};
use crate::store::{Batch, StoreError, WriteError};

/// Records per read when all windows are listed.
const PAGE: usize = 200;

/// The change of a boot window: the next record, or the result without a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowChange<T> {
    /// Writes the record.
    Write(BootWindow, T),
    /// Deletes the record.
    Delete(T),
    /// Leaves the record as it is.
    Keep(T),
}

impl Inventory {
    /// Reads a node's boot window.
    pub async fn read_boot_window(&self, node: Uuid) -> Result<Option<BootWindow>, StoreError> {
        let record = self.store.get(&[window_key(node)]).await?.pop().flatten();
        record.map(|record| Ok(decode::<BootWindow>(&record)?.value)).transpose()
    }

    /// Replaces a node's boot window, and returns the last record. The window of a node that is gone is not written.
    pub async fn open_boot_window(
        &self,
        node: Uuid,
        window: &BootWindow,
    ) -> Result<Option<BootWindow>, StoreError> {
        let replace = |last: Option<&BootWindow>| WindowChange::Write(window.clone(), last.cloned());
        self.change_boot_window(node, replace).await
    }

    /// Restores the record that a window has replaced, after the BMC refused the power-on. A window that was opened since
    /// stays.
    pub async fn restore_boot_window(
        &self,
        node: Uuid,
        refused: &BootWindow,
        last: Option<&BootWindow>,
    ) -> Result<(), StoreError> {
        let restore = |present: Option<&BootWindow>| match (present, last) {
            (Some(present), Some(last)) if present.opened_at == refused.opened_at => {
                WindowChange::Write(last.restored(present), ())
            }
            (Some(present), None) if present.opened_at == refused.opened_at => WindowChange::Delete(()),
            _ => WindowChange::Keep(()),
        };
        self.change_boot_window(node, restore).await
    }

    /// Deletes a node's boot window.
    pub async fn delete_boot_window(&self, node: Uuid) -> Result<(), StoreError> {
        match self.store.write(Batch::default().delete(window_key(node))).await {
            Ok(_) => Ok(()),
            Err(WriteError::Store(error)) => Err(error),
            Err(WriteError::Conflict(condition)) => Err(StoreError::Unavailable(condition.to_string())),
        }
    }

    /// Changes a node's boot window by a conditional write; after a write conflict, `change` is called again with the
    /// present record. Returns the result of the last call.
    pub async fn change_boot_window<T>(
        &self,
        node: Uuid,
        mut change: impl FnMut(Option<&BootWindow>) -> WindowChange<T>,
    ) -> Result<T, StoreError> {
        let key = window_key(node);
        for _ in 0..ATTEMPTS {
            let mut records = self.store.get(&[key.clone(), guard_key(node)]).await?.into_iter();
            let (record, guard) = (records.next().flatten(), records.next().flatten());
            let window = record.as_ref().map(decode::<BootWindow>).transpose()?;
            let (next, result) = match change(window.as_ref().map(|window| &window.value)) {
                WindowChange::Keep(result) => return Ok(result),
                WindowChange::Write(next, result) => (Some(next), result),
                WindowChange::Delete(result) => (None, result),
            };
            // Without its guard, the node is gone, and a record would remain for ever.
            let Some(guard) = guard else { return Ok(result) };
            let batch = Batch::default().require_unchanged(guard.key, guard.revision);
            let batch = match &record {
                Some(record) => batch.require_unchanged(&key, record.revision),
                None => batch.require_absent(&key),
            };
            let is_same = |next: &BootWindow| {
                window.as_ref().is_some_and(|window| window.value.opened_at == next.opened_at)
            };
            let batch = match (next, &record) {
                (Some(next), Some(record)) if is_same(&next) => {
                    batch.put(&key, encode_update(record, &next)?)
                }
                (Some(next), _) => batch.put(&key, encode(&next)?),
                (None, _) => batch.delete(&key),
            };
            match self.store.write(batch).await {
                Ok(_) => return Ok(result),
                Err(WriteError::Conflict(_)) => {}
                Err(WriteError::Store(error)) => return Err(error),
            }
        }
        Err(conflict_limit_error())
    }

    /// Lists the nodes whose machines were to boot from the network and have not sent a request yet.
    pub async fn list_awaited_machines(&self) -> Result<Vec<Uuid>, StoreError> {
        let mut awaited = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(WINDOWS, after.as_deref(), PAGE).await?;
            for record in &page {
                let node = record.key.strip_prefix(WINDOWS).and_then(|node| node.parse().ok());
                if let Some(node) = node
                    && decode::<BootWindow>(record)?.value.awaits_request
                {
                    awaited.push(node);
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
                _ => return Ok(awaited),
            }
        }
    }
}
