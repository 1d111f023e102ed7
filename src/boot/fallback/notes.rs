//! [`ReportNotes`]: reports on their way into the store, and reports that were dropped.
//!
//! A count that misses a report would be wrong, so nothing is lost silently: what cannot be written is kept and written
//! later, and what cannot be kept makes boots doubtful. A crash makes boots doubtful too: the instance then has
//! another session.
//!
//! Any requester may name cards that nobody has, so the notes of *known* cards, those of nodes with a fallback, have a place of their
//! own. The other notes have a limit. Beyond it, a note is dropped, and then the cards of all watched nodes are
//! read: a card that was not known until then is doubtful. So forged addresses make no node doubtful.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::reports::ReportNote;
use crate::model::Mac;

/// The cards whose notes are kept, beside the known ones.
const CAPACITY: usize = 4096;
/// The notes of one card that are kept. With more, its boot becomes doubtful.
const MAX_NOTES: usize = 16;
/// Why a boot is doubtful whose report was not kept.
const OVERFLOW: &str = "more reports than volboot can keep";

/// The notes to be written, by card.
#[derive(Debug, Default)]
pub(super) struct ReportNotes {
    notes: Mutex<KeptNotes>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct KeptNotes {
    /// The cards of nodes with a fallback.
    nodes: HashMap<Uuid, HashSet<Mac>>,
    /// The same cards.
    known: HashSet<Mac>,
    of_known: HashMap<Mac, Vec<ReportNote>>,
    of_others: HashMap<Mac, Vec<ReportNote>>,
    all: Option<DoubtOfAll>,
    /// A note of a card that was not known was dropped.
    dropped: Option<DroppedNote>,
    /// The number of doubts of all and of dropped notes so far.
    events: u64,
}

/// Why all watched boots are doubtful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DoubtOfAll {
    pub(super) reason: &'static str,
    /// Each doubt has its own: a boot may begin between two of them.
    number: u64,
}

/// A note was dropped, of a card that was not known then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DroppedNote {
    number: u64,
}

/// The notes that are to be written.
#[derive(Debug)]
pub(super) struct PendingNotes {
    pub(super) by_card: Vec<(Mac, Vec<ReportNote>)>,
    pub(super) all: Option<DoubtOfAll>,
}

impl KeptNotes {
    fn count_event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    fn push(&mut self, card: Mac, note: ReportNote) {
        let is_known = self.known.contains(&card);
        if !is_known && self.of_others.len() >= CAPACITY && !self.of_others.contains_key(&card) {
            let number = self.count_event();
            self.dropped = Some(DroppedNote { number });
            return;
        }
        let notes = if is_known { &mut self.of_known } else { &mut self.of_others };
        let notes = notes.entry(card).or_default();
        if notes.last() == Some(&note) {
            return;
        }
        match notes.len() {
            0..MAX_NOTES => notes.push(note),
            MAX_NOTES => notes.push(ReportNote::Doubt(OVERFLOW)),
            // The doubt is noted.
            _ => {}
        }
    }
}

impl ReportNotes {
    /// Keeps a note until it is written.
    pub(super) fn push(&self, card: Mac, note: ReportNote) {
        self.notes.lock().push(card, note);
        self.arrived.notify_one();
    }

    /// Makes all watched boots doubtful.
    pub(super) fn push_doubt_of_all(&self, reason: &'static str) {
        let mut notes = self.notes.lock();
        let number = notes.count_event();
        notes.all = Some(DoubtOfAll { reason, number });
        drop(notes);
        self.arrived.notify_one();
    }

    /// Waits for notes.
    pub(super) async fn wait(&self) {
        self.arrived.notified().await;
    }

