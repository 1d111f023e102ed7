//! [`ProxyDhcp`]: the driver of the engine. One thread receives on both ports, takes the policy's decisions, and sends.
//!
//! The thread waits itself, with `epoll`, instead of using the runtime: an answer then needs three system calls, and no
//! wake-up of another thread. It receives several queued datagrams with one call.
//!
//! Receiving comes before answering: when many machines are switched on at once, the kernel's buffer, which holds a few hundred
//! requests, must not overflow. Requests wait in a bounded queue of the thread.
//!
//! The thread tries each look-up at once, since all are short as a rule. One that waits for a slow store begins again on the
//! runtime, which sends the answer. A bounded number is pending.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answers::{Answers, ProxyCounters, ReplyRoute};
use super::engine::{Datagram, Disposition, Engine, PendingAnswer};
use super::interface_names::InterfaceNames;
use super::packet_socket::PacketSocket;
use super::ports::{BOOT_SERVER_PORT, SERVER_PORT};
use super::socket::{self, ProxySocket, ReceiveBuffers, Reception, ServerSockets};
use super::stop_signal::StopSignal;
use super::{BootPolicy, Exchange, Observation};

/// Look-ups that wait for the store.
const MAX_PENDING: usize = 1024;
/// The time-out of a look-up: a client repeats its request after four seconds.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(3);
/// Most batches of datagrams of one port before the other gets its turn.
const MAX_BATCHES_PER_TURN: usize = 64;
/// Most answers before datagrams are received again.
const ANSWERS_PER_TURN: usize = 32;
/// Requests that wait for their answers, about 8 MB. Further ones wait in the kernel's buffer.
const MAX_QUEUED: usize = 16_384;

/// What the thread waits for.
const STOP: u64 = 0;
const DISCOVERY: u64 = 1;
const BOOT_SERVER: u64 = 2;
const REPLIES: u64 = 3;
const SOURCES: usize = 4;

/// A ProxyDHCP server whose sockets are bound.
#[derive(Debug)]
pub struct ProxyDhcp {
    sockets: ServerSockets,
    /// Receives the replies of other servers; `None` if they are not observed.
    replies: Option<PacketSocket>,
    counters: Arc<ProxyCounters>,
}

/// Whether the replies of other servers can be observed, which needs CAP_NET_RAW.
pub fn check_reply_access() -> io::Result<()> {
    PacketSocket::open().map(drop)
}

impl ProxyDhcp {
    /// Binds both ports. Port 67 may be in use ([`ProxyDhcp::has_discovery`]).
    pub fn bind() -> Result<Self, (u16, io::Error)> {
        let discovery = match socket::bind(SERVER_PORT) {
            Ok(udp) => Some(udp),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
            Err(error) => return Err((SERVER_PORT, error)),
        };
        let boot_server = socket::bind(BOOT_SERVER_PORT).map_err(|error| (BOOT_SERVER_PORT, error))?;
        Self::adopt(discovery.into_iter().chain([boot_server]).collect())
    }

