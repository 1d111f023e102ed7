//! What goes to one client at once: a message, or the blocks of a window.
//!
//! Invariant: all datagrams of a parcel have the same length but the last, which may be shorter: that is what the kernel
//! wants of a window it is to cut.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::packet::write_error;

/// Datagrams for one client, end to end.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) to: SocketAddr,
    /// The address of ours it has to come from.
    pub(super) from: Option<IpAddr>,
    own: Vec<u8>,
    /// Stands for `own` unless empty.
    shared: Bytes,
    /// Length of every datagram but the last, which may be shorter.
    stride: usize,
}

impl Parcel {
    pub(super) fn new() -> Self {
        let to = SocketAddr::from(([0; 4], 0));
        Self { to, from: None, own: Vec::new(), shared: Bytes::new(), stride: 0 }
    }

    /// Nothing is in it, and nothing of a file is held any more.
    pub(super) fn clear(&mut self) {
        self.own.clear();
        self.shared = Bytes::new();
    }

    /// For whom the next content is.
    pub(super) fn address(&mut self, to: SocketAddr, from: Option<IpAddr>) {
        self.to = to;
        self.from = from;
    }

    pub(super) fn put_error(&mut self, code: u16, message: &str) {
        self.clear();
        write_error(&mut self.own, code, message);
        self.stride = self.own.len();
    }

    /// Datagrams that `write` writes end to end.
    pub(super) fn put(&mut self, stride: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.clear();
        write(&mut self.own);
        self.stride = stride;
    }

    /// Datagrams that stand end to end already.
    pub(super) fn put_shared(&mut self, datagrams: Bytes, stride: usize) {
        self.own.clear();
        self.shared = datagrams;
        self.stride = stride;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        if self.shared.is_empty() { &self.own } else { &self.shared }
    }

    pub(super) fn stride(&self) -> usize {
        self.stride.max(1)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes().chunks(self.stride())
    }
}
