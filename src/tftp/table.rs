//! The running transfers of one worker, by client address, with their timers.
//!
//! A client is an address and a port, as all transfers of a worker share a socket. A duplicate request from a known
//! client gets the same response again. A new request replaces the old transfer at once: ROMs request the size, abort
//! and send the next request from the same port.
//!
//! No socket and no clock: datagrams and the time in, one [`Transmit`] at a time out.
//!
//! Invariant: a running transfer has an entry in `timers` at or before its deadline. An entry that fires too early is
//! scheduled again, so a packet that only postpones the deadline leaves `timers` unchanged.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::{Admission, Permit};
use super::balancer::Assignment;
use super::blocks::BlockCache;
use super::packet::{OptionList, RequestPacket, code};
use super::transfer::{Burst, Step, Transfer};
use super::transmit::Transmit;
use super::{
    FileSource, NegotiatedOptions, ReadRequest, TransferEnd, TransferEvent, TransferLimits, names, options,
};

/// A request that repeats an earlier one may be a duplicate that the network delayed. If its transfer made progress
/// within this time, the request counts as a duplicate, otherwise as a new start of the client.
const DUPLICATE_INTERVAL: Duration = Duration::from_secs(1);

/// A request packet and the route by which it arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct IncomingRequest<'a> {
    pub(super) client: SocketAddr,
    /// The server's address that the client used.
    pub(super) local_ip: Option<IpAddr>,
    /// The kernel uses `local_ip` as source address by default; setting the source address costs time.
    pub(super) is_default_source: bool,
    /// MTU of the interface on which it arrived.
    pub(super) mtu: Option<u32>,
    pub(super) packet: &'a [u8],
}

/// State shared by all tables of a server.
#[derive(Clone)]
pub(super) struct ServerState {
    pub(super) files: Arc<dyn FileSource>,
    pub(super) limits: Arc<TransferLimits>,
    pub(super) admission: Arc<Admission>,
    pub(super) blocks: Arc<BlockCache>,
    /// Called at the end of each request; must not block.
    pub(super) report: Arc<dyn Fn(TransferEvent) + Send + Sync>,
}

/// The running transfers of one worker.
pub(super) struct Table {
    state: ServerState,
    transfers: HashMap<SocketAddr, ActiveTransfer>,
    timers: Timers,
}

type Timers = BinaryHeap<Reverse<(Instant, SocketAddr)>>;

struct ActiveTransfer {
    transfer: Transfer,
    /// The whole request, to recognize duplicates.
    request: Box<[u8]>,
    name: Box<[u8]>,
    local_ip: Option<IpAddr>,
    /// Source address to set on the socket. `None` until the first retransmission if the kernel's default was right:
    /// a missing response may mean that routes have changed.
    source_ip: Option<IpAddr>,
    started_at: Instant,
    /// Time of the valid entry in `timers`; other entries are stale.
    timer_at: Option<Instant>,
    _permit: Permit,
    _assignment: Option<Assignment>,
}

