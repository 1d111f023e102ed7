//! What a rolling upgrade forbids: records that an instance of an older version would not respect.

use super::Inventory;
use crate::store::StoreError;
use crate::store::schema::BOOT_ONCE_AND_FALLBACK;

/// Why a new kind of record is refused.
const OLDER_INSTANCES: &str = "it takes no one-time boot and no fallback until every instance is upgraded";

impl Inventory {
    /// Fails while an instance of a version without one-time boots and fallbacks may be running: it would boot the node's own
    /// volumes, and leave the records and attachments of a deleted node behind.
    pub(super) fn check_all_upgraded(&self) -> Result<(), StoreError> {
        if self.store.schema()? >= BOOT_ONCE_AND_FALLBACK {
            return Ok(());
        }
        Err(StoreError::ReadOnly(OLDER_INSTANCES.into()))
    }
}
