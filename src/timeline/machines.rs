//! [`Machines`]: which events belong to which machine, and what is kept of them. No I/O: what has to be written is
//! handed out.
//!
//! TFTP and `/boot.ipxe` know an address, not a machine. Such an event stands under its address until a machine asks
//! for its script from there within five minutes; then it is moved to that machine's timeline. Who tells the events
//! may know better, and name the card.
//!
//! Bounds: so many events of one machine, so many machines, so many events in all. What goes first when there are too
//! many are addresses that never became a machine, then machines nobody registered, then those not heard of for the
//! longest time: a stranger who makes up addresses drives out nobody but his own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::progress::{PATIENCE, Progress};
use crate::model::Mac;
use crate::telemetry::{Answered, Event, What};

/// Within this time, the same thing of one machine is told once, with how often.
const REPEATS: SignedDuration = SignedDuration::from_secs(1);
/// Events of one address that can still be moved to a machine.
pub(super) const UNCLAIMED: usize = 32;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) events_each: u64,
    pub(super) events: u64,
    pub(super) machines: usize,
}

impl Default for Bounds {
    /// A hundred events are twenty journeys; all of them are some 100 MB on disk.
    fn default() -> Self {
        Self { events_each: 100, events: 400_000, machines: 16_384 }
    }
}

/// By what a machine is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Key {
    /// The card it boots through.
    Mac(Mac),
    /// An address of which it is not known which machine has it.
    Address(IpAddr),
}

/// The text is neither a MAC address nor an IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a MAC address or an IP address")]
pub struct KeyError;

/// A machine's number in the history's file.
pub(super) type Id = u64;

/// Where an event stands: the machine, and its number there.
pub(super) type Place = (Id, u64);

/// All that is kept of a machine in memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Track {
    pub(super) key: Key,
    /// Where it spoke from last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) uuid: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) arch: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) macs: Vec<Mac>,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    /// The number its next event gets.
    pub(super) next: u64,
    /// Events it has.
    pub(super) count: u64,
    pub(super) progress: Progress,
}

/// What has to be written, or is being written.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// New or changed events, and those that go.
    pub(super) events: BTreeMap<Place, Option<Event>>,
    /// New or changed machines, and those that go with all their events.
    pub(super) tracks: BTreeMap<Id, Option<Track>>,
}

/// The machines that are known.
#[derive(Debug, Default)]
pub(super) struct Machines {
    bounds: Bounds,
    tracks: HashMap<Id, Track>,
    ids: HashMap<Key, Id>,
    /// Who goes first when there are too many.
    order: BTreeSet<(u8, Timestamp, Id)>,
    /// What may still come again, or be moved.
    recent: HashMap<Id, Vec<(u64, Event)>>,
    /// The last number given to a machine.
    last_id: Id,
    events: u64,
    /// What the next commit writes, and what the present one does.
    pub(super) waiting: Changes,
    pub(super) writing: Changes,
}

impl Machines {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// Puts back what was written by an earlier volboot.
    pub(super) fn restore(&mut self, id: Id, track: Track) {
        self.last_id = self.last_id.max(id);
        self.events += track.count;
        self.ids.insert(track.key, id);
        self.order.insert(track.rank(id));
        self.tracks.insert(id, track);
    }

    /// Takes an event in. Returns whose it is.
    pub(super) fn take(&mut self, event: &Event) -> Option<Key> {
        let key = event.mac.map(Key::Mac).or(event.address.map(Key::Address))?;
        if let (Key::Mac(_), Some(address), What::Answered(_)) = (key, event.address, &event.what) {
            self.claim(key, address, event.at);
        }
        let id = self.of(key, event);
        if self.repeats(id, event) {
            return Some(key);
        }
        self.add(id, event.clone());
        self.shrink(id);
        Some(key)
    }

    /// Moves what happened at an address lately to the machine that turns out to have it.
    fn claim(&mut self, key: Key, address: IpAddr, now: Timestamp) {
        let Some(&from) = self.ids.get(&Key::Address(address)) else { return };
        let recent = self.recent.remove(&from).unwrap_or_default();
        let (moved, left): (Vec<_>, Vec<_>) =
            recent.into_iter().partition(|(_, event)| now.duration_since(event.at) < PATIENCE);
        if let Some(track) = self.tracks.get_mut(&from) {
            track.count = track.count.saturating_sub(moved.len() as u64);
            self.events = self.events.saturating_sub(moved.len() as u64);
            if track.count == 0 {
                self.drop_track(from);
            } else {
                self.waiting.tracks.insert(from, Some(track.clone()));
                self.recent.insert(from, left);
            }
        }
        for (at, event) in moved {
            self.waiting.events.insert((from, at), None);
            let id = self.of(key, &event);
            self.add(id, event);
        }
    }

    /// The machine's number, a new one if it is new.
    fn of(&mut self, key: Key, first: &Event) -> Id {
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        self.last_id += 1;
        let id = self.last_id;
        let track = Track {
            key,
            address: first.address,
            node: None,
            name: None,
            uuid: None,
            platform: None,
            arch: None,
            macs: Vec::new(),
            first: first.at,
            last: first.at,
            next: 0,
            count: 0,
            progress: Progress::new(first),
        };
        self.ids.insert(key, id);
        self.order.insert(track.rank(id));
        self.tracks.insert(id, track);
        id
    }