    /// Replaces the known cards of a node with a fallback. A new one is doubtful if a note was dropped: it may have been its.
    pub(super) fn learn_cards(&self, node: Uuid, cards: impl IntoIterator<Item = Mac>) {
        let cards: HashSet<Mac> = cards.into_iter().collect();
        let mut notes = self.notes.lock();
        let before = notes.nodes.insert(node, cards.clone()).unwrap_or_default();
        for card in before.difference(&cards) {
            notes.known.remove(card);
        }
        for card in cards {
            if !notes.known.insert(card) {
                continue;
            }
            if let Some(kept) = notes.of_others.remove(&card) {
                notes.of_known.insert(card, kept);
            }
            if notes.dropped.is_some() {
                notes.push(card, ReportNote::Doubt(OVERFLOW));
            }
        }
    }

    /// Forgets the cards of a node without a fallback.
    pub(super) fn forget_cards(&self, node: Uuid) {
        let mut notes = self.notes.lock();
        for card in notes.nodes.remove(&node).unwrap_or_default() {
            notes.known.remove(&card);
        }
    }

    /// The nodes whose cards are known.
    pub(super) fn known_nodes(&self) -> Vec<Uuid> {
        self.notes.lock().nodes.keys().copied().collect()
    }

    /// Whether the cards of a node are known.
    pub(super) fn knows(&self, node: Uuid) -> bool {
        self.notes.lock().nodes.contains_key(&node)
    }

    /// The last note that was dropped, until the cards of all watched nodes are read.
    pub(super) fn find_dropped(&self) -> Option<DroppedNote> {
        self.notes.lock().dropped
    }

    /// Forgets a dropped note, once the cards of all watched nodes are read. A later one stays.
    pub(super) fn forget_dropped(&self, seen: DroppedNote) {
        self.notes.lock().dropped.take_if(|dropped| *dropped == seen);
    }

    /// The cards with notes, and why all boots are doubtful.
    pub(super) fn pending(&self) -> PendingNotes {
        let notes = self.notes.lock();
        let by_card = notes.of_known.iter().chain(&notes.of_others);
        let by_card = by_card.map(|(card, notes)| (*card, notes.clone())).collect();
        PendingNotes { by_card, all: notes.all }
    }

    /// Forgets notes that are written.
    pub(super) fn forget(&self, card: Mac, written: &[ReportNote]) {
        let KeptNotes { of_known, of_others, .. } = &mut *self.notes.lock();
        // A card may have become known meanwhile.
        let notes = if of_known.contains_key(&card) { of_known } else { of_others };
        if let Some(pending) = notes.get_mut(&card) {
            // Notes that came meanwhile stand behind.
            pending.drain(..written.len().min(pending.len()));
            if pending.is_empty() {
                notes.remove(&card);
            }
        }
    }

    /// Forgets a doubt of all boots that is written. A later one stays.
    pub(super) fn forget_doubt_of_all(&self, written: DoubtOfAll) {
        self.notes.lock().all.take_if(|doubt| *doubt == written);
    }

