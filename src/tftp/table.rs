//! The transfers of one worker, by client address: who runs, what is due, how each ended.
//!
//! A client is its address and port, as all transfers of a worker share a socket. A request from a known client is the
//! same one again (it is answered again, no second transfer) or a new one (the old transfer gives way at once: ROMs
//! ask for the size, break off and ask again from the same port).
//!
//! No socket and no clock: datagrams and the time in, one [`Parcel`] at a time out.
//!
//! Invariant: a running transfer always has an entry in `due` at or before its deadline. An entry that came too early is
//! put back, so a packet that only moves the deadline further costs nothing there.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::{Admission, Permit};
use super::cut::Cuts;
use super::packet::{OptionList, Request, code};
use super::parcel::Parcel;
use super::spread::Place;
use super::transfer::{Burst, Step, Transfer};
use super::{Agreed, Event, Files, Limits, Outcome, ReadRequest, names, options};

/// A request that was seen already may reach us late. While its transfer makes progress at this pace it
/// is taken for such a duplicate, not for a client that began anew.
const STILL_MOVING: Duration = Duration::from_secs(1);

/// A request as it arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) client: SocketAddr,
    /// The address of ours it was sent to.
    pub(super) local: Option<IpAddr>,
    /// The kernel answers from there unless it is told otherwise, and to tell it costs something.
    pub(super) local_is_usual: bool,
    /// MTU of the interface it came through.
    pub(super) mtu: Option<u32>,
    pub(super) packet: &'a [u8],
}

/// What all tables of a server share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) files: Arc<dyn Files>,
    pub(super) limits: Arc<Limits>,
    pub(super) admission: Arc<Admission>,
    pub(super) cuts: Arc<Cuts>,
    /// Told of each end; must not wait.
    pub(super) tell: Arc<dyn Fn(Event) + Send + Sync>,
}

/// The transfers of one worker.
pub(super) struct Table {
    shared: Shared,
    sessions: HashMap<SocketAddr, Session>,
    due: Due,
}

type Due = BinaryHeap<Reverse<(Instant, SocketAddr)>>;

struct Session {
    transfer: Transfer,
    /// The whole request, to know it again.
    request: Box<[u8]>,
    name: Box<[u8]>,
    local: Option<IpAddr>,
    /// What the kernel has to be told of it. Once an answer stayed away that is all: routes may have changed.
    from: Option<IpAddr>,
    began: Instant,
    /// When its valid entry in `due` comes up; any other is stale.
    scheduled: Option<Instant>,
    _permit: Permit,
    _place: Option<Place>,
}

impl Table {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared, sessions: HashMap::new(), due: BinaryHeap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// A datagram that came to a listener. What to answer is in `parcel`, which may be left empty. A transfer that
    /// begins keeps the place.
    pub(super) fn request(
        &mut self,
        arrival: Arrival<'_>,
        place: Option<Place>,
        now: Instant,
        parcel: &mut Parcel,
    ) {
        let Arrival { client, local, packet, .. } = arrival;
        parcel.clear();
        parcel.address(client, local);
        // A port 0 cannot be answered, and RFC 1123 §4.2.3.5 forbids to answer what was sent to everybody.
        if client.port() == 0 || local.is_some_and(is_everybody) {
            return;
        }
        let Some(request) = Request::parse(packet) else { return };
        if let Some(session) = self.sessions.get_mut(&client) {
            if *session.request == *packet {
                if !session.transfer.is_answered() {
                    let burst = session.transfer.repeat(now);
                    return session.carry_on(client, Some(burst), &mut self.due, parcel);
                }
                if now < session.transfer.progress_at() + STILL_MOVING {
                    return;
                }
            }
            self.end(client, Outcome::Replaced, now);
        }
        match request {
            Request::Read { name, options } => {
                if let Err(outcome) = self.begin(arrival, place, (name, options), now, parcel) {
                    self.refuse(arrival, name, outcome, parcel);
                }
            }
            Request::Write { name } => self.refuse(arrival, name, Outcome::Refused, parcel),
            Request::Malformed => self.refuse(arrival, b"", Outcome::Refused, parcel),
        }
    }

    /// A datagram that came to a transfer.
    pub(super) fn receive(&mut self, client: SocketAddr, packet: &[u8], now: Instant, parcel: &mut Parcel) {
        parcel.clear();
        let Some(session) = self.sessions.get_mut(&client) else { return };
        match session.transfer.receive(packet, now) {
            Step::End(outcome) => self.end(client, outcome, now),
            Step::Send(burst) => session.carry_on(client, Some(burst), &mut self.due, parcel),
            Step::Wait => session.carry_on(client, None, &mut self.due, parcel),
        }
    }

