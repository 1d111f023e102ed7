//! [`Bounds`]: the limits of the history.

/// Limits of the history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) events_per_machine: u64,
    pub(super) events: u64,
    pub(super) machines: usize,
    /// Bytes of all records and events.
    pub(super) bytes: u64,
    /// Bytes of the records without a node, and their events.
    pub(super) stranger_bytes: u64,
    /// Bytes of recent events, which are in memory.
    pub(super) recent_bytes: usize,
    /// Bytes of the DHCP requests in the log.
    pub(super) log_bytes: usize,
    /// Bytes of a history file that is never compacted.
    pub(super) small_file: u64,
}

impl Default for Bounds {
    /// A hundred events are about twenty boot sessions. Of 100,000 machines, the bytes allow the last session or two. The
    /// file takes up to three times the bytes: redb doubles a file that is full, and pages are half empty after deletions.
    fn default() -> Self {
        Self {
            events_per_machine: 100,
            events: 1_000_000,
            machines: 131_072,
            bytes: 160 << 20,
            stranger_bytes: 16 << 20,
            recent_bytes: 8 << 20,
            log_bytes: 4 << 20,
            small_file: 64 << 20,
        }
    }
}
