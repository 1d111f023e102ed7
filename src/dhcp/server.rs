//! [`ProxyDhcp`]: the driver of the engine. One thread receives on both ports, takes the policy's decisions, and sends.
//!
//! The thread calls `poll` itself instead of using the runtime: an answer then needs three system calls, and no wake-up of
//! another thread. It receives several queued datagrams with one call.
//!
//! The thread tries each look-up at once, since all are short as a rule. One that waits for a slow store begins again on the
//! runtime, which sends the answer. A bounded number is pending.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::engine::{
    BOOT_SERVER_PORT, Datagram, Disposition, Engine, PendingAnswer, SERVER_PORT, Transmission,
};
use super::interface_names::InterfaceNames;
use super::socket::{self, ProxySocket, ReceiveBuffers, Reception};
use super::stop_signal::StopSignal;
use super::{BootPolicy, Exchange, ExchangeResult, NamedFile};

/// Look-ups that wait for the store.
const MAX_PENDING: usize = 1024;
/// The time-out of a look-up: a client repeats its request after four seconds.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(3);
/// Most batches of datagrams of one port before the other gets its turn.
const MAX_BATCHES_PER_TURN: usize = 4;

/// Counters since the start.
#[derive(Debug, Default)]
pub struct ProxyCounters {
    events: AtomicU64,
}

impl ProxyCounters {
    /// Events dropped because the channel was full.
    pub fn events_dropped(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

/// A ProxyDHCP server whose sockets are bound.
#[derive(Debug)]
pub struct ProxyDhcp {
    /// Port 67; `None` if another DHCP server holds it.
    discovery: Option<ProxySocket>,
    /// Port 4011.
    boot_server: ProxySocket,
    counters: Arc<ProxyCounters>,
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
        Ok(Self { discovery, boot_server: boot_server.ok_or_else(missing)?, counters: Arc::default() })
    }

    /// Whether port 67 is served. Without it, clients are answered on port 4011 only.
    pub fn has_discovery(&self) -> bool {
        self.discovery.is_some()
    }

    /// The bound addresses.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        let sockets = self.discovery.iter().chain([&self.boot_server]);
        sockets.filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// The counters, which may outlive `serve`.
    pub fn counters(&self) -> Arc<ProxyCounters> {
        Arc::clone(&self.counters)
    }

    /// Serves until `stop`. An exchange that ends while `events` is full is dropped and counted.
    pub async fn serve<P: BootPolicy>(
        self,
        policy: Arc<P>,
        events: mpsc::Sender<Exchange<P::Note>>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let thread_stop = Arc::new(StopSignal::new()?);
        let now = Instant::now();
        let proxy = ProxyThread {
            answers: Answers { server: Arc::new(self), policy, events },
            engine: Engine::new(now),
            interfaces: InterfaceNames::new(now),
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
    /// A permit for each look-up that waits for the store.
    pending: Arc<Semaphore>,
    /// Runs the look-ups that wait.
    runtime: Handle,
}

impl<P: BootPolicy> ProxyThread<P> {
    fn run(mut self, stop: &StopSignal) -> io::Result<()> {
        let server = Arc::clone(&self.answers.server);
        // Without port 67, port 4011 stands twice in the list.
        let sockets = [server.discovery.as_ref().unwrap_or(&server.boot_server), &server.boot_server];
        let mut buffers = ReceiveBuffers::new();
        loop {
            let mut fds = [
                PollFd::new(stop, PollFlags::IN),
                PollFd::new(sockets[0], PollFlags::IN),
                PollFd::new(sockets[1], PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [is_stopped, ready @ ..] = fds.map(|fd| !fd.revents().is_empty());
            if is_stopped {
                return Ok(());
            }
            for (socket, _) in sockets.into_iter().zip(ready).filter(|(_, is_ready)| *is_ready) {
                self.receive_batches(socket, &mut buffers);
            }
        }
    }

    fn receive_batches(&mut self, socket: &ProxySocket, buffers: &mut ReceiveBuffers) {
        for _ in 0..MAX_BATCHES_PER_TURN {
            let has_more = buffers.receive(socket);
            let look_ups: Vec<_> = buffers
                .datagrams()
                .filter_map(|(bytes, reception)| Some((self.receive(socket, bytes, reception)?, reception)))
                .collect();
            if look_ups.len() > 1 {
                let machines: Vec<_> = look_ups.iter().map(|(pending, _)| pending.client.mac).collect();
                self.answers.policy.prepare(&machines);
            }
            for (pending, reception) in look_ups {
                self.look_up(pending, socket.port(), reception.interface);
            }
            if !has_more {
                return;
            }
        }
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
                self.answers.report(Exchange { client, kind, result, note: None });
                None
            }
            Disposition::LookUp(pending) => Some(pending),
        }
    }

    /// Tries the look-up at once; one that waits begins again on the runtime.
    fn look_up(&self, pending: Box<PendingAnswer>, port: u16, interface: i32) {
        let mut context = Context::from_waker(Waker::noop());
        let attempt = pin!(self.answers.policy.decide(&pending.client)).poll(&mut context);
        if let Poll::Ready(decision) = attempt {
            return self.answers.finish(*pending, port, interface, Some(decision));
        }
        let Ok(permit) = Arc::clone(&self.pending).try_acquire_owned() else {
            let PendingAnswer { client, kind, .. } = *pending;
            return self.answers.report(Exchange { client, kind, result: ExchangeResult::Busy, note: None });
        };
        let answers = self.answers.clone();
        self.runtime.spawn(async move {
            let decision = timeout(LOOK_UP_TIMEOUT, answers.policy.decide(&pending.client)).await.ok();
            answers.finish(*pending, port, interface, decision);
            drop(permit);
        });
    }
}

/// Sends answers, and reports exchanges.
struct Answers<P: BootPolicy> {
    server: Arc<ProxyDhcp>,
    policy: Arc<P>,
    events: mpsc::Sender<Exchange<P::Note>>,
}

impl<P: BootPolicy> Clone for Answers<P> {
    fn clone(&self) -> Self {
        Self {
            server: Arc::clone(&self.server),
            policy: Arc::clone(&self.policy),
            events: self.events.clone(),
        }
    }
}

impl<P: BootPolicy> Answers<P> {
    /// Sends the answer of a look-up, and reports the exchange; without a decision, the look-up took too long.
    fn finish(
        &self,
        pending: PendingAnswer,
        port: u16,
        interface: i32,
        decision: Option<(Option<NamedFile>, P::Note)>,
    ) {
        let (result, note) = match decision {
            None => (ExchangeResult::Busy, None),
            Some((file, note)) => {
                let (result, transmission) = pending.complete(file);
                let sent = transmission.map_or(Ok(()), |answer| self.send(port, interface, &answer));
                (sent.map_or_else(|error| ExchangeResult::NotSent(error.kind()), |()| result), Some(note))
            }
        };
        let PendingAnswer { client, kind, .. } = pending;
        self.report(Exchange { client, kind, result, note });
    }

    fn send(&self, port: u16, interface: i32, transmission: &Transmission) -> io::Result<()> {
        let socket = match &self.server.discovery {
            Some(discovery) if port == SERVER_PORT => discovery,
            Some(_) | None => &self.server.boot_server,
        };
        socket.send(transmission, interface)
    }

    fn report(&self, exchange: Exchange<P::Note>) {
        if self.events.try_send(exchange).is_err() {
            self.server.counters.events.fetch_add(1, Ordering::Relaxed);
        }
    }
}
