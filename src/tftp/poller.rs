//! Waits for the sockets of many transfers, and for wake-ups: `epoll` and an eventfd.
//!
//! Level-triggered, with one packet per event: a second receive to see an empty queue would cost more than the kernel's
//! second look at the socket. It also treats all transfers alike.
//!
//! Invariant: a wake-up after an enqueue is never lost; a closed socket leaves the poller by itself.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::port::TransferSocket;
use super::transfer_id::TransferId;
use super::waker::{Waker, timespec};

/// Most events per wait.
const MAX_EVENTS: usize = 256;
/// Token of the waker; no transfer has this id.
const WAKER: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    waker: Arc<Waker>,
}

impl Poller {
    pub(super) fn new(waker: Arc<Waker>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, waker.as_ref(), EventData::new_u64(WAKER), EventFlags::IN)?;
        Ok(Self { epoll, waker })
    }

    /// Watches the socket of a transfer until it is closed.
    pub(super) fn add(&self, socket: &TransferSocket, id: TransferId) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, &socket.udp, EventData::new_u64(id.0), EventFlags::IN)?)
    }

    /// Waits until a socket is readable, a wake-up arrives or `timeout` has passed. Appends the transfers whose sockets are
    /// readable to `ready`.
    pub(super) fn wait(&self, timeout: Duration, ready: &mut Vec<TransferId>) {
        let mut buffer = [MaybeUninit::<Event>::uninit(); MAX_EVENTS];
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut buffer, Some(&timespec(timeout))) else { return };
        for event in events {
            match event.data.u64() {
                WAKER => self.waker.reset(),
                id => ready.push(TransferId(id)),
            }
        }
    }
}
