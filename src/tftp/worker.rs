//! Event loop of a worker thread whose transfers have ports of their own.
//!
//! One turn handles the due timers, a packet of each transfer whose socket is readable, and new requests. While a single
//! client responds, the worker waits a few milliseconds for its next packet in a blocking receive, without checking its
//! waker. The event loop does not depend on the runtime and its other listeners.
//!
//! Shutdown: the [`WorkerHandle`] is dropped. The worker then ends after its last transfer, or when the grace period
//! expires.
//!
//! Invariant: a worker handles the packets of running transfers before it starts a transfer. A ROM sends its abort and
//! then its next request from the same port; the abort must end the old transfer first.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use super::balancer::Assignment;
use super::incoming::{IncomingRequest, ResponsePort};
use super::mtu::MtuCache;
use super::poller::Poller;
use super::port::{TransferAddress, TransferSocket};
use super::port_kind::PortKind;
use super::segments::Segmentation;
use super::socket::{MAX_DATAGRAM, Socket};
use super::table::{ServerState, Table};
use super::transfer_id::TransferId;
use super::transmit::Transmit;
use super::waker::Waker;

/// Most requests queued for a worker. Further requests are dropped; the clients retransmit them.
const QUEUE_LENGTH: usize = 1024;
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
    /// The listen socket, for rejections.
    request_socket: Arc<Socket>,
    range: Option<RangeInclusive<u16>>,
    table: Table<TransferSocket>,
    requests: Receiver<QueuedRequest>,
    waker: Arc<Waker>,
    poller: Poller,
    ready: Vec<TransferId>,
    mtus: MtuCache,
    packet: Box<[u8]>,
    transmit: Transmit,
    /// When the grace period expires; `Some` after the handle was dropped.
    drain_deadline: Option<Instant>,
}

impl Worker {
    /// Returns a worker whose transfers have ports of `range`, or those that the kernel picks.
    pub(super) fn new(
        request_socket: Arc<Socket>,
        range: Option<RangeInclusive<u16>>,
        state: &ServerState,
    ) -> std::io::Result<(Self, WorkerHandle)> {
        let (waker, ports) = (Arc::new(Waker::new()?), PortKind::of_range(range.as_ref()));
        let (sender, requests) = sync_channel(QUEUE_LENGTH);
        let table_waker = Arc::clone(&waker);
        let worker = Self {
            request_socket,
            range,
            table: Table::new(state.clone(), ports, move || table_waker.wake()),
            requests,
            waker: Arc::clone(&waker),
            poller: Poller::new(Arc::clone(&waker))?,
            ready: Vec::new(),
            mtus: MtuCache::default(),
            packet: vec![0; MAX_DATAGRAM].into_boxed_slice(),
            transmit: Transmit::new(),
            drain_deadline: None,
        };
        Ok((worker, WorkerHandle { requests: Some(sender), waker }))
    }

    /// Runs the event loop until the worker has drained.
    pub(super) fn run(mut self, grace: Duration) {
        let (mut now, mut client_responds) = (Instant::now(), false);
        while self.drain_deadline.is_none() || !self.table.is_empty() {
            if self.drain_deadline.is_some_and(|deadline| now >= deadline) {
                let send = |port: &TransferSocket, transmit: &Transmit| drop(port.send(transmit));
                return self.table.abort_all(now, &mut self.transmit, send);
            }
            while let Some(id) = self.table.tick(now, &mut self.transmit) {
                self.send(id, now);
            }
            self.table.finish_evicted(now);
            // An active client responds at once. A blocking receive costs one system call, `epoll` with a receive two,
            // and three with a wake-up. But the receive ignores the waker. After a receive time-out, use `epoll` until
            // the next packet arrives.
            let only_transfer = self.table.only_transfer().filter(|_| client_responds);
            client_responds = match only_transfer {
                Some(id) => self.receive(id, TransferSocket::receive),
                None => self.poll(now),
            };
            now = Instant::now();
            self.take_requests(grace);
        }
    }

    /// Waits for packets until the next deadline, and receives one of each transfer; false if there was none.
    fn poll(&mut self, now: Instant) -> bool {
        let deadline = self.table.deadline().into_iter().chain(self.drain_deadline).min();
        let timeout = deadline.map_or(MAX_SLEEP, |deadline| deadline.saturating_duration_since(now));
        self.wait(timeout)
    }

    fn wait(&mut self, timeout: Duration) -> bool {
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.wait(timeout, &mut ready);
        let has_packets = !ready.is_empty();
        for id in ready.drain(..) {
            self.receive(id, TransferSocket::try_receive);
        }
        self.ready = ready;
        has_packets
    }

    /// Receives and handles a packet of a transfer; false if there was none.
    fn receive(
        &mut self,
        id: TransferId,
        receive: fn(&TransferSocket, &mut [u8]) -> std::io::Result<usize>,
    ) -> bool {
        let Some(port) = self.table.port(id) else { return false };
        let result = receive(port, &mut self.packet);
        let now = Instant::now();
        match result {
            Ok(length) => {
                let packet = self.packet.get(..length).unwrap_or_default();
                self.table.handle_packet(id, packet, now, &mut self.transmit);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return false;
            }
            Err(_) => self.table.handle_unreachable(id, now, &mut self.transmit),
        }
        self.send(id, now);
        true
    }

    /// Starts queued requests, within the limit of a turn. Begins the drain if the handle was dropped.
    fn take_requests(&mut self, grace: Duration) {
        for _ in 0..MAX_REQUESTS_PER_TURN {
            if self.drain_deadline.is_some() {
                return;
            }
            match self.requests.try_recv() {
                Ok(request) => {
                    self.receive_of_client(request.client);
                    self.start_transfer(request);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.drain_deadline = Some(Instant::now() + grace),
            }
        }
        // The queue may hold more requests, whose wake-up is spent.
        self.waker.wake();
    }

    /// Handles the queued packets of a client's running transfer.
    fn receive_of_client(&mut self, client: SocketAddr) {
        while let Some(id) = self.table.find(client)
            && self.receive(id, TransferSocket::try_receive)
        {}
    }

    fn start_transfer(&mut self, request: QueuedRequest) {
        let QueuedRequest { client, local_ip, interface, packet, assignment } = request;
        let now = Instant::now();
        let mtu = interface.and_then(|interface| self.mtus.look_up(interface, client, now));
        let request = IncomingRequest { client, local_ip, is_default_source: true, mtu, packet: &packet };
        let (poller, range, bound_ip) = (&self.poller, self.range.as_ref(), self.request_socket.bound_ip());
        let open_port = |id| {
            let address =
                TransferAddress { ip: local_ip.or(bound_ip)?, interface: interface.unwrap_or_default() };
            let socket = TransferSocket::open(&address, range, client).ok()?;
            poller.add(&socket, id).ok()?;
            Some(socket)
        };
        let port = self.table.handle_request(request, Some(assignment), now, &mut self.transmit, open_port);
        match port {
            ResponsePort::Transfer(id) => self.send(id, now),
            ResponsePort::Request | ResponsePort::Other => {
                self.request_socket.send(&self.transmit, &Segmentation::new());
            }
        }
    }

    /// Sends the burst of a transfer, if any.
    fn send(&mut self, id: TransferId, now: Instant) {
        let Some(port) = self.table.port(id) else { return };
        if port.send(&self.transmit).is_err() {
            self.table.handle_unreachable(id, now, &mut self.transmit);
        }
    }
}