impl Table {
    pub(super) fn new(state: ServerState) -> Self {
        Self { state, transfers: HashMap::new(), timers: BinaryHeap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.transfers.is_empty()
    }

    /// Handles a request. Writes the response to `transmit`, or leaves it empty. A transfer that starts keeps the
    /// assignment.
    pub(super) fn handle_request(
        &mut self,
        request: IncomingRequest<'_>,
        assignment: Option<Assignment>,
        now: Instant,
        transmit: &mut Transmit,
    ) {
        let IncomingRequest { client, local_ip, packet, .. } = request;
        transmit.clear();
        transmit.set_addresses(client, local_ip);
        // Port 0 is unreachable, and RFC 1123 §4.2.3.5 forbids responses to broadcasts.
        if client.port() == 0 || local_ip.is_some_and(is_broadcast_or_multicast) {
            return;
        }
        let Some(request_packet) = RequestPacket::parse(packet) else { return };
        if let Some(active) = self.transfers.get_mut(&client) {
            if *active.request == *packet {
                if !active.transfer.has_response() {
                    let burst = active.transfer.handle_duplicate_request(now);
                    return active.send_and_schedule(client, Some(burst), &mut self.timers, transmit);
                }
                if now < active.transfer.last_progress_at() + DUPLICATE_INTERVAL {
                    return;
                }
            }
            self.finish(client, TransferEnd::Replaced, now);
        }
        match request_packet {
            RequestPacket::Read { name, options } => {
                if let Err(outcome) = self.start_transfer(request, assignment, (name, options), now, transmit)
                {
                    self.reject(request, name, outcome, transmit);
                }
            }
            RequestPacket::Write { name } => self.reject(request, name, TransferEnd::Refused, transmit),
            RequestPacket::Malformed => self.reject(request, b"", TransferEnd::Refused, transmit),
        }
    }

    /// Handles a packet of a transfer.
    pub(super) fn handle_packet(
        &mut self,
        client: SocketAddr,
        packet: &[u8],
        now: Instant,
        transmit: &mut Transmit,
    ) {
        transmit.clear();
        let Some(active) = self.transfers.get_mut(&client) else { return };
        match active.transfer.handle_packet(packet, now) {
            Step::End(outcome) => self.finish(client, outcome, now),
            Step::Send(burst) => active.send_and_schedule(client, Some(burst), &mut self.timers, transmit),
            Step::Wait => active.send_and_schedule(client, None, &mut self.timers, transmit),
        }
    }

    /// Time of the next [`Table::tick`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Handles one due timer; false if no timer is due.
    pub(super) fn tick(&mut self, now: Instant, transmit: &mut Transmit) -> bool {
        transmit.clear();
        if self.deadline().is_none_or(|at| at > now) {
            return false;
        }
        let Some(Reverse((at, client))) = self.timers.pop() else { return false };
        if let Some(active) = self.transfers.get_mut(&client)
            && active.timer_at == Some(at)
        {
            active.timer_at = None;
            match active.transfer.tick(now) {
                Step::End(outcome) => self.finish(client, outcome, now),
                Step::Send(burst) => {
                    active.source_ip = active.local_ip;
                    active.send_and_schedule(client, Some(burst), &mut self.timers, transmit);
                }
                Step::Wait => active.send_and_schedule(client, None, &mut self.timers, transmit),
            }
        }
        true
    }

    /// Aborts one transfer because of the shutdown; false if the table is empty.
    pub(super) fn abort_next(&mut self, now: Instant, transmit: &mut Transmit) -> bool {
        let Some((&client, active)) = self.transfers.iter().next() else { return false };
        transmit.set_addresses(client, active.local_ip);
        transmit.put_error(code::OTHER, "The server is stopping");
        self.finish(client, TransferEnd::Stopped, now);
        true
    }

    fn start_transfer(
        &mut self,
        request: IncomingRequest<'_>,
        assignment: Option<Assignment>,
        (raw_name, requested): (&[u8], OptionList<'_>),
        now: Instant,
        transmit: &mut Transmit,
    ) -> Result<(), TransferEnd> {
        let IncomingRequest { client, local_ip, is_default_source, mtu, packet } = request;
        let ServerState { files, limits, admission, .. } = &self.state;
        let name = names::canonicalize(raw_name).ok_or(TransferEnd::NotFound)?;
        let file = files.read(ReadRequest { name: &name, client, local_ip }).ok_or(TransferEnd::NotFound)?;
        let permit = admission.admit(client.ip()).ok_or(TransferEnd::Busy)?;
        let max_block_size = options::max_block_size(limits, client.ip(), mtu);
        let max_window_size = limits.window_size.clamp(1, TransferLimits::MAX_WINDOW_SIZE);
        let (options, oack) =
            options::negotiate(requested, file.len() as u64, max_block_size, max_window_size);
        let blocks = self.state.blocks.get(file, options.block_size);
        let (transfer, burst) = Transfer::begin(blocks, options, oack, limits, now);
        let mut active = ActiveTransfer {
            transfer,
            request: packet.into(),
            name: raw_name.into(),
            local_ip,
            source_ip: local_ip.filter(|_| !is_default_source),
            started_at: now,
            timer_at: None,
            _permit: permit,
            _assignment: assignment,
        };
        active.send_and_schedule(client, Some(burst), &mut self.timers, transmit);
        self.transfers.insert(client, active);
        Ok(())
    }

    fn reject(
        &self,
        request: IncomingRequest<'_>,
        name: &[u8],
        outcome: TransferEnd,
        transmit: &mut Transmit,
    ) {
        match outcome {
            TransferEnd::NotFound => transmit.put_error(code::NOT_FOUND, "No such file"),
            TransferEnd::Busy => transmit.put_error(code::OTHER, "Too many transfers, please try again"),
            _ if name.is_empty() => transmit.put_error(code::ILLEGAL, "Not a TFTP request"),
            _ => transmit.put_error(code::ACCESS, "This server is read-only"),
        }
        (self.state.report)(TransferEvent {
            client: request.client,
            local_ip: request.local_ip,
            name: String::from_utf8_lossy(name).into_owned(),
            outcome,
            size: 0,
            options: NegotiatedOptions::default(),
            blocks: 0,
            retransmissions: 0,
            duration: Duration::ZERO,
        });
    }

    fn finish(&mut self, client: SocketAddr, outcome: TransferEnd, now: Instant) {
        let Some(active) = self.transfers.remove(&client) else { return };
        (self.state.report)(TransferEvent {
            client,
            local_ip: active.local_ip,
            name: String::from_utf8_lossy(&active.name).into_owned(),
            outcome,
            size: active.transfer.size(),
            options: active.transfer.options(),
            blocks: active.transfer.acked_blocks(),
            retransmissions: active.transfer.retransmissions(),
            duration: now.saturating_duration_since(active.started_at),
        });
    }
}

impl ActiveTransfer {
    /// Writes a burst to `transmit` and keeps the timer at or before the deadline.
    fn send_and_schedule(
        &mut self,
        client: SocketAddr,
        burst: Option<Burst>,
        timers: &mut Timers,
        transmit: &mut Transmit,
    ) {
        if let Some(burst) = burst {
            transmit.set_addresses(client, self.source_ip);
            self.transfer.write(burst, transmit);
        }
        let deadline = self.transfer.deadline();
        if self.timer_at.is_none_or(|timer_at| deadline < timer_at) {
            self.timer_at = Some(deadline);
            timers.push(Reverse((deadline, client)));
        }
    }
}

fn is_broadcast_or_multicast(local_ip: IpAddr) -> bool {
    match local_ip {
        IpAddr::V4(local_ip) => local_ip.is_broadcast() || local_ip.is_multicast(),
        IpAddr::V6(local_ip) => local_ip.is_multicast(),
    }
}
