//! The fallback of a node: watches the boots from its own volume, and boots it from another one after several failures.
//!
//! | file | content |
//! |---|---|
//! | [`mod@judge`] | the decision about a boot that has ended: pure |
//! | [`mod@choose`] | which volume a boot session gets; hands its script out |
//! | [`mod@find`] | the fallback that a boot would get, is in force, or may be running |
//! | [`mod@presence`] | asks whether a machine whose report is missing still answers on the network |
//! | [`mod@refused`] | refused connections, whose reports are lost |
//! | [`mod@sightings`] | the time since a script, by this instance's own clock |
//! | [`mod@reports`] | what a report says about a boot |
//! | [`mod@notes`] | reports on their way into the store |
//!
//! The count stands in the store and not in the history, which may lose events. Each write is a compare-and-swap, so that
//! several instances count together. Whatever cannot be written, read or measured makes the boot doubtful, and a doubtful boot
//! sets the count to 0: an outage of Cinder, of the storage or of volboot never brings the fallback into force.

mod choose;
mod find;
mod judge;
mod notes;
mod presence;
mod refused;
mod reports;
mod sightings;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::model::{
    BootStep, Fallback, FallbackSource, FallbackState, Mac, Node, Port, VolumeTarget, WatchedBoot,
    WatchedStage,
};
use crate::neighbours::Neighbours;
use crate::store::{FallbackChanges, FallbackRecords, Inventory, StoreError};
pub(super) use choose::BootChoice;
pub use find::FallbackAtBoot;
pub(super) use find::{FallbackBoot, storage_interface};
pub use judge::FallbackPolicy;
use notes::{PendingNotes, ReportNotes};
pub use presence::AttachedNetwork;
use presence::PresenceChecks;
use reports::ReportNote;
use sightings::FallbackSightings;

/// The pause between attempts to write notes or to read the change feed, after a failure of the store.
const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The cards whose ports are read at once. Strangers may invent addresses, and a read for each would take too long.
const CARDS_PER_READ: usize = 100;

/// Watches the boots of nodes with a fallback. Cheap to clone; clones share their state.
#[derive(Debug, Clone)]
pub struct FallbackWatch {
    inventory: Inventory,
    records: FallbackRecords,
    network: Arc<dyn AttachedNetwork>,
    shared: Arc<WatchShared>,
}

#[derive(Debug, Default)]
struct WatchShared {
    sightings: FallbackSightings,
    notes: ReportNotes,
    presence_checks: PresenceChecks,
    proxies: Mutex<Vec<IpNet>>,
}

impl FallbackWatch {
    /// Watches over these records.
    pub fn new(inventory: Inventory) -> Self {
        Self {
            records: inventory.fallbacks(),
            inventory,
            network: Arc::new(Neighbours::default()),
            shared: Arc::default(),
        }
    }

    /// Replaces the network on which machines are looked for.
    #[must_use]
    pub fn with_network(self, network: Arc<dyn AttachedNetwork>) -> Self {
        Self { network, ..self }
    }

    /// The same watch, whose reads are from another inventory: the last known records while the store does not respond.
    #[must_use]
    pub(super) fn on(&self, inventory: Inventory) -> Self {
        Self { records: inventory.fallbacks(), inventory, ..self.clone() }
    }

