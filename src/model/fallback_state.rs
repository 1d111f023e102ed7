//! [`FallbackState`]: the boots of a node with a fallback, as far as they decide about it.
//!
//! The record stands in the store, so that all instances count together. It holds no time that a decision depends on: each
//! instance measures with its own monotonic clock, from its first sight of [`WatchedBoot::clock`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The count of failed boots, the boot that is being watched, and whether the fallback is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackState {
    /// Failed boots in a row.
    #[serde(default)]
    pub failed_boots: u32,
    /// The reason of the last reset of the count, for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reset: Option<String>,
    /// The node's last boot session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<WatchedBoot>,
    /// Whether the machine may run from the fallback, whatever its next boot is from: no other node may get that volume.
    #[serde(default)]
    pub may_run: bool,
    /// Whether the machine boots from the fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<FallbackInForce>,
}

/// A boot session of a node from its own volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedBoot {
    /// The boot session's id.
    pub journey: String,
    /// The own boot volume: the id of its target and of the volume.
    pub volume: String,
    /// How far the machine came.
    pub stage: WatchedStage,
    /// The scripts that left for the machine: one per try.
    #[serde(default)]
    pub scripts: u32,
    /// How often the machine reported its volumes hooked: once per try.
    #[serde(default)]
    pub hooks: u32,
    /// The journey from which the time without an `up` report counts: an earlier journey, if its machine restarted soon.
    pub clock: String,
    /// The sessions of all instances at the script of that boot.
    #[serde(default)]
    pub instances: Vec<String>,
    /// Whether it is known that no operating system runs: the machine did not answer on the network, or reported that nothing on
    /// the volume started.
    #[serde(default)]
    pub is_down: bool,
    /// Why the boot cannot count as failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

/// The stage of a watched boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchedStage {
    /// The machine has sent its first boot request, and has no script.
    Begun,
    /// The machine has its script.
    HandedOut,
    /// The machine has reported its volumes hooked.
    Hooked,
    /// The operating system has reported `up`.
    Up,
}

/// The fallback is in force: the machine boots from it until an operator says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackInForce {
    /// When it came into force, by the clock of an instance: for operators only.
    pub since: Timestamp,
    /// The failed boots before.
    pub failed_boots: u32,
    /// The name of the volume that failed.
    pub failed_volume: String,
    /// The fallback's volume, as [`super::FallbackSource::key`] names it. With another one, nothing is in force.
    pub source: String,
}

/// That a boot is from the fallback, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackNotice {
    /// The sentence for console, timeline and log.
    pub text: String,
    /// Whether the fallback came into force with this boot session.
    pub is_first: bool,
}

impl WatchedBoot {
    /// A boot session that begins.
    pub fn begin(journey: &str, volume: &str) -> Self {
        Self {
            journey: journey.to_owned(),
            volume: volume.to_owned(),
            stage: WatchedStage::Begun,
            scripts: 0,
            hooks: 0,
            clock: journey.to_owned(),
            instances: Vec::new(),
            is_down: false,
            doubt: None,
        }
    }
}

impl FallbackState {
    /// The fallback in force, if it is still the configured one.
    pub fn in_force_for(&self, source: &super::FallbackSource) -> Option<&FallbackInForce> {
        self.in_force.as_ref().filter(|in_force| in_force.source == source.key())
    }

    /// The state after the boot volume and the fallback changed places: the machine still runs from the same volume.
    #[must_use]
    pub fn promoted(&self) -> Self {
        Self { may_run: !self.may_run, ..Self::default() }
    }

    /// Sets the count to 0, for a reason.
    pub fn reset(&mut self, reason: &str) {
        if self.failed_boots > 0 {
            self.last_reset = Some(super::excerpt(reason));
        }
        self.failed_boots = 0;
    }

    /// Notes why the watched boot cannot count as failed. The first reason stays.
    pub fn note_doubt(&mut self, reason: &str) {
        if let Some(boot) = &mut self.boot {
            boot.doubt.get_or_insert_with(|| super::excerpt(reason));
        }
    }
}