    /// Counts an event that was told less than a second ago, or that a machine waits on.
    fn repeats(&mut self, id: Id, event: &Event) -> bool {
        let recent = self.recent.entry(id).or_default();
        if let Some((at, earlier)) = recent.last_mut()
            && let (Some(before), Some(now)) = (waits(earlier), waits(event))
            && (&before.journey, before.attempt) == (&now.journey, now.attempt)
        {
            earlier.times = earlier.times.saturating_add(event.times);
            earlier.what = event.what.clone();
            self.waiting.events.insert((id, *at), Some(earlier.clone()));
            if let Some(track) = self.tracks.get_mut(&id) {
                self.order.remove(&track.rank(id));
                track.progress.apply(event);
                track.learn(event);
                self.order.insert(track.rank(id));
                self.waiting.tracks.insert(id, Some(track.clone()));
            }
            return true;
        }
        let again = recent
            .iter_mut()
            .rev()
            .take_while(|(_, earlier)| event.at.duration_since(earlier.at) < REPEATS)
            .find(|(_, earlier)| earlier.repeats(event));
        let Some((at, earlier)) = again else { return false };
        earlier.times = earlier.times.saturating_add(event.times);
        self.waiting.events.insert((id, *at), Some(earlier.clone()));
        true
    }

    fn add(&mut self, id: Id, event: Event) {
        let Some(track) = self.tracks.get_mut(&id) else { return };
        self.order.remove(&track.rank(id));
        if track.next > 0 {
            track.progress.apply(&event);
        }
        track.learn(&event);
        let at = track.next;
        track.next += 1;
        track.count += 1;
        self.events += 1;
        if let Some(oldest) = at.checked_sub(self.bounds.events_each) {
            // It may have been moved away; then the count is a little low, and nothing else.
            self.waiting.events.insert((id, oldest), None);
            track.count = track.count.min(self.bounds.events_each);
            self.events -= 1;
        }
        self.order.insert(track.rank(id));
        self.waiting.tracks.insert(id, Some(track.clone()));
        self.waiting.events.insert((id, at), Some(event.clone()));
        let recent = self.recent.entry(id).or_default();
        recent.push((at, event));
        if recent.len() > UNCLAIMED {
            recent.remove(0);
        }
    }

    /// Lets go of whoever goes first, but not of the one that was just heard of.
    fn shrink(&mut self, id: Id) {
        while self.tracks.len() > self.bounds.machines || self.events > self.bounds.events {
            let Some((_, _, gone)) = self.order.iter().copied().find(|(_, _, other)| *other != id) else {
                return;
            };
            self.drop_track(gone);
        }
    }

    fn drop_track(&mut self, id: Id) {
        let Some(track) = self.tracks.remove(&id) else { return };
        self.order.remove(&track.rank(id));
        self.ids.remove(&track.key);
        self.recent.remove(&id);
        self.events = self.events.saturating_sub(track.count);
        self.waiting.events.retain(|(of, _), _| *of != id);
        self.waiting.tracks.insert(id, None);
    }

    /// Forgets what can neither come again nor be moved any more.
    pub(super) fn forget(&mut self, now: Timestamp) {
        let tracks = &self.tracks;
        self.recent.retain(|id, recent| {
            let Some(track) = tracks.get(id) else { return false };
            // What a machine waits on is one line for as long as it waits.
            let long = matches!(track.key, Key::Address(_))
                || recent.last().is_some_and(|(_, e)| waits(e).is_some());
            if long && now.duration_since(track.last) < PATIENCE {
                return true;
            }
            recent.retain(|(_, event)| now.duration_since(event.at) < REPEATS);
            !recent.is_empty()
        });
    }

    /// A machine, and its number.
    pub(super) fn get(&self, key: Key) -> Option<(Id, &Track)> {
        let id = *self.ids.get(&key)?;
        Some((id, self.tracks.get(&id)?))
    }

    /// All of them, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Track> {
        self.tracks.values()
    }

    pub(super) fn len(&self) -> usize {
        self.tracks.len()
    }
}

/// The question of a machine that was told to wait.
fn waits(event: &Event) -> Option<&Answered> {
    match &event.what {
        What::Answered(answered) if answered.outcome == "wait" => Some(answered),
        _ => None,
    }
}

impl Track {
    /// Who goes first: addresses, then machines nobody registered, then those not heard of for long.
    fn rank(&self, id: Id) -> (u8, Timestamp, Id) {
        let worth = match (self.key, self.node) {
            (Key::Address(_), _) => 0,
            (Key::Mac(_), None) => 1,
            (Key::Mac(_), Some(_)) => 2,
        };
        (worth, self.last, id)
    }

    fn learn(&mut self, event: &Event) {
        self.last = self.last.max(event.at);
        self.first = self.first.min(event.at);
        self.address = event.address.or(self.address);
        if let What::Answered(answered) = &event.what {
            self.node = answered.node;
            self.name.clone_from(&answered.name);
            self.macs.clone_from(&answered.macs);
            self.uuid = answered.uuid.or(self.uuid);
            self.platform = answered.platform.as_deref().map(str::to_owned).or(self.platform.take());
            self.arch = answered.arch.clone().or(self.arch.take());
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mac = text.parse().map(Self::Mac);
        mac.or_else(|_| text.parse::<IpAddr>().map(|address| Self::Address(address.to_canonical())))
            .map_err(|_| KeyError)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}
