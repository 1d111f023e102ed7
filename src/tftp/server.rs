//! The TFTP server: binds the sockets, runs the threads, shuts down.
//!
//! One acceptor per listen address receives requests and queues each for a worker that the [`Balancer`] picks. A
//! worker owns its [`Table`](super::table::Table) with a socket per transfer; workers share only the [`ServerState`].
//! Each acceptor and each worker is a thread. With [`Ports::Single`] there is no acceptor: one worker owns the listen
//! socket.
//!
//! ```text
//!  port 69   ┌──────────┐  requests   ┌─────────────────┐   blocks and ACKs
//! ──────────►│ acceptor ├────────────►│ worker: Table,  │◄──────────────────► clients
//!            └──────────┘   (queue)   │ sockets         │  a port per transfer
//!                                     └─────────────────┘
//! ```
//!
//! Shutdown: the acceptors end and drop their [`WorkerHandle`]s; each worker then drains and ends.
//!
//! Invariant: all sockets are bound before the server serves a request.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::admission::Admission;
use super::balancer::Balancer;
use super::packet::RequestPacket;
use super::single::SingleWorker;
use super::socket::{self, MAX_DATAGRAM, RecvMeta, Socket};
use super::table::ServerState;
use super::waker::Waker;
use super::worker::{MAX_SLEEP, QueuedRequest, Worker, WorkerHandle};
use super::{FileSource, Ports, ServerConfig, TransferEvent, TransferLimits};

/// Most workers per address on hosts with more cores. One worker serves several networks of 1 Gbit/s, and each one
/// occupies a blocking thread of the runtime.
const MAX_WORKERS: usize = 8;

/// Counters of dropped events and requests, since the start.
#[derive(Debug, Default)]
pub struct Counters {
    events: AtomicU64,
    requests: AtomicU64,
}

impl Counters {
    /// Events dropped because the channel was full.
    pub fn events_dropped(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Requests dropped because the worker's queue was full.
    pub fn requests_dropped(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// A TFTP server whose sockets are bound.
#[derive(Debug)]
pub struct Server {
    listen_sockets: Vec<ListenSocket>,
    ports: Ports,
    workers: usize,
    limits: TransferLimits,
    counters: Arc<Counters>,
}

/// The server cannot listen on an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// The address, one of [`ServerConfig::listen`].
    pub address: SocketAddr,
    /// The cause.
    pub source: io::Error,
}

/// Keeps the threads running; dropping the guard tells all of them to end.
#[derive(Default)]
struct ShutdownGuard {
    is_shut_down: Arc<AtomicBool>,
    wakers: Vec<Arc<Waker>>,
}

impl Drop for ShutdownGuard {
    fn drop(&mut self) {
        self.is_shut_down.store(true, Ordering::Release);
        self.wakers.iter().for_each(|waker| waker.wake());
    }
}

/// The socket of one listen address.
#[derive(Debug)]
struct ListenSocket {
    requests: UdpSocket,
    address: SocketAddr,
}

impl Server {
    /// Binds all sockets, so that a port in use fails before the server serves a request.
    pub fn bind(config: &ServerConfig) -> Result<Self, BindError> {
        let sockets = config.listen.iter().map(|&address| (address, socket::bind(address)));
        Self::from_request_sockets(sockets, config)
    }

    /// Uses request sockets that are bound already, in place of the addresses in `config`.
    pub fn adopt(requests: Vec<UdpSocket>, config: &ServerConfig) -> Result<Self, BindError> {
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let sockets = requests.into_iter().map(|socket| {
            let address = socket.local_addr().unwrap_or(unknown);
            (address, socket::configure(socket))
        });
        Self::from_request_sockets(sockets, config)
    }

    fn from_request_sockets(
        requests: impl Iterator<Item = (SocketAddr, io::Result<UdpSocket>)>,
        config: &ServerConfig,
    ) -> Result<Self, BindError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = config.workers.map_or(cores.min(MAX_WORKERS), std::num::NonZero::get);
        let listen_sockets = requests.map(|(address, socket)| {
            let socket = socket.and_then(|socket| ListenSocket::new(socket, &config.ports));
            socket.map_err(|source| BindError { address, source })
        });
        Ok(Self {
            listen_sockets: listen_sockets.collect::<Result<_, _>>()?,
            ports: config.ports.clone(),
            workers,
            limits: config.limits.clone(),
            counters: Arc::default(),
        })
    }

    /// The addresses that accept requests, in the order of [`ServerConfig::listen`].
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listen_sockets.iter().map(|sockets| sockets.address).collect()
    }

