//! How a worker sleeps: until its socket has something, its bell rings, or a moment has come.
//!
//! A worker is a thread of its own and waits with `poll`, not with the runtime: a socket that is registered for good tells
//! the runtime of every packet that leaves, too, and that costs more than the few waits of a server under load.
//!
//! Invariant: who rings after he has put something down is heard; a bell rung twice wakes once.

use std::io;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    pub(super) fn ring(&self) {
        // Fails only if it has been rung more often than a number can hold: then it rings.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Sleeps until `socket` can be read, the bell rings or `longest` is over.
    pub(super) fn sleep(&self, socket: &UdpSocket, longest: Duration) {
        let mut fds = [PollFd::new(socket, PollFlags::IN), PollFd::new(&self.0, PollFlags::IN)];
        let woken = poll(&mut fds, Some(&timespec(longest)));
        let [_, bell] = fds;
        if woken.is_ok() && !bell.revents().is_empty() {
            let _ = rustix::io::read(&self.0, &mut [0; 8]);
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    let tv_sec = duration.as_secs().try_into().unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_bell_a_packet_or_the_time_ends_the_sleep() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let bell = Arc::new(Bell::new().expect("a bell"));
        let (long, began) = (Duration::from_secs(60), Instant::now());
        bell.ring();
        bell.ring();
        bell.sleep(&socket, long);
        bell.sleep(&socket, Duration::from_millis(1));
        let ringer = Arc::clone(&bell);
        let other = std::thread::spawn(move || ringer.ring());
        bell.sleep(&socket, long);
        other.join().expect("a thread");
        socket.send_to(b"x", socket.local_addr().expect("an address")).expect("a way to itself");
        bell.sleep(&socket, long);
        assert!(began.elapsed() < long);
    }
}
