//! [`NodeCache`]: the nodes of the machines that sent DHCP requests a moment ago.
//!
//! A boot has several requests within a second, and each would read three records. An entry holds until the next write to
//! the store, and for a second at most.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::model::{DhcpAnswer, Mac};
use crate::store::{Inventory, Revision};

const MAX_AGE: Duration = Duration::from_secs(1);
/// Most entries: a full cache starts anew.
const MAX_MACHINES: usize = 4096;

/// A machine's node with its name, and the reason why the machine gets no answer.
pub(super) type FoundNode = (Option<(Uuid, Option<String>)>, Option<DhcpAnswer>);

/// The cache of one configuration. Clones share their entries.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeCache(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    /// The store's last known revision.
    revision: Revision,
    by_machine: HashMap<Mac, (Instant, FoundNode)>,
}

impl NodeCache {
    /// Returns the entry of a machine, or the revision for [`NodeCache::insert`].
    pub(super) fn find(&self, inventory: &Inventory, mac: Mac, now: Instant) -> Result<FoundNode, Revision> {
        let mut entries = self.0.lock();
        if let Some(revision) = inventory.revision_after(entries.revision) {
            entries.revision = revision;
            entries.by_machine.clear();
        }
        let entry = entries.by_machine.get(&mac);
        let fresh = entry.filter(|(read_at, _)| now.saturating_duration_since(*read_at) < MAX_AGE);
        fresh.map(|(_, found)| found.clone()).ok_or(entries.revision)
    }

    /// Adds an entry that was read after [`NodeCache::find`].
    pub(super) fn insert(&self, mac: Mac, found: FoundNode, revision: Revision, now: Instant) {
        let mut entries = self.0.lock();
        if entries.revision != revision {
            return;
        }
        if entries.by_machine.len() >= MAX_MACHINES {
            entries.by_machine.clear();
        }
        entries.by_machine.insert(mac, (now, found));
    }
}