    /// Why nothing is known about the boots of a node, whose machine named these cards: a note is not written yet.
    pub(super) fn find_doubt(&self, node: Uuid, cards: &[Mac]) -> Option<&'static str> {
        let notes = self.notes.lock();
        let of_node = notes.nodes.get(&node);
        let mut cards = cards.iter().chain(of_node.into_iter().flatten());
        let is_pending =
            cards.any(|card| notes.of_known.contains_key(card) || notes.of_others.contains_key(card));
        notes
            .all
            .map(|doubt| doubt.reason)
            .or(is_pending.then_some("a report of the machine is not recorded yet"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn card(number: usize) -> Mac {
        let [.., a, b, c] = number.to_be_bytes();
        Mac::new([2, 0, 0, a, b, c])
    }

    /// Notes of more cards than are kept, none of a node.
    fn flooded() -> ReportNotes {
        let notes = ReportNotes::default();
        notes.learn_cards(NODE, [card(0), card(1)]);
        for number in 100..=100 + CAPACITY {
            notes.push(card(number), ReportNote::Doubt("x"));
        }
        notes
    }

    #[test]
    fn forged_cards_neither_displace_the_notes_of_a_node_nor_make_it_doubtful() {
        let notes = flooded();
        assert_eq!(notes.find_doubt(NODE, &[card(0)]), None);
        for note in [ReportNote::Hooked, ReportNote::Up] {
            notes.push(card(1), note);
        }
        let written = notes.pending().by_card.into_iter().find(|(of, _)| *of == card(1)).expect("notes");
        assert_eq!(written.1, [ReportNote::Hooked, ReportNote::Up]);
        notes.forget(card(1), &written.1);
        // The cards of all nodes are read: they were known.
        let dropped = notes.find_dropped().expect("a dropped note");
        notes.learn_cards(NODE, [card(0), card(1)]);
        notes.forget_dropped(dropped);
        assert_eq!((notes.find_doubt(NODE, &[card(0)]), notes.find_dropped()), (None, None));
    }

    #[test]
    fn a_card_that_was_not_known_when_a_note_was_dropped_is_doubtful() {
        let notes = flooded();
        let dropped = notes.find_dropped().expect("a dropped note");
        notes.learn_cards(OTHER, [card(2)]);
        assert_eq!(notes.find_doubt(OTHER, &[]), Some("a report of the machine is not recorded yet"));
        assert_eq!(notes.find_doubt(NODE, &[]), None);
        notes.push(card(5000), ReportNote::Up);
        notes.forget_dropped(dropped);
        assert!(notes.find_dropped().is_some(), "a later one was dropped");
        notes.learn_cards(NODE, [card(0), card(1), card(3)]);
        assert!(notes.find_doubt(NODE, &[]).is_some(), "a new card");
        let pending = notes.pending().by_card;
        let of_new = pending.iter().find(|(of, _)| *of == card(3)).expect("notes");
        assert_eq!(of_new.1, [ReportNote::Doubt(OVERFLOW)]);
    }

    #[test]
    fn a_card_that_becomes_known_keeps_its_notes_and_a_deleted_one_gives_its_place_back() {
        let notes = ReportNotes::default();
        notes.push(card(0), ReportNote::Hooked);
        notes.learn_cards(NODE, [card(0)]);
        notes.push(card(0), ReportNote::Up);
        assert_eq!(notes.pending().by_card, [(card(0), vec![ReportNote::Hooked, ReportNote::Up])]);
        notes.forget(card(0), &[ReportNote::Hooked]);
        assert!(notes.find_doubt(NODE, &[]).is_some(), "the other note is still to be written");
        notes.forget(card(0), &[ReportNote::Up]);
        assert_eq!(notes.find_doubt(NODE, &[]), None);
        notes.forget_cards(NODE);
        assert!(!notes.knows(NODE) && notes.notes.lock().known.is_empty());
    }

    #[test]
    fn more_notes_of_a_card_than_are_kept_make_its_boot_doubtful_and_no_other() {
        let notes = ReportNotes::default();
        notes.learn_cards(NODE, [card(0)]);
        for _ in 0..MAX_NOTES {
            notes.push(card(0), ReportNote::Hooked);
            notes.push(card(0), ReportNote::Retried);
        }
        let (_, kept) = notes.pending().by_card.remove(0);
        assert_eq!((kept.len(), kept.last()), (MAX_NOTES + 1, Some(&ReportNote::Doubt(OVERFLOW))));
        assert_eq!(notes.find_doubt(OTHER, &[card(1)]), None);
    }

    #[test]
    fn a_doubt_of_all_stays_until_it_is_written() {
        let notes = ReportNotes::default();
        notes.push_doubt_of_all("one");
        let written = notes.pending().all.expect("a doubt");
        notes.push_doubt_of_all("another");
        notes.forget_doubt_of_all(written);
        assert_eq!(notes.find_doubt(NODE, &[]), Some("another"), "a later doubt is not written yet");
        notes.forget_doubt_of_all(notes.pending().all.expect("a doubt"));
        assert_eq!(notes.find_doubt(NODE, &[]), None);
    }
}
