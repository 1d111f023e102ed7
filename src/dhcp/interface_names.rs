//! [`InterfaceNames`]: the names of interfaces, remembered for a second.
//!
//! A name costs a system call, and names rarely change.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rustix::net::netdevice::index_to_name;

/// Names are read anew after this time.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The names by index; `None` for an interface that is gone.
#[derive(Debug)]
pub(super) struct InterfaceNames {
    read_at: Instant,
    names: HashMap<i32, Option<String>>,
}

impl InterfaceNames {
    pub(super) fn new(now: Instant) -> Self {
        Self { read_at: now, names: HashMap::new() }
    }

    /// The name of an interface.
    pub(super) fn find(&mut self, socket: &UdpSocket, index: i32, now: Instant) -> Option<&str> {
        if now.saturating_duration_since(self.read_at) >= MAX_AGE {
            *self = Self::new(now);
        }
        let read = || index_to_name(socket, index.try_into().ok()?).ok();
        self.names.entry(index).or_insert_with(read).as_deref()
    }
}
