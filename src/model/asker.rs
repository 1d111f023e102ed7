//! [`Asker`]: who asks for a script, as iPXE told it.

use std::net::IpAddr;

use uuid::Uuid;

use super::{Mac, Platform};

/// The most network cards of one machine that are looked at; `/boot.ipxe` gathers as many.
pub const MAX_MACS: usize = 8;

/// A machine that asks what to do, at one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// The card it booted through first, then its others; none twice.
    pub macs: Vec<Mac>,
    /// The firmware it runs on, if iPXE said one we know.
    pub platform: Option<Platform>,
    /// iPXE's build, such as `x86_64`: for people, so anything that could not be one is dropped.
    pub arch: Option<String>,
    /// The machine's SMBIOS UUID: for the timeline only, since boards in the field share them.
    pub uuid: Option<Uuid>,
    /// The journey it is on: a word that the script which gathers who it is was given. One that asks by itself has
    /// none.
    pub journey: Option<String>,
    /// Which try of it this is, from 1.
    pub attempt: u32,
    /// What the network shows of it, which it cannot say itself.
    pub seen: Seen,
}

/// What the network shows of who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seen {
    /// Nobody looked, or there is nothing to be seen: it is beyond a router, or on this host.
    #[default]
    Nothing,
    /// It is on an attached network, with this card.
    Card {
        /// The card.
        mac: Mac,
        /// The address it has.
        at: IpAddr,
    },
    /// It should have been seen, but was not; and why.
    Unclear(String),
}

impl Seen {
    /// The card, if one was seen.
    pub fn card(&self) -> Option<Mac> {
        match self {
            Self::Card { mac, .. } => Some(*mac),
            Self::Nothing | Self::Unclear(_) => None,
        }
    }
}

impl Asker {
    /// A machine that asks through this card, for the first time.
    pub fn new(mac: Mac) -> Self {
        Self {
            macs: vec![mac],
            platform: None,
            arch: None,
            uuid: None,
            journey: None,
            attempt: 1,
            seen: Seen::Nothing,
        }
    }

    /// The card it booted through.
    pub fn mac(&self) -> Mac {
        self.macs[0]
    }

    /// Adds the machine's cards; the ones that are known or too many are left out.
    pub fn with_macs(mut self, macs: impl IntoIterator<Item = Mac>) -> Self {
        for mac in macs {
            if self.macs.len() <= MAX_MACS && !self.macs.contains(&mac) {
                self.macs.push(mac);
            }
        }
        self
    }
}
