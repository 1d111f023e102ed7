//! [`ProxyDhcp`]: the driver of the engine. One task receives on both ports, waits for the policy's decisions, and sends.
//!
//! Look-ups run concurrently, since a store may be slow; a bounded number is pending. All are short as a rule, so the
//! driver tries each at once.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::poll_immediate;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::engine::{
    BOOT_SERVER_PORT, Datagram, Disposition, Engine, PendingAnswer, SERVER_PORT, Transmission,
};
use super::socket::{self, MAX_DATAGRAM, ProxySocket};
use super::{BootPolicy, Exchange, ExchangeResult, NamedFile};

/// Look-ups that wait for the store.
const MAX_PENDING: usize = 1024;
/// The time-out of a look-up: a client repeats its request after four seconds.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(3);
/// Most datagrams received in a row before other work gets its turn.
const MAX_DATAGRAMS_PER_TURN: usize = 64;

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

/// A pending look-up with the datagram's place.
type LookUp<N> = Pin<Box<dyn Future<Output = Finished<N>> + Send>>;

/// A look-up that has ended; `None` after the time-out.
struct Finished<N> {
    pending: Box<PendingAnswer>,
    /// The receiving socket's port and interface.
    port: u16,
    interface: i32,
    decision: Option<(Option<NamedFile>, N)>,
}

impl ProxyDhcp {
    /// Binds both ports. Port 67 may be in use ([`ProxyDhcp::has_discovery`]). Must be called within a runtime.
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
        let engine = Engine::new(Instant::now());
        let driver = RunningProxy { server: &self, policy, events, engine, pending: FuturesUnordered::new() };
        match stop.run_until_cancelled(driver.run()).await {
            Some(Err(error)) => Err(error),
            None | Some(Ok(())) => Ok(()),
        }
    }
}

/// The running server.
struct RunningProxy<'a, P: BootPolicy> {
    server: &'a ProxyDhcp,
    policy: Arc<P>,
    events: mpsc::Sender<Exchange<P::Note>>,
    engine: Engine,
    pending: FuturesUnordered<LookUp<P::Note>>,
}

impl<P: BootPolicy> RunningProxy<'_, P> {
    async fn run(mut self) -> io::Result<()> {
        let server = self.server;
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let discovery = async {
                match &server.discovery {
                    Some(socket) => socket.readable().await.map(|()| socket),
                    None => std::future::pending().await,
                }
            };
            let boot_server = async { server.boot_server.readable().await.map(|()| &server.boot_server) };
            let socket = tokio::select! {
                Some(finished) = self.pending.next() => {
                    self.finish(finished);
                    continue;
                }
                ready = discovery => ready?,
                ready = boot_server => ready?,
            };
            for _ in 0..MAX_DATAGRAMS_PER_TURN {
                match socket.try_receive(&mut buffer) {
                    Ok(Some(reception)) => self.receive(socket, &buffer, reception).await,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // No metadata, or an ICMP error for an earlier datagram.
                    Ok(None) | Err(_) => {}
                }
            }
        }
    }

    async fn receive(&mut self, socket: &ProxySocket, buffer: &[u8], reception: socket::Reception) {
        let socket::Reception { length, source, destination, local_ip, interface } = reception;
        let bytes = buffer.get(..length).unwrap_or_default();
        let datagram = Datagram { bytes, port: socket.port(), source, destination, local_ip };
        let policy = Arc::clone(&self.policy);
        // First, so that a network without machines takes nothing from the limits.
        if !socket.interface_name(interface).is_some_and(|name| policy.serves_interface(&name)) {
            return;
        }
        let now = Instant::now();
        let disposition = self.engine.receive(&datagram, |relay| policy.serves_relay(relay), now);
        match disposition {
            Disposition::Drop => {}
            Disposition::Observe(client, kind, result) => {
                self.report(Exchange { client, kind, result, note: None });
            }
            Disposition::LookUp(pending) => {
                let port = socket.port();
                if self.pending.len() >= MAX_PENDING {
                    let PendingAnswer { client, kind, .. } = *pending;
                    return self.report(Exchange { client, kind, result: ExchangeResult::Busy, note: None });
                }
                let mut look_up: LookUp<P::Note> = Box::pin(async move {
                    let decision = timeout(LOOK_UP_TIMEOUT, policy.decide(&pending.client)).await.ok();
                    Finished { pending, port, interface, decision }
                });
                match poll_immediate(&mut look_up).await {
                    Some(finished) => self.finish(finished),
                    None => self.pending.push(look_up),
                }
            }
        }
    }

    /// Sends the answer of a look-up, and reports the exchange.
    fn finish(&self, Finished { pending, port, interface, decision }: Finished<P::Note>) {
        let (result, note) = match decision {
            None => (ExchangeResult::Busy, None),
            Some((file, note)) => {
                let (result, transmission) = pending.complete(file);
                let sent = transmission.map_or(Ok(()), |answer| self.send(port, interface, &answer));
                (sent.map_or_else(|error| ExchangeResult::NotSent(error.kind()), |()| result), Some(note))
            }
        };
        let PendingAnswer { client, kind, .. } = *pending;
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
