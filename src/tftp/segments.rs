//! Sends the datagrams of a [`Transmit`], a whole window with one system call if possible.
//!
//! The kernel splits a window into datagrams (UDP segmentation offload, GSO), otherwise they leave one by one. The
//! segment size is set on the socket: concurrent transfers of a socket mostly have the same block size, so a system call
//! per change costs less than a control message per window.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::UdpSocket;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGsoSegment;

use super::transmit::Transmit;

/// Limits of one GSO send: datagrams (newer kernels allow twice as many) and bytes (one IP packet).
const MAX_SEGMENTS: usize = 64;
const MAX_SEND_SIZE: usize = 65_000;

/// Segmentation of one socket.
#[derive(Debug)]
pub(super) struct Segmentation {
    /// The kernel supports UDP segmentation offload, as far as known.
    is_supported: Cell<bool>,
    /// The segment size set on the socket; 0 if segmentation is off.
    size: Cell<u16>,
}

impl Segmentation {
    pub(super) const fn new() -> Self {
        Self { is_supported: Cell::new(true), size: Cell::new(0) }
    }

    /// Sends all datagrams. A datagram that the kernel rejects is lost, like any other datagram. `Err` only for a pending
    /// ICMP error that says that no process listens at the destination.
    pub(super) fn send(
        &self,
        socket: &UdpSocket,
        transmit: &Transmit,
        send_bytes: impl Fn(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let segment_size = transmit.segment_size();
        let max_segments = MAX_SEGMENTS.min(MAX_SEND_SIZE / segment_size).max(1);
        let max_segments = if self.is_supported.get() { max_segments } else { 1 };
        for batch in transmit.bytes().chunks(max_segments * segment_size) {
            let is_single = batch.len() <= segment_size;
            // A single datagram up to the segment size that is set needs no change.
            let is_unaffected = is_single && batch.len() <= usize::from(self.size.get());
            let size = if is_single { 0 } else { segment_size as u16 };
            let is_set = if is_unaffected { Ok(()) } else { self.set_size(socket, size) };
            match is_set.and_then(|()| send_bytes(batch)) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Err(error),
                // Some routes do not support segmentation: IPsec, or a smaller MTU. After a full queue, single
                // datagrams would not fit either.
                Err(error) if error.kind() != ErrorKind::WouldBlock && (!is_single || is_unaffected) => {
                    let _ = self.set_size(socket, 0);
                    for datagram in batch.chunks(segment_size) {
                        let _ = send_bytes(datagram);
                    }
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn set_size(&self, socket: &UdpSocket, size: u16) -> io::Result<()> {
        if self.size.get() != size {
            let result = setsockopt(socket, UdpGsoSegment, &size.into());
            self.is_supported.set(result.is_ok());
            result?;
            self.size.set(size);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_kernel_splits_windows_and_nothing_else() {
        let bind = || UdpSocket::bind("127.0.0.1:0").expect("binds");
        let (server, client, segmentation) = (bind(), bind(), Segmentation::new());
        client.set_read_timeout(Some(Duration::from_secs(5))).expect("is set");
        let destination: SocketAddr = client.local_addr().expect("an address");
        let mut transmit = Transmit::new();
        // Total bytes, bytes per datagram: a window with a short end, a longer block, a window again, a short block.
        for (total, datagram, segment_size, lengths) in [
            (2500, 1000, 1000, &[1000, 1000, 500][..]),
            (1400, 1400, 0, &[1400]),
            (600, 300, 300, &[300, 300]),
            (900, 1400, 0, &[900]),
            (600, 300, 300, &[300, 300]),
            (200, 300, 300, &[200]),
        ] {
            transmit.put_shared(Bytes::from(vec![7; total]), datagram);
            let send = |bytes: &[u8]| server.send_to(bytes, destination);
            segmentation.send(&server, &transmit, send).expect("no ICMP error");
            assert!(segmentation.is_supported.get(), "this kernel does not support segmentation offload");
            assert_eq!(segmentation.size.get(), segment_size);
            let mut packet = [0; 2048];
            for length in lengths {
                assert_eq!(client.recv(&mut packet).expect("a datagram"), *length);
            }
        }
    }
}
