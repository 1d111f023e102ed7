//! Event loop of a worker: a thread with a transfer socket and a table of transfers.
//!
//! One turn handles the due timers, the next packet and new requests. While clients respond, the worker waits a few
//! milliseconds for the next packet in a blocking receive, without checking its waker. After a time-out it waits in
//! `poll` for a packet, a wake-up or a deadline. The event loop does not depend on the runtime and its other
//! listeners.
//!
//! Shutdown: the [`WorkerHandle`] is dropped. The worker then ends after its last transfer, or when the grace period
//! expires.
//!
//! Invariant: a worker empties its socket after it dequeues a request and before it starts the transfer. A ROM sends
//! its abort and then its next request from the same port; the abort must not reach the new transfer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use super::balancer::Assignment;
use super::mtu::MtuCache;
use super::packet::RequestPacket;
use super::socket::{MAX_DATAGRAM, RecvMeta, Socket};
use super::table::{IncomingRequest, ServerState, Table};
use super::transmit::Transmit;
use super::waker::Waker;

/// Most requests queued for a worker. Further requests are dropped; the clients retransmit them.
const QUEUE_LENGTH: usize = 1024;
/// Most packets received in a row before timers get their turn.
const MAX_PACKETS_PER_TURN: usize = 512;
/// Most new requests in a row before timers get their turn.
const MAX_REQUESTS_PER_TURN: usize = 64;
/// Longest wait of an idle thread.
pub(super) const MAX_SLEEP: Duration = Duration::from_secs(3600);

/// A request on its way from the acceptor to a worker.
#[derive(Debug)]
pub(super) struct QueuedRequest {
    pub(super) client: SocketAddr,
    pub(super) local_ip: Option<IpAddr>,
    pub(super) interface: Option<u32>,
    pub(super) packet: Box<[u8]>,
    pub(super) assignment: Assignment,
}

/// The sending end of a worker's queue. Dropping the handle tells the worker to drain and end.
#[derive(Debug)]
pub(super) struct WorkerHandle {
    /// `None` only while the handle is dropped.
    requests: Option<SyncSender<QueuedRequest>>,
    waker: Arc<Waker>,
}

impl WorkerHandle {
    /// Queues a request; false if the queue is full.
    pub(super) fn try_enqueue(&self, request: QueuedRequest) -> bool {
        let is_queued = self.requests.as_ref().is_some_and(|requests| requests.try_send(request).is_ok());
        self.waker.wake();
        is_queued
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.requests = None;
        self.waker.wake();
    }
}

/// A worker thread's state.
pub(super) struct Worker {
    socket: Socket,
    table: Table,
    requests: Receiver<QueuedRequest>,
    waker: Arc<Waker>,
    mtus: MtuCache,
    packet: Box<[u8]>,
    transmit: Transmit,
    /// When the grace period expires; `Some` after the handle was dropped.
    drain_deadline: Option<Instant>,
}

impl Worker {
    pub(super) fn new(socket: Socket, state: &ServerState) -> std::io::Result<(Self, WorkerHandle)> {
        let waker = Arc::new(Waker::new()?);
        let (sender, requests) = sync_channel(QUEUE_LENGTH);
        let worker = Self {
            socket,
            table: Table::new(state.clone()),
            requests,
            waker: Arc::clone(&waker),
            mtus: MtuCache::default(),
            packet: vec![0; MAX_DATAGRAM].into_boxed_slice(),
            transmit: Transmit::new(),
            drain_deadline: None,
        };
        Ok((worker, WorkerHandle { requests: Some(sender), waker }))
    }

    /// Runs the event loop until the worker has drained.
    pub(super) fn run(mut self, grace: Duration) {
        let (mut now, mut clients_respond) = (Instant::now(), false);
        while self.drain_deadline.is_none() || !self.table.is_empty() {
            if self.drain_deadline.is_some_and(|deadline| now >= deadline) {
                return self.abort_all(now);
            }
            while self.table.tick(now, &mut self.transmit) {
                self.socket.send(&self.transmit);
            }
            // An active client responds at once. A blocking receive costs one system call, `poll` with a wake-up
            // three. But the receive ignores the waker. After a receive time-out, use `poll` until the next packet
            // arrives.
            let is_blocking_receive = clients_respond && !self.table.is_empty();
            let meta = if is_blocking_receive { self.socket.receive(&mut self.packet) } else { None };
            now = Instant::now();
            if let Some(meta) = meta {
                self.handle_datagram(meta, now);
            } else {
                let deadline = self.table.deadline().into_iter().chain(self.drain_deadline).min();
                let timeout = deadline.map_or(MAX_SLEEP, |deadline| deadline.saturating_duration_since(now));
                self.waker.wait(&self.socket.udp, timeout);
                clients_respond = self.empty_socket();
                now = Instant::now();
            }
            self.take_requests(grace);
        }
    }

    /// Starts queued requests, within the limit of a turn. Begins the drain if the handle was dropped.
    fn take_requests(&mut self, grace: Duration) {
        for _ in 0..MAX_REQUESTS_PER_TURN {
            if self.drain_deadline.is_some() {
                return;
            }
            match self.requests.try_recv() {
                Ok(request) => {
                    self.empty_socket();
                    self.start_transfer(request);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.drain_deadline = Some(Instant::now() + grace),
            }
        }
        // The queue may hold more requests, whose wake-up is spent.
        self.waker.wake();
    }

    /// Handles the queued datagrams, within the limit of a turn; false if the socket was empty.
    fn empty_socket(&mut self) -> bool {
        for count in 0..MAX_PACKETS_PER_TURN {
            let Some(meta) = self.socket.try_receive(&mut self.packet) else { return count > 0 };
            self.handle_datagram(meta, Instant::now());
        }
        true
    }

    fn handle_datagram(&mut self, meta: RecvMeta, now: Instant) {
        let RecvMeta { length, client, local_ip, interface } = meta;
        let packet = self.packet.get(..length).unwrap_or_default();
        let may_be_request = self.socket.accepts_requests() && self.drain_deadline.is_none();
        if may_be_request && RequestPacket::parse(packet).is_some() {
            let mtu = interface.and_then(|interface| self.mtus.look_up(interface, client, now));
            let is_default_source = self.socket.default_source(client) == local_ip;
            let request = IncomingRequest { client, local_ip, is_default_source, mtu, packet };
            self.table.handle_request(request, None, now, &mut self.transmit);
        } else {
            self.table.handle_packet(client, packet, now, &mut self.transmit);
        }
        self.socket.send(&self.transmit);
    }

    fn start_transfer(&mut self, request: QueuedRequest) {
        let QueuedRequest { client, local_ip, interface, packet, assignment } = request;
        let now = Instant::now();
        let mtu = interface.and_then(|interface| self.mtus.look_up(interface, client, now));
        let is_default_source = self.socket.default_source(client) == local_ip;
        let request = IncomingRequest { client, local_ip, is_default_source, mtu, packet: &packet };
        self.table.handle_request(request, Some(assignment), now, &mut self.transmit);
        self.socket.send(&self.transmit);
    }

    fn abort_all(&mut self, now: Instant) {
        while self.table.abort_next(now, &mut self.transmit) {
            self.socket.send(&self.transmit);
        }
    }
}
