//! A worker: a thread with a socket and the transfers that go through it.
//!
//! Its turn: what is due, the next packet, new requests. While clients answer it waits a few milliseconds for the packet,
//! and hears no bell meanwhile; if none comes, it sleeps until a packet, its bell or a deadline wakes it. The runtime
//! with its other doors is neither needed nor in the way.
//!
//! Stop: the other end of the desk goes; a worker ends when its last transfer does, or when the grace is over.
//!
//! Invariant: between a request's arrival at its desk and its beginning a worker empties its socket. A ROM sends its
//! abort and then its next request from the same port; the abort must not meet the new transfer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use super::bell::Bell;
use super::mtu::Mtus;
use super::packet::Request;
use super::parcel::Parcel;
use super::socket::{ROOM, Received, Socket};
use super::spread::Place;
use super::table::{Arrival, Shared, Table};

/// Requests that may wait for a worker. Beyond that they are lost, and the clients ask again.
const WAITING: usize = 1024;
/// Packets taken without a wait before timers get their turn.
const AT_ONCE: usize = 512;
/// The same for new requests.
const REQUESTS_AT_ONCE: usize = 64;
/// Who has nothing to wait for still looks up once in this time.
pub(super) const IDLE: Duration = Duration::from_secs(3600);

/// A request on its way from listener to worker.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) client: SocketAddr,
    pub(super) local: Option<IpAddr>,
    pub(super) interface: Option<u32>,
    pub(super) packet: Box<[u8]>,
    pub(super) place: Place,
}

/// Where requests for a worker are put down. Dropped, it tells the worker to stop.
#[derive(Debug)]
pub(super) struct Desk {
    /// Gone only while the desk itself goes.
    requests: Option<SyncSender<Handed>>,
    bell: Arc<Bell>,
}

impl Desk {
    /// False if there is no room.
    pub(super) fn put(&self, handed: Handed) -> bool {
        let put = self.requests.as_ref().is_some_and(|requests| requests.try_send(handed).is_ok());
        self.bell.ring();
        put
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.requests = None;
        self.bell.ring();
    }
}

pub(super) struct Worker {
    socket: Socket,
    table: Table,
    requests: Receiver<Handed>,
    bell: Arc<Bell>,
    mtus: Mtus,
    packet: Box<[u8]>,
    parcel: Parcel,
    /// When all is cut, once the worker was told to stop.
    last_moment: Option<Instant>,
}

impl Worker {
    pub(super) fn new(socket: Socket, shared: &Shared) -> std::io::Result<(Self, Desk)> {
        let bell = Arc::new(Bell::new()?);
        let (sender, requests) = sync_channel(WAITING);
        let worker = Self {
            socket,
            table: Table::new(shared.clone()),
            requests,
            bell: Arc::clone(&bell),
            mtus: Mtus::default(),
            packet: vec![0; ROOM].into_boxed_slice(),
            parcel: Parcel::new(),
            last_moment: None,
        };
        Ok((worker, Desk { requests: Some(sender), bell }))
    }

    /// Blocks until the worker was told to stop and has.
    pub(super) fn run(mut self, grace: Duration) {
        let (mut now, mut answers_come) = (Instant::now(), false);
        while self.last_moment.is_none() || !self.table.is_empty() {
            if self.last_moment.is_some_and(|moment| now >= moment) {
                return self.cut(now);
            }
            while self.table.tick(now, &mut self.parcel) {
                self.socket.send(&self.parcel);
            }
            // A client at work answers at once. To wait for that costs one call, to sleep and be woken three. But no bell
            // is heard meanwhile: where no answer came in time, none is waited for until one comes by itself.
            let waits = answers_come && !self.table.is_empty();
            let next = if waits { self.socket.receive(&mut self.packet) } else { None };
            now = Instant::now();
            if let Some(received) = next {
                self.handle(received, now);
            } else {
                let next = self.table.deadline().into_iter().chain(self.last_moment).min();
                let longest = next.map_or(IDLE, |next| next.saturating_duration_since(now));
                self.bell.sleep(&self.socket.udp, longest);
                answers_come = self.empty_socket();
                now = Instant::now();
            }
            self.take_requests(grace);
        }
    }

    /// Takes what is at the desk, but not so much that timers have to wait for it; or sees that the desk is gone.
    fn take_requests(&mut self, grace: Duration) {
        for _ in 0..REQUESTS_AT_ONCE {
            if self.last_moment.is_some() {
                return;
            }
            match self.requests.try_recv() {
                Ok(handed) => {
                    self.empty_socket();
                    self.begin(handed);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.last_moment = Some(Instant::now() + grace),
            }
        }
        // There may be more, and no bell rings for it again.
        self.bell.ring();
    }

    /// Takes what is there; false if that was nothing.
    fn empty_socket(&mut self) -> bool {
        for taken in 0..AT_ONCE {
            let Some(received) = self.socket.take(&mut self.packet) else { return taken > 0 };
            self.handle(received, Instant::now());
        }
        true
    }

    fn handle(&mut self, received: Received, now: Instant) {
        let Received { length, client, local, interface } = received;
        let packet = self.packet.get(..length).unwrap_or_default();
        if self.socket.takes_requests() && self.last_moment.is_none() && Request::parse(packet).is_some() {
            let mtu = interface.and_then(|interface| self.mtus.of(interface, client, now));
            let local_is_usual = self.socket.usual_source(client) == local;
            let arrival = Arrival { client, local, local_is_usual, mtu, packet };
            self.table.request(arrival, None, now, &mut self.parcel);
        } else {
            self.table.receive(client, packet, now, &mut self.parcel);
        }
        self.socket.send(&self.parcel);
    }

    fn begin(&mut self, handed: Handed) {
        let Handed { client, local, interface, packet, place } = handed;
        let now = Instant::now();
        let mtu = interface.and_then(|interface| self.mtus.of(interface, client, now));
        let local_is_usual = self.socket.usual_source(client) == local;
        let arrival = Arrival { client, local, local_is_usual, mtu, packet: &packet };
        self.table.request(arrival, Some(place), now, &mut self.parcel);
        self.socket.send(&self.parcel);
    }

    fn cut(&mut self, now: Instant) {
        while self.table.cut(now, &mut self.parcel) {
            self.socket.send(&self.parcel);
        }
    }
}
