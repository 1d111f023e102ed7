//! The running transfers of one worker, with their timers.
//!
//! A client is an address and a port, with at most one transfer. A duplicate request from a known client gets the same
//! response again. A different request replaces the old transfer at once: ROMs request the size, abort and send the
//! next request from the same port. But a request may be forged, so two rules protect a transfer that moves
//! ([`Transfer::is_moving`]): it ignores a different request, and a rejected request touches no transfer.
//!
//! No socket and no clock: datagrams and the time in, one [`Transmit`] at a time out. The port of a transfer, of type
//! `P`, is opaque here; its owner sends and receives with it.
//!
//! Invariant: a running transfer has an entry in `timers` at or before its deadline. An entry that fires too early is
//! scheduled again, so a packet that only postpones the deadline leaves `timers` unchanged.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::BuildHasherDefault;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::active::ActiveTransfer;
use super::admission::{Admission, EvictionQueue};
use super::balancer::Assignment;
use super::blocks::BlockCache;
use super::budget::{BudgetCharge, TransferBudget, UnprovenBudget};
use super::burst::{Burst, Step};
use super::incoming::{IncomingRequest, ResponsePort};
use super::packet::{OptionList, RequestPacket, code};
use super::port_kind::PortKind;
use super::transfer::{MOVING_INTERVAL, Transfer};
use super::transfer_id::{IdHasher, TransferId};
use super::transmit::Transmit;
use super::{
    FileSource, NegotiatedOptions, ReadRequest, TransferEnd, TransferEvent, TransferLimits, names, options,
};

/// State shared by all tables of a server.
#[derive(Clone)]
pub(super) struct ServerState {
    pub(super) files: Arc<dyn FileSource>,
    pub(super) limits: Arc<TransferLimits>,
    pub(super) admission: Arc<Admission>,
    pub(super) budget: Arc<UnprovenBudget>,
    pub(super) blocks: Arc<BlockCache>,
    /// Called at the end of each request; must not block.
    pub(super) report: Arc<dyn Fn(TransferEvent) + Send + Sync>,
}

/// The running transfers of one worker.
pub(super) struct Table<P> {
    state: ServerState,
    transfers: HashMap<TransferId, ActiveTransfer<P>, BuildHasherDefault<IdHasher>>,
    by_client: HashMap<SocketAddr, TransferId>,
    next_id: u64,
    timers: BinaryHeap<Reverse<(Instant, TransferId)>>,
    evictions: Arc<EvictionQueue>,
    /// The ports of the transfers.
    ports: PortKind,
}

impl<P> Table<P> {
    /// Returns an empty table. `wake` wakes its worker when a transfer is evicted by another worker.
    pub(super) fn new(state: ServerState, ports: PortKind, wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            state,
            transfers: HashMap::default(),
            by_client: HashMap::new(),
            next_id: 0,
            timers: BinaryHeap::new(),
            evictions: EvictionQueue::new(wake),
            ports,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.transfers.is_empty()
    }

    /// The only transfer, if there is exactly one.
    pub(super) fn only_transfer(&self) -> Option<TransferId> {
        let mut ids = self.transfers.keys();
        ids.next().copied().filter(|_| self.transfers.len() == 1)
    }

    /// The transfer of a client.
    pub(super) fn find(&self, client: SocketAddr) -> Option<TransferId> {
        self.by_client.get(&client).copied()
    }

    /// The port of a running transfer.
    pub(super) fn port(&self, id: TransferId) -> Option<&P> {
        self.transfers.get(&id).map(|active| &active.port)
    }

