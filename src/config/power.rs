//! `[power]`: machines that volboot switches through their BMCs.

use super::read::Section;

/// `[power]`: machines that volboot switches through their BMCs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerConfig {
    /// `at_once`: the largest number of concurrent requests to BMCs; others queue.
    pub at_once: u32,
}

impl PowerConfig {
    pub(super) fn from_section(section: &mut Section) -> Self {
        Self { at_once: section.number("at_once", 8, 1..=256) }
    }
}