    /// The counters, which may outlive `serve`.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves until `stop` is cancelled, then drains running transfers for at most `grace`.
    pub async fn serve(
        self,
        files: Arc<dyn FileSource>,
        events: mpsc::Sender<TransferEvent>,
        stop: CancellationToken,
        grace: Duration,
    ) -> io::Result<()> {
        let admission = Admission::new(self.limits.transfers, self.limits.transfers_per_client);
        let counters = Arc::clone(&self.counters);
        let report = move |event| {
            if events.try_send(event).is_err() {
                counters.events.fetch_add(1, Ordering::Relaxed);
            }
        };
        let (limits, report) = (Arc::new(self.limits), Arc::new(report));
        let (budget, blocks) = (Arc::default(), Arc::default());
        let state = ServerState { files, limits, admission, budget, blocks, report };
        let mut guard = Some(ShutdownGuard::default());
        let mut threads = JoinSet::new();
        for socket in self.listen_sockets {
            let guard = guard.get_or_insert_default();
            if self.ports == Ports::Single {
                socket.spawn_single(guard, &mut threads, &state, grace)?;
                continue;
            }
            let range = match &self.ports {
                Ports::Range(range) => Some(range),
                Ports::Ephemeral | Ports::Single => None,
            };
            let workers = (0..self.workers).map(|_| range.cloned());
            socket.spawn_workers(workers, guard, &mut threads, &state, &self.counters, grace)?;
        }
        loop {
            tokio::select! {
                () = stop.cancelled(), if guard.is_some() => guard = None,
                result = threads.join_next() => match result {
                    Some(result) => result.map_err(io::Error::other)?,
                    None => return Ok(()),
                },
            }
        }
    }
}

impl ListenSocket {
    fn new(requests: UdpSocket, ports: &Ports) -> io::Result<Self> {
        let address = requests.local_addr()?;
        if let Ports::Range(range) = ports
            && !range.clone().any(|port| UdpSocket::bind(SocketAddr::new(address.ip(), port)).is_ok())
        {
            let (first, last, ip) = (range.start(), range.end(), address.ip());
            let text = format!("no port from {first} to {last} is free on {ip}");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        Ok(Self { requests, address })
    }

    /// Starts the worker of an address whose transfers share the listen port.
    fn spawn_single(
        self,
        guard: &mut ShutdownGuard,
        threads: &mut JoinSet<()>,
        state: &ServerState,
        grace: Duration,
    ) -> io::Result<()> {
        let waker = Arc::new(Waker::new()?);
        guard.wakers.push(Arc::clone(&waker));
        let is_shut_down = Arc::clone(&guard.is_shut_down);
        let worker = SingleWorker::new(Socket::new(self.requests)?, state, waker, is_shut_down)?;
        threads.spawn_blocking(move || worker.run(grace));
        Ok(())
    }

    /// Starts the acceptor and the workers of this address; each worker with its range of ports.
    fn spawn_workers(
        self,
        ranges: impl Iterator<Item = Option<RangeInclusive<u16>>>,
        guard: &mut ShutdownGuard,
        threads: &mut JoinSet<()>,
        state: &ServerState,
        counters: &Arc<Counters>,
        grace: Duration,
    ) -> io::Result<()> {
        let socket = Arc::new(Socket::new(self.requests)?);
        let mut handles = Vec::new();
        for range in ranges {
            let (worker, handle) = Worker::new(Arc::clone(&socket), range, state)?;
            handles.push(handle);
            threads.spawn_blocking(move || worker.run(grace));
        }
        let waker = Arc::new(Waker::new()?);
        guard.wakers.push(Arc::clone(&waker));
        let (is_shut_down, counters) = (Arc::clone(&guard.is_shut_down), Arc::clone(counters));
        let acceptor = Acceptor { socket, handles, waker, is_shut_down, counters };
        threads.spawn_blocking(move || acceptor.run());
        Ok(())
    }
}

/// Receives requests on one listen address and queues them for workers.
struct Acceptor {
    socket: Arc<Socket>,
    handles: Vec<WorkerHandle>,
    waker: Arc<Waker>,
    is_shut_down: Arc<AtomicBool>,
    counters: Arc<Counters>,
}

impl Acceptor {
    fn run(self) {
        let balancer = Balancer::new(self.handles.len());
        let mut packet = [0; MAX_DATAGRAM];
        while !self.is_shut_down.load(Ordering::Acquire) {
            let Ok(meta) = self.socket.try_receive(&mut packet) else {
                self.waker.wait(&self.socket.udp, MAX_SLEEP);
                continue;
            };
            let RecvMeta { length, client, local_ip, interface } = meta;
            let packet = packet.get(..length).unwrap_or_default();
            if RequestPacket::parse(packet).is_none() {
                continue;
            }
            let assignment = balancer.assign(client);
            let handle = self.handles.get(assignment.worker());
            let request = QueuedRequest { client, local_ip, interface, packet: packet.into(), assignment };
            if !handle.is_some_and(|handle| handle.try_enqueue(request)) {
                self.counters.requests.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