    /// Follows the states, and writes notes, until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(async { tokio::join!(self.follow(), self.write_notes()) }).await;
    }

    async fn follow(&self) {
        let mut revision = 0;
        loop {
            match self.records.wait_for_change(revision).await {
                Ok(changes) => {
                    revision = changes.revision;
                    // The times count from here.
                    self.shared.sightings.note_changes(&changes);
                    self.forget_missing(&changes);
                    for (node, state) in &changes.states {
                        self.follow_cards(*node, state.as_ref()).await;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot follow the fallbacks of nodes");
                    tokio::time::sleep(STORE_RETRY_DELAY).await;
                }
            }
        }
    }

    /// Forgets the nodes that a full list lacks: they lost their fallback.
    fn forget_missing(&self, changes: &FallbackChanges) {
        if !changes.is_full_list {
            return;
        }
        let present: HashSet<Uuid> = changes.states.iter().map(|(node, _)| *node).collect();
        for node in self.shared.notes.known_nodes().into_iter().filter(|node| !present.contains(node)) {
            self.forget(node);
        }
    }

    fn forget(&self, node: Uuid) {
        self.shared.presence_checks.end(node);
        self.shared.notes.forget_cards(node);
    }

    /// Follows the cards of a node with a fallback, whose reports must not be lost among those of strangers.
    async fn follow_cards(&self, node: Uuid, state: Option<&FallbackState>) {
        let Some(state) = state else { return self.forget(node) };
        let begins = state.boot.as_ref().is_some_and(|boot| boot.stage == WatchedStage::HandedOut);
        if begins || !self.shared.notes.knows(node) {
            // Without them, a dropped report makes the node doubtful.
            if let Err(error) = self.learn_cards(node).await {
                tracing::debug!(%node, %error, "cannot read the cards of a node with a fallback");
            }
        }
    }

    async fn learn_cards(&self, node: Uuid) -> Result<(), StoreError> {
        let ports: Vec<Port> = self.inventory.list_all_of(node).await?;
        self.shared.notes.learn_cards(node, ports.into_iter().map(|port| port.address));
        Ok(())
    }

    async fn write_notes(&self) {
        loop {
            self.shared.notes.wait().await;
            while let Err(error) = self.flush().await {
                tracing::warn!(%error, "cannot record boot reports for the fallbacks of nodes; retried");
                tokio::time::sleep(STORE_RETRY_DELAY).await;
            }
        }
    }

    /// Writes all notes.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        if let Some(dropped) = self.shared.notes.find_dropped() {
            for (node, _) in self.records.list().await? {
                self.learn_cards(node).await?;
            }
            self.shared.notes.forget_dropped(dropped);
        }
        let PendingNotes { by_card, all } = self.shared.notes.pending();
        let mut first = Ok(());
        for notes in by_card.chunks(CARDS_PER_READ) {
            first = first.and(self.write_notes_of(notes).await);
        }
        if let Some(doubt) = all {
            for (node, _) in self.records.list().await? {
                self.change(node, |boot| ReportNote::Doubt(doubt.reason).apply(boot)).await?;
            }
            self.shared.notes.forget_doubt_of_all(doubt);
        }
        first
    }

    /// Writes the notes of these cards, and forgets them. A damaged record stops only the notes of its own card.
    async fn write_notes_of(&self, by_card: &[(Mac, Vec<ReportNote>)]) -> Result<(), StoreError> {
        let cards: Vec<Mac> = by_card.iter().map(|(card, _)| *card).collect();
        let together = match self.inventory.find_ports(&cards).await {
            Ok(ports) => Some(ports),
            Err(StoreError::Damaged(_)) => None,
            Err(error) => return Err(error),
        };
        let mut first = Ok(());
        for (card, notes) in by_card {
            let written = match &together {
                Some(ports) => self.write_note(*card, ports, notes).await,
                None => match self.inventory.find_ports(&[*card]).await {
                    Ok(ports) => self.write_note(*card, &ports, notes).await,
                    Err(error) => Err(error),
                },
            };
            match written {
                Ok(()) => self.shared.notes.forget(*card, notes),
                Err(error) => first = first.and(Err(error)),
            }
        }
        first
    }

    async fn write_note(&self, card: Mac, ports: &[Port], notes: &[ReportNote]) -> Result<(), StoreError> {
        for port in ports.iter().filter(|port| port.address == card) {
            let node = port.node_uuid;
            if notes.contains(&ReportNote::Up) {
                self.note_up(node).await?;
                let has_state =
                    self.records.change(node, |state| state.reset("the node reported up")).await?;
                if !has_state {
                    continue;
                }
            }
            self.change(node, |boot| notes.iter().for_each(|note| note.apply(boot))).await?;
        }
        Ok(())
    }

    /// Notes the boot volume of a node whose operating system reported `up`. A report may come from a one-time boot, from the
    /// fallback or from a volume that the node has no more: those say nothing about the boot volume.
    async fn note_up(&self, node: Uuid) -> Result<(), StoreError> {
        let once = self.inventory.find_boot_once(node).await?;
        if once.is_some_and(|once| once.journey.is_some() || once.earlier_volume.is_some()) {
            return Ok(());
        }
        let targets: Vec<VolumeTarget> = self.inventory.list_all_of(node).await?;
        let Some(target) = targets.into_iter().find(|target| target.boot_index == 0) else { return Ok(()) };
        let Some(snapshot) = self.records.read(node, Some(target.uuid)).await? else { return Ok(()) };
        let Some(target) = &snapshot.target else { return Ok(()) };
        // A node without a fallback has no watched boot.
        let is_booted =
            snapshot.state.boot.as_ref().is_none_or(|boot| boot.volume == choose::name_own_volume(target));
        match FallbackSource::of_target(&snapshot.node.storage_interface, target) {
            Some(volume) if is_booted && !snapshot.state.may_run => self.records.note_up(node, &volume).await,
            Some(_) | None => Ok(()),
        }
    }

    async fn change(&self, node: Uuid, change: impl Fn(&mut WatchedBoot)) -> Result<bool, StoreError> {
        let change = |state: &mut FallbackState| {
            if let Some(boot) = &mut state.boot {
                change(boot);
            }
        };
        self.records.change(node, change).await
    }

    /// Takes a report of the machine with this card. Returns at once: the report is written in the background.
    pub fn note_report(&self, card: Mac, step: Option<&BootStep>, rc: Option<&str>) {
        self.shared.notes.push(card, ReportNote::of_report(step, rc));
    }

    /// Notes that a report in the name of this card was dropped. It may have been `up`.
    pub fn note_dropped_report(&self, card: Mac) {
        self.shared.notes.push(card, ReportNote::Doubt("a report of the machine was dropped"));
    }

    /// Notes that a machine boots from neither its own volume nor the fallback. Only nodes with a fallback are noted.
    pub(super) fn note_other_boot(&self, node: &Node, card: Mac) {
        if !matches!(Fallback::of(node), Ok(None)) {
            self.shared.notes.push(card, ReportNote::Doubt("the machine booted once from another volume"));
        }
    }

    /// Why nothing is known about the last boot of a node, whose machine named these cards: a report is not recorded yet.
    async fn find_unwritten_doubt(&self, node: Uuid, cards: &[Mac]) -> Option<&'static str> {
        if self.shared.notes.find_dropped().is_some() && self.learn_cards(node).await.is_err() {
            return Some("a report may have been dropped, and the cards of the node cannot be read");
        }
        self.shared.notes.find_doubt(node, cards)
    }

    /// The number of nodes that boot from their fallback.
    pub fn count_in_force(&self) -> usize {
        self.shared.sightings.count_in_force()
    }
}
