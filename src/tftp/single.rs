//! Event loop of a worker thread whose transfers share the listen port ([`Ports::Single`](super::Ports)).
//!
//! One turn handles the due timers and the next packet. While clients respond, the worker waits a few milliseconds for
//! the next packet in a blocking receive, without checking its waker. After a time-out it waits in `poll` for a packet,
//! a wake-up or a deadline.
//!
//! Shutdown: the worker ends after its last transfer, or when the grace period expires.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::incoming::{IncomingRequest, ResponsePort};
use super::mtu::MtuCache;
use super::packet::RequestPacket;
use super::port::TransferAddress;
use super::port_kind::PortKind;
use super::segments::Segmentation;
use super::socket::{MAX_DATAGRAM, RecvMeta, Socket};
use super::table::{ServerState, Table};
use super::transmit::Transmit;
use super::waker::Waker;
use super::worker::MAX_SLEEP;

/// Most packets received in a row before timers get their turn.
const MAX_PACKETS_PER_TURN: usize = 512;

/// The worker thread's state.
pub(super) struct SingleWorker {
    socket: Socket,
    segmentation: Segmentation,
    table: Table<()>,
    waker: Arc<Waker>,
    is_shut_down: Arc<AtomicBool>,
    mtus: MtuCache,
    packet: Box<[u8]>,
    transmit: Transmit,
    /// When the grace period expires.
    drain_deadline: Option<Instant>,
}

impl SingleWorker {
    pub(super) fn new(
        socket: Socket,
        state: &ServerState,
        waker: Arc<Waker>,
        is_shut_down: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        socket.report_errors()?;
        let table_waker = Arc::clone(&waker);
        Ok(Self {
            socket,
            segmentation: Segmentation::new(),
            table: Table::new(state.clone(), PortKind::Shared, move || table_waker.wake()),
            waker,
            is_shut_down,
            mtus: MtuCache::default(),
            packet: vec![0; MAX_DATAGRAM].into_boxed_slice(),
            transmit: Transmit::new(),
            drain_deadline: None,
        })
    }

    /// Runs the event loop until the worker has drained.
    pub(super) fn run(mut self, grace: Duration) {
        let (mut now, mut clients_respond) = (Instant::now(), false);
        while self.drain_deadline.is_none() || !self.table.is_empty() {
            if self.drain_deadline.is_some_and(|deadline| now >= deadline) {
                let send = |(): &(), transmit: &Transmit| self.socket.send(transmit, &self.segmentation);
                return self.table.abort_all(now, &mut self.transmit, send);
            }
            while self.table.tick(now, &mut self.transmit).is_some() {
                self.socket.send(&self.transmit, &self.segmentation);
            }
            self.table.finish_evicted(now);
            // An active client responds at once. A blocking receive costs one system call, `poll` with a wake-up
            // three. But the receive ignores the waker. After a receive time-out, use `poll` until the next packet
            // arrives.
            let is_received = clients_respond && !self.table.is_empty() && {
                let result = self.socket.receive(&mut self.packet);
                self.handle_result(result)
            };
            if !is_received {
                now = Instant::now();
                let deadline = self.table.deadline().into_iter().chain(self.drain_deadline).min();
                let timeout = deadline.map_or(MAX_SLEEP, |deadline| deadline.saturating_duration_since(now));
                self.waker.wait(&self.socket.udp, timeout);
                clients_respond = self.empty_socket();
            }
            now = Instant::now();
            if self.drain_deadline.is_none() && self.is_shut_down.load(Ordering::Acquire) {
                self.drain_deadline = Some(now + grace);
            }
        }
    }

    /// Handles the queued datagrams, within the limit of a turn; false if the socket was empty.
    fn empty_socket(&mut self) -> bool {
        for count in 0..MAX_PACKETS_PER_TURN {
            let result = self.socket.try_receive(&mut self.packet);
            if !self.handle_result(result) {
                // A send to another client takes the socket's error and leaves the entry in the error queue. `poll` would
                // return at once for it, over and over.
                self.take_errors();
                return count > 0;
            }
        }
        true
    }

    /// Handles a datagram or an ICMP error; false if nothing was received.
    fn handle_result(&mut self, result: io::Result<RecvMeta>) -> bool {
        match result {
            Ok(meta) => self.handle_datagram(meta, Instant::now()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => self.take_errors(),
        }
        true
    }

    /// Handles the ICMP errors that the kernel has reported.
    fn take_errors(&mut self) {
        for _ in 0..MAX_PACKETS_PER_TURN {
            let Ok(destination) = self.socket.take_unreachable() else { return };
            if let Some(id) = destination.and_then(|client| self.table.find(client)) {
                self.table.handle_unreachable(id, Instant::now(), &mut self.transmit);
            }
        }
    }

    fn handle_datagram(&mut self, meta: RecvMeta, now: Instant) {
        let RecvMeta { length, client, local_ip, interface } = meta;
        let packet = self.packet.get(..length).unwrap_or_default();
        let mut port = ResponsePort::Request;
        if self.drain_deadline.is_none() && RequestPacket::parse(packet).is_some() {
            let mtu = interface.and_then(|interface| self.mtus.look_up(interface, client, now));
            let is_default_source = self.socket.default_source(client) == local_ip;
            let request = IncomingRequest { client, local_ip, is_default_source, mtu, packet };
            port = self.table.handle_request(request, None, now, &mut self.transmit, |_| Some(()));
        } else if let Some(id) = self.table.find(client) {
            self.table.handle_packet(id, packet, now, &mut self.transmit);
        } else {
            return;
        }
        match port {
            ResponsePort::Transfer(_) | ResponsePort::Request => {
                self.socket.send(&self.transmit, &self.segmentation);
            }
            ResponsePort::Other => self.send_from_other_port(interface.unwrap_or_default()),
        }
    }

    /// Sends a rejection that the client must not take for a packet of its transfer.
    fn send_from_other_port(&self, interface: u32) {
        let Transmit { destination, source_ip, .. } = self.transmit;
        let Some(ip) = source_ip.or_else(|| self.socket.bound_ip()) else { return };
        if let Ok(socket) = UdpSocket::bind(TransferAddress { ip, interface }.with_port(0)) {
            let _ = socket.send_to(self.transmit.bytes(), destination);
        }
    }
}