    /// Uses sockets that are bound already: to port 4011, and to port 67 if there is a second one.
    pub fn adopt(sockets: Vec<UdpSocket>) -> Result<Self, (u16, io::Error)> {
        let (mut discovery, mut boot_server) = (None, None);
        for udp in sockets {
            let socket = ProxySocket::new(udp).map_err(|error| (SERVER_PORT, error))?;
            let place = match socket.port() {
                SERVER_PORT => &mut discovery,
                BOOT_SERVER_PORT => &mut boot_server,
                other => {
                    let error = "ProxyDHCP has the ports 67 and 4011";
                    return Err((other, io::Error::new(io::ErrorKind::InvalidInput, error)));
                }
            };
            if place.is_some() {
                let error = io::Error::new(io::ErrorKind::InvalidInput, "two sockets of one port");
                return Err((socket.port(), error));
            }
            *place = Some(socket);
        }
        let missing = || {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "the socket of port 4011 is missing");
            (BOOT_SERVER_PORT, error)
        };
        let boot_server = boot_server.ok_or_else(missing)?;
        let sockets = ServerSockets { discovery, boot_server };
        Ok(Self { sockets, replies: None, counters: Arc::default() })
    }

    /// Observes the replies of other servers too.
    pub fn watch_replies(&mut self) -> io::Result<()> {
        self.replies = Some(PacketSocket::open()?);
        Ok(())
    }

    /// Whether port 67 is served. Without it, clients are answered on port 4011 only.
    pub fn has_discovery(&self) -> bool {
        self.sockets.discovery.is_some()
    }

    /// The bound addresses.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        let ServerSockets { discovery, boot_server } = &self.sockets;
        let sockets = discovery.iter().chain([boot_server]);
        sockets.filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// The counters, which may outlive `serve`.
    pub fn counters(&self) -> Arc<ProxyCounters> {
        Arc::clone(&self.counters)
    }

    /// Serves until `stop`. An observation is dropped and counted while `events` is full.
    pub async fn serve<P: BootPolicy>(
        self,
        policy: Arc<P>,
        events: mpsc::Sender<Observation<P::Note>>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let thread_stop = Arc::new(StopSignal::new()?);
        let (watches_replies, now) = (self.replies.is_some(), Instant::now());
        let proxy = ProxyThread {
            answers: Answers { sockets: Arc::new(self.sockets), counters: self.counters, policy, events },
            replies: self.replies,
            engine: Engine::new(watches_replies, now),
            interfaces: InterfaceNames::new(now),
            queue: VecDeque::new(),
            pending: Arc::new(Semaphore::new(MAX_PENDING)),
            runtime: Handle::current(),
        };
        let stop_guard = StopGuard(Arc::clone(&thread_stop));
        let mut thread = spawn_blocking(move || proxy.run(&thread_stop));
        let ended = tokio::select! {
            () = stop.cancelled() => {
                drop(stop_guard);
                thread.await
            }
            ended = &mut thread => ended,
        };
        ended.map_err(io::Error::other)?
    }
}

/// Ends the thread when it is dropped.
struct StopGuard(Arc<StopSignal>);

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.0.send();
    }
}

/// The state of the server's thread.
struct ProxyThread<P: BootPolicy> {
    answers: Answers<P>,
    engine: Engine,
    interfaces: InterfaceNames,
    /// Taken by the loop.
    replies: Option<PacketSocket>,
    /// Requests that wait for their answers, oldest first.
    queue: VecDeque<(Box<PendingAnswer>, ReplyRoute)>,
    /// A permit for each look-up that waits for the store.
    pending: Arc<Semaphore>,
    /// Runs the look-ups that wait.
    runtime: Handle,
}

impl<P: BootPolicy> ProxyThread<P> {
    fn run(mut self, stop: &StopSignal) -> io::Result<()> {
        let (sockets, replies) = (Arc::clone(&self.answers.sockets), self.replies.take());
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let watch = |fd: BorrowedFd<'_>, source| {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(source), epoll::EventFlags::IN)
        };
        watch(stop.as_fd(), STOP)?;
        watch(sockets.boot_server.as_fd(), BOOT_SERVER)?;
        sockets.discovery.as_ref().map_or(Ok(()), |socket| watch(socket.as_fd(), DISCOVERY))?;
        replies.as_ref().map_or(Ok(()), |replies| watch(replies.as_fd(), REPLIES))?;
        let mut buffers = ReceiveBuffers::new();
        let mut events = Vec::with_capacity(SOURCES);
        loop {
            // Does not wait while there are requests to answer.
            let time_limit = (!self.queue.is_empty()).then(Timespec::default);
            match epoll::wait(&epoll, spare_capacity(&mut events), time_limit.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let mut has_replies = false;
            for event in events.drain(..) {
                match (event.data.u64(), &sockets.discovery) {
                    (STOP, _) => return Ok(()),
                    (DISCOVERY, Some(socket)) => self.receive_batches(socket, &mut buffers),
                    (BOOT_SERVER, _) => self.receive_batches(&sockets.boot_server, &mut buffers),
                    _ => has_replies = true,
                }
            }
            self.answer_queued();
            if let Some(replies) = replies.as_ref().filter(|_| has_replies) {
                self.receive_replies(replies);
            }
        }
    }

