//! The sockets and who serves them.
//!
//! One listener per address takes requests and puts each on the desk of one of its workers, as [`Spread`] says. A worker
//! owns a socket for all its transfers and their table; no two share more than the counts of [`Admission`]. Each is a
//! thread. With [`Ports::Single`] one worker owns the listener's socket.
//!
//! ```text
//!  port 69   ┌──────────┐  requests   ┌─────────────────┐   blocks and ACKs
//! ──────────►│ listener ├────────────►│ worker: Table,  │◄──────────────────► clients
//!            └──────────┘   (desk)    │ transfer socket │  transfer port
//!                                     └─────────────────┘
//! ```
//!
//! Stop: the listener goes, and its desks with it; the workers see that and end.
//!
//! Invariant: all sockets are bound before anything is served.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::admission::Admission;
use super::bell::Bell;
use super::socket::{self, ROOM, Received, Socket};
use super::spread::Spread;
use super::table::Shared;
use super::worker::{Desk, Handed, IDLE, Worker};
use super::{Config, Event, Files, Limits, Ports};

/// Workers of an address, on hosts with more cores: each serves several networks of 1 Gbit/s, and all are threads that
/// the runtime lends.
const MOST_WORKERS: usize = 8;

/// What was lost, since the start.
#[derive(Debug, Default)]
pub struct Counters {
    events: AtomicU64,
    requests: AtomicU64,
}

impl Counters {
    /// Events nobody took in time.
    pub fn events_lost(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Requests no worker took in time.
    pub fn requests_lost(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// The sockets, bound and not yet served.
#[derive(Debug)]
pub struct Listener {
    doors: Vec<Door>,
    limits: Limits,
    counters: Arc<Counters>,
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// The one of several.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// While this is held the doors are open; dropped, it tells all threads to come to an end.
#[derive(Default)]
struct Open {
    closed: Arc<AtomicBool>,
    listeners: Vec<Arc<Bell>>,
    /// Desks of workers without a listener.
    desks: Vec<Desk>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Release);
        self.listeners.iter().for_each(|listener| listener.ring());
    }
}

/// One listen address.
#[derive(Debug)]
struct Door {
    requests: UdpSocket,
    address: SocketAddr,
    /// None if all goes through the listener's port.
    transfers: Vec<UdpSocket>,
}

impl Listener {
    /// Binds all sockets, so that a port that is taken shows before anything is served.
    pub fn bind(config: &Config) -> Result<Self, BindError> {
        let doors = config.listen.iter().map(|&listen| (listen, socket::bind(listen)));
        Self::open(doors, config)
    }

    /// Takes sockets for requests that are bound already, in the place of the addresses of `config`.
    pub fn adopt(requests: Vec<UdpSocket>, config: &Config) -> Result<Self, BindError> {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let doors = requests.into_iter().map(|socket| {
            let address = socket.local_addr().unwrap_or(nowhere);
            (address, socket::adopt(socket))
        });
        Self::open(doors, config)
    }

    fn open(
        requests: impl Iterator<Item = (SocketAddr, io::Result<UdpSocket>)>,
        config: &Config,
    ) -> Result<Self, BindError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = config.workers.map_or(cores.min(MOST_WORKERS), std::num::NonZero::get);
        let doors = requests.map(|(address, socket)| {
            let door = socket.and_then(|socket| Door::new(socket, &config.ports, workers));
            door.map_err(|source| BindError { address, source })
        });
        Ok(Self {
            doors: doors.collect::<Result<_, _>>()?,
            limits: config.limits.clone(),
            counters: Arc::default(),
        })
    }

    /// The addresses requests may come to, in the order of [`Config::listen`].
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.doors.iter().map(|door| door.address).collect()
    }

    /// What was lost; may be kept beyond `serve`.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves until `stop`, then lets running transfers finish, but no longer than `grace`.
    pub async fn serve(
        self,
        files: Arc<dyn Files>,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
        grace: Duration,
    ) -> io::Result<()> {
        let admission = Admission::new(self.limits.transfers, self.limits.transfers_per_client);
        let counters = Arc::clone(&self.counters);
        let tell = move |event| {
            if events.try_send(event).is_err() {
                counters.events.fetch_add(1, Ordering::Relaxed);
            }
        };
        let (limits, tell) = (Arc::new(self.limits), Arc::new(tell));
        let shared = Shared { files, limits, admission, cuts: Arc::default(), tell };
        let mut open = Some(Open::default());
        let mut threads = JoinSet::new();
        for door in self.doors {
            let open = open.get_or_insert_default();
            door.open(open, &mut threads, &shared, &self.counters, grace)?;
        }
        loop {
            tokio::select! {
                () = stop.cancelled(), if open.is_some() => open = None,
                ended = threads.join_next() => match ended {
                    Some(ended) => ended.map_err(io::Error::other)?,
                    None => return Ok(()),
                },
            }
        }
    }
}

impl Door {
    fn new(requests: UdpSocket, ports: &Ports, workers: usize) -> io::Result<Self> {
        let address = requests.local_addr()?;
        let at = |port| socket::bind(SocketAddr::new(address.ip(), port));
        let transfers = match ports {
            Ports::Single => Vec::new(),
            Ports::Ephemeral => (0..workers).map(|_| at(0)).collect::<io::Result<_>>()?,
            Ports::Range(range) => {
                let free: Vec<_> = range.clone().filter_map(|port| at(port).ok()).take(workers).collect();
                if free.is_empty() {
                    let text = format!(
                        "no port from {} to {} is free on {}",
                        range.start(),
                        range.end(),
                        address.ip()
                    );
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
                }
                free
            }
        };
        Ok(Self { requests, address, transfers })
    }

    /// Starts the threads of this address.
    fn open(
        self,
        open: &mut Open,
        threads: &mut JoinSet<()>,
        shared: &Shared,
        counters: &Arc<Counters>,
        grace: Duration,
    ) -> io::Result<()> {
        let socket = Socket::for_requests(self.requests)?;
        if self.transfers.is_empty() {
            let (worker, desk) = Worker::new(socket, shared)?;
            open.desks.push(desk);
            threads.spawn_blocking(move || worker.run(grace));
            return Ok(());
        }
        let mut desks = Vec::new();
        for transfers in self.transfers {
            let (worker, desk) = Worker::new(Socket::for_transfers(transfers)?, shared)?;
            desks.push(desk);
            threads.spawn_blocking(move || worker.run(grace));
        }
        let bell = Arc::new(Bell::new()?);
        open.listeners.push(Arc::clone(&bell));
        let (closed, counters) = (Arc::clone(&open.closed), Arc::clone(counters));
        let reception = Reception { socket, desks, bell, closed, counters };
        threads.spawn_blocking(move || reception.run());
        Ok(())
    }
}

/// A listener at work.
struct Reception {
    socket: Socket,
    desks: Vec<Desk>,
    bell: Arc<Bell>,
    closed: Arc<AtomicBool>,
    counters: Arc<Counters>,
}

impl Reception {
    fn run(self) {
        let spread = Spread::new(self.desks.len());
        let mut packet = [0; ROOM];
        while !self.closed.load(Ordering::Acquire) {
            let Some(received) = self.socket.take(&mut packet) else {
                self.bell.sleep(&self.socket.udp, IDLE);
                continue;
            };
            let Received { length, client, local, interface } = received;
            let place = spread.take(client);
            let desk = self.desks.get(place.worker());
            let packet = packet.get(..length).unwrap_or_default().into();
            let handed = Handed { client, local, interface, packet, place };
            if !desk.is_some_and(|desk| desk.put(handed)) {
                self.counters.requests.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