    /// Handles a request. Writes the response to `transmit`, or leaves it empty; returns the port that sends it. A
    /// transfer that starts keeps the assignment, and the port that `open_port` returns.
    pub(super) fn handle_request(
        &mut self,
        request: IncomingRequest<'_>,
        assignment: Option<Assignment>,
        now: Instant,
        transmit: &mut Transmit,
        open_port: impl FnOnce(TransferId) -> Option<P>,
    ) -> ResponsePort {
        let IncomingRequest { client, local_ip, packet, .. } = request;
        transmit.clear();
        transmit.set_addresses(client, local_ip);
        if !request.may_be_answered() {
            return ResponsePort::Request;
        }
        let Some(request_packet) = RequestPacket::parse(packet) else { return ResponsePort::Request };
        let old = self.find(client).and_then(|id| Some((id, self.transfers.get_mut(&id)?)));
        let is_moving = old.as_ref().is_some_and(|(_, active)| active.transfer.is_moving(now));
        if let Some((id, active)) = old
            && *active.request == *packet
        {
            if !active.transfer.has_response() {
                let burst = active.transfer.handle_duplicate_request(now);
                self.send_and_schedule(id, Some(burst), now, transmit);
                return ResponsePort::Transfer(id);
            }
            // Within this time a duplicate that the network delayed, later a new start of the client.
            if now < active.transfer.last_progress_at() + MOVING_INTERVAL {
                return ResponsePort::Request;
            }
        }
        let outcome = match self.look_up(&request, &request_packet) {
            Ok(_) if is_moving => return ResponsePort::Request,
            Ok((file, name, options)) => {
                if let Some(id) = self.find(client) {
                    self.finish(id, TransferEnd::Replaced, now);
                }
                let requested = (file, name, options);
                match self.start_transfer(request, assignment, requested, now, transmit, open_port) {
                    Some(id) => return ResponsePort::Transfer(id),
                    None => TransferEnd::Busy,
                }
            }
            Err(outcome) => outcome,
        };
        self.reject(request, &request_packet, outcome, transmit);
        if is_moving && self.ports == PortKind::Shared { ResponsePort::Other } else { ResponsePort::Request }
    }

    /// Handles a packet of a transfer.
    pub(super) fn handle_packet(
        &mut self,
        id: TransferId,
        packet: &[u8],
        now: Instant,
        transmit: &mut Transmit,
    ) {
        transmit.clear();
        let Some(active) = self.transfers.get_mut(&id) else { return };
        let step = active.handle_packet(packet, &self.state.budget, now);
        self.take_step(id, step, now, transmit);
    }

    /// Handles an ICMP error for a packet of a transfer.
    pub(super) fn handle_unreachable(&mut self, id: TransferId, now: Instant, transmit: &mut Transmit) {
        transmit.clear();
        let Some(active) = self.transfers.get_mut(&id) else { return };
        let step = active.transfer.handle_unreachable(now);
        self.take_step(id, step, now, transmit);
    }

    /// Time of the next [`Table::tick`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Handles one due timer and returns its transfer; `None` if no timer is due.
    pub(super) fn tick(&mut self, now: Instant, transmit: &mut Transmit) -> Option<TransferId> {
        transmit.clear();
        self.deadline().filter(|at| *at <= now)?;
        let Reverse((at, id)) = self.timers.pop()?;
        if let Some(active) = self.transfers.get_mut(&id)
            && active.timer_at == Some(at)
        {
            active.timer_at = None;
            let step = active.transfer.tick(now);
            if matches!(step, Step::Send(_)) {
                active.source_ip = active.local_ip;
            }
            self.take_step(id, step, now, transmit);
        }
        Some(id)
    }

    /// Ends the transfers that gave way to those of other workers.
    pub(super) fn finish_evicted(&mut self, now: Instant) {
        for id in self.evictions.take() {
            self.finish(id, TransferEnd::Busy, now);
        }
    }

    /// Writes an abort of each transfer to `transmit`, because of the shutdown, and has it sent.
    pub(super) fn abort_all(
        &mut self,
        now: Instant,
        transmit: &mut Transmit,
        mut send: impl FnMut(&P, &Transmit),
    ) {
        while let Some((&id, active)) = self.transfers.iter().next() {
            transmit.set_addresses(active.client, active.local_ip);
            transmit.put_error(code::OTHER, "The server is stopping");
            send(&active.port, transmit);
            self.finish(id, TransferEnd::Stopped, now);
        }
        transmit.clear();
    }

    fn take_step(&mut self, id: TransferId, step: Step, now: Instant, transmit: &mut Transmit) {
        match step {
            Step::End(outcome) => self.finish(id, outcome, now),
            Step::Send(burst) => self.send_and_schedule(id, Some(burst), now, transmit),
            Step::Wait => self.send_and_schedule(id, None, now, transmit),
        }
    }

    /// Writes a burst to `transmit` and keeps the timer at or before the deadline.
    fn send_and_schedule(
        &mut self,
        id: TransferId,
        burst: Option<Burst>,
        now: Instant,
        transmit: &mut Transmit,
    ) {
        let Some(active) = self.transfers.get_mut(&id) else { return };
        if let Some(burst) = burst {
            active.write(burst, &self.state.budget, now, transmit);
        }
        let deadline = active.transfer.deadline();
        if active.timer_at.is_none_or(|timer_at| deadline < timer_at) {
            active.timer_at = Some(deadline);
            self.timers.push(Reverse((deadline, id)));
        }
    }