    /// Observes the queued replies of other servers.
    fn receive_replies(&mut self, replies: &PacketSocket) {
        let now = Instant::now();
        let sockets = Arc::clone(&self.answers.sockets);
        replies.receive(|packet, interface| {
            let name = self.interfaces.find(sockets.boot_server.udp(), interface, now);
            let is_served = name.is_some_and(|name| self.answers.policy.serves_interface(name));
            let reply = is_served.then(|| self.engine.receive_reply(packet, now)).flatten();
            if let Some(reply) = reply {
                self.answers.report(Observation::Reply(reply));
            }
        });
    }

    fn receive_batches(&mut self, socket: &ProxySocket, buffers: &mut ReceiveBuffers) {
        for _ in 0..MAX_BATCHES_PER_TURN {
            if self.queue.len() >= MAX_QUEUED {
                return;
            }
            let has_more = buffers.receive(socket);
            for (bytes, reception) in buffers.datagrams() {
                if let Some(pending) = self.receive(socket, bytes, reception) {
                    let route = ReplyRoute { port: socket.port(), interface: reception.interface };
                    self.queue.push_back((pending, route));
                }
            }
            if !has_more {
                return;
            }
        }
    }

    /// Answers the oldest requests.
    fn answer_queued(&mut self) {
        let count = self.queue.len().min(ANSWERS_PER_TURN);
        let mut prepared = Vec::with_capacity(count);
        for _ in 0..count {
            let Some((pending, route)) = self.queue.pop_front() else { break };
            let mut context = Context::from_waker(Waker::noop());
            let attempt = pin!(self.answers.policy.decide(&pending.client)).poll(&mut context);
            match attempt {
                Poll::Ready(decision) => prepared.extend(self.answers.prepare(*pending, route, decision)),
                Poll::Pending => self.look_up(pending, route),
            }
        }
        self.answers.send(prepared);
    }

    /// Decides on a datagram. Returns the look-up that it needs.
    fn receive(
        &mut self,
        socket: &ProxySocket,
        bytes: &[u8],
        reception: Reception,
    ) -> Option<Box<PendingAnswer>> {
        let Reception { source, destination, local_ip, interface, .. } = reception;
        let datagram = Datagram { bytes, port: socket.port(), source, destination, local_ip };
        let (policy, now) = (&self.answers.policy, Instant::now());
        // First, so that a network without machines takes nothing from the limits.
        let name = self.interfaces.find(socket.udp(), interface, now);
        if !name.is_some_and(|name| policy.serves_interface(name)) {
            return None;
        }
        match self.engine.receive(&datagram, |relay| policy.serves_relay(relay), now) {
            Disposition::Drop => None,
            Disposition::Observe(client, kind, result) => {
                self.answers.report_exchange(Exchange { client, kind, result, note: None });
                None
            }
            Disposition::LookUp(pending) => Some(pending),
        }
    }

    /// Begins a look-up that waits again, on the runtime.
    fn look_up(&self, pending: Box<PendingAnswer>, route: ReplyRoute) {
        let Ok(permit) = Arc::clone(&self.pending).try_acquire_owned() else {
            return self.answers.give_up(*pending);
        };
        let answers = self.answers.clone();
        self.runtime.spawn(async move {
            match timeout(LOOK_UP_TIMEOUT, answers.policy.decide(&pending.client)).await {
                Ok(decision) => answers.send(answers.prepare(*pending, route, decision)),
                Err(_) => answers.give_up(*pending),
            }
            drop(permit);
        });
    }
}
