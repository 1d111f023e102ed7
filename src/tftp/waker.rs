//! Wakes a worker that waits for its socket: an eventfd, and `poll` on both.
//!
//! A worker is a thread and calls `poll` itself instead of using the runtime. A socket registered with the runtime
//! also reports every packet that leaves. That costs more than the few waits of a server under load.
//!
//! Invariant: a wake-up after an enqueue is never lost; wake-ups coalesce.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

#[derive(Debug)]
pub(super) struct Waker(OwnedFd);

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    pub(super) fn wake(&self) {
        // Fails only if the eventfd's counter is full: then the wake-up is pending already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Waits until `socket` is readable, a wake-up arrives or `timeout` has passed.
    pub(super) fn wait(&self, socket: &UdpSocket, timeout: Duration) {
        let mut fds = [PollFd::new(socket, PollFlags::IN), PollFd::new(&self.0, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&timespec(timeout)));
        let [_, eventfd] = fds;
        if ready.is_ok() && !eventfd.revents().is_empty() {
            self.reset();
        }
    }

    /// Forgets all wake-ups so far.
    pub(super) fn reset(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub(super) fn timespec(duration: Duration) -> Timespec {
    let tv_sec = duration.as_secs().try_into().unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_wake_up_a_packet_or_the_timeout_ends_a_wait() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let waker = Arc::new(Waker::new().expect("a waker"));
        let (long, start) = (Duration::from_secs(60), Instant::now());
        waker.wake();
        waker.wake();
        waker.wait(&socket, long);
        waker.wait(&socket, Duration::from_millis(1));
        let thread_waker = Arc::clone(&waker);
        let other = std::thread::spawn(move || thread_waker.wake());
        waker.wait(&socket, long);
        other.join().expect("a thread");
        socket.send_to(b"x", socket.local_addr().expect("an address")).expect("a way to itself");
        waker.wait(&socket, long);
        assert!(start.elapsed() < long);
    }
}