    /// Looks up the requested file; `Err` if the request is rejected.
    fn look_up<'a>(
        &self,
        request: &IncomingRequest<'_>,
        packet: &RequestPacket<'a>,
    ) -> Result<(Bytes, &'a [u8], OptionList<'a>), TransferEnd> {
        let IncomingRequest { client, local_ip, .. } = *request;
        let files = &self.state.files;
        if !files.allows(client.ip()) {
            return Err(TransferEnd::NotAllowed);
        }
        let RequestPacket::Read { name: raw_name, options } = packet else {
            return Err(TransferEnd::Refused);
        };
        let name = names::canonicalize(raw_name).ok_or(TransferEnd::NotFound)?;
        let file = files.read(ReadRequest { name: &name, client, local_ip }).ok_or(TransferEnd::NotFound)?;
        Ok((file, raw_name, options.clone()))
    }

    /// Starts a transfer; `None` if no other transfer can give way, or no port is left.
    fn start_transfer(
        &mut self,
        request: IncomingRequest<'_>,
        assignment: Option<Assignment>,
        (file, name, requested): (Bytes, &[u8], OptionList<'_>),
        now: Instant,
        transmit: &mut Transmit,
        open_port: impl FnOnce(TransferId) -> Option<P>,
    ) -> Option<TransferId> {
        let IncomingRequest { client, local_ip, is_default_source, mtu, packet } = request;
        let id = TransferId(self.next_id);
        self.next_id += 1;
        let permit = self.state.admission.admit(client.ip(), id, &self.evictions)?;
        self.finish_evicted(now);
        let port = open_port(id)?;
        let limits = &self.state.limits;
        let max_block_size = options::max_block_size(limits, client.ip(), mtu);
        let max_window_size = options::max_window_size(limits, max_block_size);
        let (options, oack) =
            options::negotiate(requested, file.len() as u64, max_block_size, max_window_size);
        let blocks = self.state.blocks.get(file, options.block_size);
        let (transfer, burst) = Transfer::begin(blocks, options, oack, limits, self.ports, now);
        let active = ActiveTransfer {
            transfer,
            client,
            request: packet.into(),
            name: name.into(),
            local_ip,
            source_ip: local_ip.filter(|_| !is_default_source),
            started_at: now,
            timer_at: None,
            port,
            permit,
            charge: BudgetCharge::default(),
            own_budget: TransferBudget::default(),
            _assignment: assignment,
        };
        self.transfers.insert(id, active);
        self.by_client.insert(client, id);
        self.send_and_schedule(id, Some(burst), now, transmit);
        Some(id)
    }

    fn reject(
        &self,
        request: IncomingRequest<'_>,
        packet: &RequestPacket<'_>,
        outcome: TransferEnd,
        transmit: &mut Transmit,
    ) {
        let (name, code, text) = match packet {
            RequestPacket::Read { name, .. } => (*name, code::NOT_FOUND, "No such file"),
            RequestPacket::Write { name } => (*name, code::ACCESS, "This server is read-only"),
            RequestPacket::Malformed => (&b""[..], code::ILLEGAL, "Not a TFTP request"),
        };
        // Silence at a limit: the request may be forged, and an error would end a firmware's attempts.
        match outcome {
            TransferEnd::Busy => transmit.clear(),
            TransferEnd::NotAllowed => {
                transmit.put_error(code::ACCESS, "Your network is not in [tftp] allow");
            }
            _ => transmit.put_error(code, text),
        }
        (self.state.report)(TransferEvent {
            client: request.client,
            local_ip: request.local_ip,
            name: String::from_utf8_lossy(name).into_owned(),
            outcome,
            is_answered: false,
            size: 0,
            options: NegotiatedOptions::default(),
            blocks: 0,
            retransmissions: 0,
            duration: Duration::ZERO,
        });
    }

    fn finish(&mut self, id: TransferId, outcome: TransferEnd, now: Instant) {
        let Some(active) = self.transfers.remove(&id) else { return };
        self.by_client.remove(&active.client);
        (self.state.report)(active.end_event(outcome, now));
    }
}
