//! Datagrams of one send to one client: a single message, or the blocks of a window.
//!
//! Invariant: all datagrams have the same length, except that the last may be shorter. UDP segmentation offload
//! requires this layout.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::packet::write_error;

/// Datagrams for one client, end to end.
#[derive(Debug)]
pub(super) struct Transmit {
    pub(super) destination: SocketAddr,
    /// The source address to set; `None` leaves the choice to the kernel.
    pub(super) source_ip: Option<IpAddr>,
    buffer: Vec<u8>,
    /// Takes precedence over `buffer` unless empty.
    shared: Bytes,
    /// Length of every datagram except the last, which may be shorter.
    segment_size: usize,
}

impl Transmit {
    pub(super) fn new() -> Self {
        let destination = SocketAddr::from(([0; 4], 0));
        Self { destination, source_ip: None, buffer: Vec::new(), shared: Bytes::new(), segment_size: 0 }
    }

    /// Removes all datagrams and releases the shared file.
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
        self.shared = Bytes::new();
    }

    /// Sets destination and source address of the next datagrams.
    pub(super) fn set_addresses(&mut self, destination: SocketAddr, source_ip: Option<IpAddr>) {
        self.destination = destination;
        self.source_ip = source_ip;
    }

    pub(super) fn put_error(&mut self, code: u16, message: &str) {
        self.clear();
        write_error(&mut self.buffer, code, message);
        self.segment_size = self.buffer.len();
    }

    /// Replaces the datagrams by the output of `write`.
    pub(super) fn put_datagrams(&mut self, segment_size: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.clear();
        write(&mut self.buffer);
        self.segment_size = segment_size;
    }

    /// Replaces the datagrams by a shared buffer, without a copy.
    pub(super) fn put_shared(&mut self, datagrams: Bytes, segment_size: usize) {
        self.buffer.clear();
        self.shared = datagrams;
        self.segment_size = segment_size;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        if self.shared.is_empty() { &self.buffer } else { &self.shared }
    }

    pub(super) fn segment_size(&self) -> usize {
        self.segment_size.max(1)
    }

    /// Number of datagrams and their bytes.
    pub(super) fn datagrams_and_bytes(&self) -> (usize, usize) {
        let bytes = self.bytes().len();
        (bytes.div_ceil(self.segment_size()), bytes)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes().chunks(self.segment_size())
    }
}
