//! The tasks behind the door.
//!
//! One listener per address takes requests and hands each to one of its workers, chosen by the client's address, so that
//! a client which asks again meets its own transfer. A worker owns a socket for all its transfers and their
//! [`Table`]; no two tasks share more than the counts of [`Admission`]. With [`Ports::Single`] the worker owns
//! the listener's socket.
//!
//! ```text
//!  port 69   ┌──────────┐  requests   ┌─────────────────┐   blocks and ACKs
//! ──────────►│ listener ├────────────►│ worker: Table,  │◄──────────────────► clients
//!            └──────────┘  (channel)  │ transfer socket │  transfer port
//!                                     └─────────────────┘
//! ```
//!
//! Stop: the listener goes and its channels close; a worker whose channel is closed ends when its last transfer does, or
//! when the grace is over.
//!
//! Invariant: a worker empties its socket before it takes a request from the channel. A ROM sends its abort and
//! then its next request from the same port; the abort must not meet the new transfer.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::admission::Admission;
use super::mtu::Mtus;
use super::packet::Request;
use super::socket::{self, Datagram, Inbox, Socket};
use super::table::{Arrival, Parcel, Shared, Table};
use super::{Config, Event, Files, Limits, Ports};

/// Requests that may wait for a worker. Beyond that they are lost, and the clients ask again.
const WAITING: usize = 1024;
/// Batches taken before timers and new requests get their turn.
const BATCHES: usize = 16;
/// A worker without anything to wait for still looks up once in this time.
const IDLE: Duration = Duration::from_secs(3600);

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
    pub fn bind(config: &Config) -> io::Result<Self> {
        let doors = config.listen.iter().map(|listen| socket::bind(*listen));
        Self::open(doors, config)
    }

    /// Takes sockets for requests that are bound already, in the place of the addresses of `config`.
    pub fn adopt(requests: Vec<UdpSocket>, config: &Config) -> io::Result<Self> {
        Self::open(requests.into_iter().map(socket::adopt), config)
    }

    fn open(requests: impl Iterator<Item = io::Result<UdpSocket>>, config: &Config) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = config.workers.map_or(cores, std::num::NonZero::get);
        let doors = requests.map(|requests| Door::new(requests?, &config.ports, workers));
        Ok(Self {
            doors: doors.collect::<io::Result<_>>()?,
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
        let shared = Shared { files, limits: Arc::new(self.limits), admission, tell: Arc::new(tell) };
        let mut tasks = JoinSet::new();
        for door in self.doors {
            door.open(&mut tasks, &shared, &self.counters, &stop, grace)?;
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(io::Error::other)?;
        }
        Ok(())
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

    /// Starts the tasks of this address.
    fn open(
        self,
        tasks: &mut JoinSet<()>,
        shared: &Shared,
        counters: &Arc<Counters>,
        stop: &CancellationToken,
        grace: Duration,
    ) -> io::Result<()> {
        let stop = stop.clone();
        if self.transfers.is_empty() {
            let (requests, waiting) = mpsc::channel(1);
            let worker = Worker::new(Socket::new(self.requests)?, shared, waiting, true);
            tasks.spawn(worker.run(grace));
            tasks.spawn(async move {
                stop.cancelled().await;
                drop(requests);
            });
            return Ok(());
        }
        let mut workers = Vec::new();
        for transfers in self.transfers {
            let (requests, waiting) = mpsc::channel(WAITING);
            workers.push(requests);
            let worker = Worker::new(Socket::new(transfers)?, shared, waiting, false);
            tasks.spawn(worker.run(grace));
        }
        let requests = Socket::new(self.requests)?;
        let counters = Arc::clone(counters);
        tasks.spawn(async move {
            tokio::select! {
                () = listen(requests, workers, counters) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(())
    }
}

/// A request on its way from listener to worker.
struct Handed {
    client: SocketAddr,
    local: Option<IpAddr>,
    interface: Option<u32>,
    packet: Box<[u8]>,
}

async fn listen(socket: Socket, workers: Vec<mpsc::Sender<Handed>>, counters: Arc<Counters>) {
    let chooser = RandomState::new();
    let mut inbox = Inbox::new();
    loop {
        socket.readable().await;
        if !socket.receive(&mut inbox) {
            continue;
        }
        for Datagram { client, local, interface, packet } in inbox.datagrams() {
            let choice = chooser.hash_one(client) as usize % workers.len();
            let handed = Handed { client, local, interface, packet: packet.into() };
            if workers.get(choice).is_none_or(|worker| worker.try_send(handed).is_err()) {
                counters.requests.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

struct Worker {
    socket: Socket,
    table: Table,
    waiting: mpsc::Receiver<Handed>,
    /// Requests come to this worker's socket too.
    takes_requests: bool,
    mtus: Mtus,
    inbox: Inbox,
    parcel: Parcel,
}

impl Worker {
    fn new(socket: Socket, shared: &Shared, waiting: mpsc::Receiver<Handed>, takes_requests: bool) -> Self {
        Self {
            socket,
            table: Table::new(shared.clone()),
            waiting,
            takes_requests,
            mtus: Mtus::default(),
            inbox: Inbox::new(),
            parcel: Parcel::new(),
        }
    }

    async fn run(mut self, grace: Duration) {
        let alarm = tokio::time::sleep(IDLE);
        tokio::pin!(alarm);
        let mut last_moment = None;
        while last_moment.is_none() || !self.table.is_empty() {
            let now = Instant::now();
            if last_moment.is_some_and(|moment| now >= moment) {
                return self.cut(now).await;
            }
            while self.table.tick(now, &mut self.parcel) {
                self.send().await;
            }
            let next = self.table.deadline().into_iter().chain(last_moment).min().unwrap_or(now + IDLE);
            // An alarm that rings too early costs one turn; setting it for every packet would cost more.
            if alarm.is_elapsed() || next < alarm.deadline().into_std() {
                alarm.as_mut().reset(next.into());
            }
            tokio::select! {
                () = self.socket.readable() => self.empty_socket(Socket::receive).await,
                handed = self.waiting.recv(), if last_moment.is_none() => {
                    if let Some(handed) = handed {
                        self.empty_socket(Socket::receive_unannounced).await;
                        self.begin(&handed).await;
                    } else {
                        self.takes_requests = false;
                        last_moment = Some(Instant::now() + grace);
                    }
                }
                () = alarm.as_mut() => {}
            }
        }
    }

    /// Takes what is there, and what comes meanwhile: one more look costs less than to sleep and be woken.
    async fn empty_socket(&mut self, receive: fn(&Socket, &mut Inbox) -> bool) {
        for _ in 0..BATCHES {
            if !receive(&self.socket, &mut self.inbox) {
                return;
            }
            let now = Instant::now();
            for Datagram { client, local, interface, packet } in self.inbox.datagrams() {
                if self.takes_requests && Request::parse(packet).is_some() {
                    let mtu = interface.and_then(|interface| self.mtus.of(interface, now));
                    self.table.request(Arrival { client, local, mtu, packet }, now, &mut self.parcel);
                } else {
                    self.table.receive(client, packet, now, &mut self.parcel);
                }
                self.socket.send(&self.parcel).await;
            }
        }
    }

    async fn begin(&mut self, handed: &Handed) {
        let Handed { client, local, interface, packet } = handed;
        let now = Instant::now();
        let mtu = interface.and_then(|interface| self.mtus.of(interface, now));
        let arrival = Arrival { client: *client, local: *local, mtu, packet };
        self.table.request(arrival, now, &mut self.parcel);
        self.send().await;
    }

    async fn cut(&mut self, now: Instant) {
        while self.table.cut(now, &mut self.parcel) {
            self.send().await;
        }
    }

    async fn send(&mut self) {
        self.socket.send(&self.parcel).await;
    }
}
