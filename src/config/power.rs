//! `[power]`: machines that volboot switches through their BMCs.

use std::time::Duration;

use super::read::Section;

/// `[power]`: machines that volboot switches through their BMCs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerConfig {
    /// `at_once`: the largest number of concurrent requests to BMCs; others queue.
    pub at_once: u32,
    /// `sync_power_state_interval`: the interval between two reads of a machine's power state.
    pub sync_power_state_interval: Duration,
    /// `first_request_timeout`: the time from the power-on to the first request over the network, the power-on self-test
    /// included.
    pub first_request_timeout: Duration,
}

impl PowerConfig {
    pub(super) fn from_section(section: &mut Section) -> Self {
        Self {
            at_once: section.number("at_once", 8, 1..=256),
            sync_power_state_interval: section.duration("sync_power_state_interval", Duration::from_secs(60)),
            first_request_timeout: section.duration("first_request_timeout", Duration::from_secs(600)),
        }
    }
}