    /// When [`Table::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// Handles one entry that is due; false if there was none.
    pub(super) fn tick(&mut self, now: Instant, parcel: &mut Parcel) -> bool {
        parcel.clear();
        if self.deadline().is_none_or(|at| at > now) {
            return false;
        }
        let Some(Reverse((at, client))) = self.due.pop() else { return false };
        if let Some(session) = self.sessions.get_mut(&client)
            && session.scheduled == Some(at)
        {
            session.scheduled = None;
            match session.transfer.tick(now) {
                Step::End(outcome) => self.end(client, outcome, now),
                Step::Send(burst) => {
                    session.from = session.local;
                    session.carry_on(client, Some(burst), &mut self.due, parcel);
                }
                Step::Wait => session.carry_on(client, None, &mut self.due, parcel),
            }
        }
        true
    }

    /// Ends one transfer because the server stops; false if there was none.
    pub(super) fn cut(&mut self, now: Instant, parcel: &mut Parcel) -> bool {
        let Some((&client, session)) = self.sessions.iter().next() else { return false };
        parcel.address(client, session.local);
        parcel.put_error(code::OTHER, "The server is stopping");
        self.end(client, Outcome::Stopped, now);
        true
    }

    fn begin(
        &mut self,
        arrival: Arrival<'_>,
        place: Option<Place>,
        (raw, asked): (&[u8], OptionList<'_>),
        now: Instant,
        parcel: &mut Parcel,
    ) -> Result<(), Outcome> {
        let Arrival { client, local, local_is_usual, mtu, packet } = arrival;
        let Shared { files, limits, admission, .. } = &self.shared;
        let name = names::canonical(raw).ok_or(Outcome::NotFound)?;
        let file = files.read(ReadRequest { name: &name, client, local }).ok_or(Outcome::NotFound)?;
        let permit = admission.admit(client.ip()).ok_or(Outcome::Busy)?;
        let largest = options::largest_block(limits, client.ip(), mtu);
        let widest = limits.window.clamp(1, Limits::WIDEST_WINDOW);
        let (agreed, oack) = options::negotiate(asked, file.len() as u64, largest, widest);
        let file = self.shared.cuts.of(file, agreed.block_size);
        let (transfer, burst) = Transfer::begin(file, agreed, oack, limits, now);
        let mut session = Session {
            transfer,
            request: packet.into(),
            name: raw.into(),
            local,
            from: local.filter(|_| !local_is_usual),
            began: now,
            scheduled: None,
            _permit: permit,
            _place: place,
        };
        session.carry_on(client, Some(burst), &mut self.due, parcel);
        self.sessions.insert(client, session);
        Ok(())
    }

    fn refuse(&self, arrival: Arrival<'_>, name: &[u8], outcome: Outcome, parcel: &mut Parcel) {
        match outcome {
            Outcome::NotFound => parcel.put_error(code::NOT_FOUND, "No such file"),
            Outcome::Busy => parcel.put_error(code::OTHER, "Too many transfers, please try again"),
            _ if name.is_empty() => parcel.put_error(code::ILLEGAL, "Not a TFTP request"),
            _ => parcel.put_error(code::ACCESS, "This server is read-only"),
        }
        (self.shared.tell)(Event {
            client: arrival.client,
            local: arrival.local,
            name: String::from_utf8_lossy(name).into_owned(),
            outcome,
            size: 0,
            agreed: Agreed::default(),
            blocks: 0,
            retransmissions: 0,
            took: Duration::ZERO,
        });
    }

    fn end(&mut self, client: SocketAddr, outcome: Outcome, now: Instant) {
        let Some(session) = self.sessions.remove(&client) else { return };
        (self.shared.tell)(Event {
            client,
            local: session.local,
            name: String::from_utf8_lossy(&session.name).into_owned(),
            outcome,
            size: session.transfer.size(),
            agreed: session.transfer.agreed(),
            blocks: session.transfer.blocks(),
            retransmissions: session.transfer.retransmissions(),
            took: now.saturating_duration_since(session.began),
        });
    }
}

impl Session {
    /// Puts a burst into the parcel and sees to it that the next deadline is not missed.
    fn carry_on(&mut self, client: SocketAddr, burst: Option<Burst>, due: &mut Due, parcel: &mut Parcel) {
        if let Some(burst) = burst {
            parcel.address(client, self.from);
            self.transfer.write(burst, parcel);
        }
        let deadline = self.transfer.deadline();
        if self.scheduled.is_none_or(|scheduled| deadline < scheduled) {
            self.scheduled = Some(deadline);
            due.push(Reverse((deadline, client)));
        }
    }
}

fn is_everybody(local: IpAddr) -> bool {
    match local {
        IpAddr::V4(local) => local.is_broadcast() || local.is_multicast(),
        IpAddr::V6(local) => local.is_multicast(),
    }
}
