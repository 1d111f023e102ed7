//! Reports of *hooked* and *up* on their way into the records of a node.
//!
//! A report arrives once. A lost report would leave a boot window open, or with `[boot] window_reboot` refuse the next boot. So
//! volboot repeats the write of each report until the store takes the change. At most [`MAX_RETRIES`] reports wait at once; others are given up. A window
//! that was opened after a report is not ended by it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::Boot;
use crate::model::{BootWindowStage, Mac};
use crate::store::StoreError;

/// The reports that wait for the store at once.
const MAX_RETRIES: usize = 4096;

/// The pause between attempts, after a failure of the store.
const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The places for reports that wait for the store.
#[derive(Debug)]
pub(super) struct ReportPlaces(Semaphore);

impl Default for ReportPlaces {
    fn default() -> Self {
        Self(Semaphore::new(MAX_RETRIES))
    }
}

impl Boot {
    /// Notes a report of the machine with this card: the volumes are hooked, or the operating system is up. Returns once the
    /// report is written or given up.
    pub async fn note_boot(&self, card: Mac, stage: BootWindowStage) {
        let reported_at = Timestamp::now();
        let mut place = None;
        while let Err(error) = self.write_report(card, stage, reported_at).await {
            if place.is_none() {
                place = self.report_places.0.try_acquire().ok();
                let is_given_up = place.is_none();
                tracing::warn!(%card, %error, is_given_up, "cannot write a boot report to the node's records");
                if is_given_up {
                    return;
                }
            }
            sleep(STORE_RETRY_DELAY).await;
        }
    }

    async fn write_report(
        &self,
        card: Mac,
        stage: BootWindowStage,
        reported_at: Timestamp,
    ) -> Result<(), StoreError> {
        for port in self.inventory.find_ports(&[card]).await? {
            if stage == BootWindowStage::Hooked {
                self.attach.note_hooked(port.node_uuid, card).await;
            }
            self.end_window(port.node_uuid, stage, reported_at).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::SignedDuration;
    use uuid::Uuid;

    use super::*;
    use crate::attach::{Attach, Policy};
    use crate::model::{BootWindow, BootWindowPolicy, Node, Port, StorageInterface};
    use crate::store::{Attachments, Inventory, MemoryStore, Store};
    use crate::timeline::LoopDetector;

    const NODE: Uuid = Uuid::from_u128(1);
    const CARD: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);

    /// A node with a BMC, whose boot window was opened that long ago.
    async fn site(age: SignedDuration) -> (Arc<MemoryStore>, Boot) {
        let store = Arc::new(MemoryStore::default());
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let inventory = Inventory::new(Arc::clone(&shared));
        let now = Timestamp::now();
        let node = Node::new(NODE, "redfish", StorageInterface::External, now);
        inventory.create(&node).await.expect("creates");
        inventory.create(&Port::new(Uuid::new_v4(), NODE, CARD, now)).await.expect("creates");
        inventory.open_boot_window(NODE, &BootWindow::open(now - age, true)).await.expect("opens");
        let attach = Attach::new(Attachments::new(shared), None, Policy::default());
        let policy = BootWindowPolicy { duration: Duration::from_secs(900), reboot: false };
        let boot = Boot::new(inventory, attach, Arc::new(LoopDetector::default()), []);
        (store, boot.with_window(Some(policy)))
    }

    async fn stage(boot: &Boot) -> BootWindowStage {
        boot.inventory.read_boot_window(NODE).await.expect("reads").expect("exists").stage
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_waits_until_the_store_takes_it() {
        let (store, boot) = site(SignedDuration::from_mins(1)).await;
        store.set_outage(Some("no leader"));
        let noting = boot.clone();
        let task = tokio::spawn(async move { noting.note_boot(CARD, BootWindowStage::Up).await });
        sleep(Duration::from_mins(10)).await;
        assert!(!task.is_finished(), "the report is given up");
        store.set_outage(None);
        task.await.expect("no panic");
        assert_eq!(stage(&boot).await, BootWindowStage::Up);
    }

    #[tokio::test(start_paused = true)]
    async fn the_reports_that_wait_are_limited() {
        let (store, boot) = site(SignedDuration::from_mins(1)).await;
        store.set_outage(Some("no leader"));
        let places = boot.report_places.0.try_acquire_many(MAX_RETRIES as u32).expect("are free");
        boot.note_boot(CARD, BootWindowStage::Up).await;
        drop(places);
        store.set_outage(None);
        assert_eq!(stage(&boot).await, BootWindowStage::Open);
    }

    #[tokio::test]
    async fn a_report_ends_no_window_that_was_opened_later() {
        for (age, expected) in
            [(60, BootWindowStage::Up), (-1, BootWindowStage::Up), (-60, BootWindowStage::Open)]
        {
            let (_store, boot) = site(SignedDuration::from_secs(age)).await;
            boot.note_boot(CARD, BootWindowStage::Up).await;
            assert_eq!(stage(&boot).await, expected, "opened {age} s before");
        }
    }
}
