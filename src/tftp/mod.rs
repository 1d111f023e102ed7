//! The firmware's door: TFTP, read only (steps 2 and 3 of the journey).
//!
//! What is served is decided by whoever implements [`Files`], from memory and at once; this module knows names as
//! bytes, never a path of a file system. What happened is told by [`Event`]s into a bounded channel; this module
//! knows no timeline.
//!
//! From the wire inwards:
//!
//! | file | what it is |
//! |---|---|
//! | `driver` | the sockets, bound; the threads: one listener per address, up to eight workers; stop |
//! | `spread` | which worker a client belongs to: one does all as long as it can |
//! | `worker` | its turn: what is due, the next packet, new requests; drain |
//! | `socket`, `bell`, `mtu` | what the kernel offers: segmentation, source addresses, waiting, an interface's MTU |
//! | `parcel`, `cut` | what goes to one client at once; a file in blocks, cut once for all |
//! | `table`, `admission` | running transfers by client address, their deadlines, who may begin |
//! | `transfer`, `pace` | one transfer: bytes and the time in, what to send and the next deadline out |
//! | `packet`, `options`, `names` | what the bytes mean |
//!
//! All from `parcel` on owns no socket and reads no clock, so tests play loss, delay and duplicates in
//! microseconds.
//!
//! Implemented for reading: RFC 1350, 2347, 2348, 2349, 7440. Left out on purpose: writing (refused politely), netascii
//! (served as octet, as every boot server does), multicast (RFC 2090), and error 5 for strangers: workers share their
//! sockets, and a late duplicate of a transfer's last ACK must not kill the next transfer of the same client.

mod admission;
mod bell;
mod cut;
mod driver;
mod mtu;
mod names;
mod options;
mod pace;
mod packet;
mod parcel;
mod socket;
mod spread;
mod table;
#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
mod transfer;
mod worker;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

pub use driver::{BindError, Counters, Listener};
pub use options::Agreed;

/// What a client asked for.
#[derive(Debug, Clone, Copy)]
pub struct ReadRequest<'a> {
    /// The name, without what firmware wraps around it: no leading slash, `/` for `\`. Bytes, since it need not be
    /// text.
    pub name: &'a [u8],
    /// Who asks.
    pub client: SocketAddr,
    /// The address of ours at which the client reached us; `None` if it cannot be told.
    pub local: Option<IpAddr>,
}

/// The files behind the door. Must answer without waiting for anything.
pub trait Files: Send + Sync + 'static {
    /// The content of a file; `None` if there is no such file. A running transfer keeps what it was given here, so the
    /// set behind this trait may be swapped at any time.
    fn read(&self, request: ReadRequest<'_>) -> Option<Bytes>;
}

/// What happened to one request, told when it ends.
#[derive(Debug, Clone)]
pub struct Event {
    /// Who asked.
    pub client: SocketAddr,
    /// The address of ours at which the client reached us; `None` if it cannot be told.
    pub local: Option<IpAddr>,
    /// The name asked for, as text for people: bytes that are none are replaced.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes of the file; 0 if there was none.
    pub size: u64,
    /// What both sides agreed on.
    pub agreed: Agreed,
    /// Blocks the client has acknowledged.
    pub blocks: u64,
    /// Packets that were sent more than once.
    pub retransmissions: u64,
    /// From the request to the end.
    pub took: Duration,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The client has acknowledged all of it.
    Complete,
    /// All of it was sent, but the acknowledgement of the last window never came: most likely the client went on to
    /// boot without sending it.
    Unconfirmed,
    /// The client learnt the size and broke off, as firmware does before the real transfer. Not a failure.
    Probe,
    /// The client broke off, with this error code and these words.
    Aborted {
        /// <https://www.rfc-editor.org/rfc/rfc1350#page-10>
        code: u16,
        /// What the client said, as text for people.
        message: String,
    },
    /// The same client and port asked for something else meanwhile.
    Replaced,
    /// The client was not heard of any more, or made no progress.
    TimedOut,
    /// The server stopped and the grace was over.
    Stopped,
    /// There is no such file.
    NotFound,
    /// Too many transfers at once, of this client or of all.
    Busy,
    /// A write, or a request that makes no sense.
    Refused,
}

impl Outcome {
    /// The word for logs and metrics: a closed set.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Unconfirmed => "unconfirmed",
            Self::Probe => "probe",
            Self::Aborted { .. } => "aborted",
            Self::Replaced => "replaced",
            Self::TimedOut => "timed out",
            Self::Stopped => "stopped",
            Self::NotFound => "not found",
            Self::Busy => "busy",
            Self::Refused => "refused",
        }
    }
}

/// Where and how to listen.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses for requests, IPv4 or IPv6. Port 0 is chosen by the system; see [`Listener::local_addrs`].
    pub listen: Vec<SocketAddr>,
    /// From which ports transfers are served.
    pub ports: Ports,
    /// Workers, and so transfer sockets, per listen address; `None` for one per core.
    pub workers: Option<NonZeroUsize>,
    /// What clients may ask of us.
    pub limits: Limits,
}

impl Config {
    /// Everything at its default, at these addresses.
    pub fn new(listen: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            listen: listen.into_iter().collect(),
            ports: Ports::default(),
            workers: None,
            limits: Limits::default(),
        }
    }
}

/// From which ports transfers are served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ports {
    /// Whatever the system gives each worker at start.
    #[default]
    Ephemeral,
    /// The first free ports of a range, one per worker; fewer workers if fewer are free.
    Range(RangeInclusive<u16>),
    /// The port that was asked, for firewalls that pass nothing else. One worker per listen address does all.
    Single,
}

/// What clients may ask of us.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest block; the interface's MTU may lower it further. Default 1468, which fills an Ethernet frame: larger ones
    /// only where every switch and ROM is known to take them.
    pub block_size: u16,
    /// Most blocks in flight. Default 16; at most [`Limits::WIDEST_WINDOW`].
    pub window: u16,
    /// Most transfers at once. Default 4096.
    pub transfers: usize,
    /// Most transfers at once from one IP address. Default 16.
    pub transfers_per_client: usize,
    /// Wait for an answer before anything is known of the round trip. Default 1 s.
    pub first_wait: Duration,
    /// Shortest wait for an answer, however short the round trip. Default 100 ms.
    pub shortest_wait: Duration,
    /// Longest wait for an answer, however often it did not come. Default 4 s. A client's own `timeout` option wins.
    pub longest_wait: Duration,
    /// Without progress for this long the client is gone. Default 20 s.
    pub stall: Duration,
    /// The same once all blocks were sent: many clients never acknowledge the last one. Default 5 s.
    pub linger: Duration,
    /// No transfer lasts longer. Default 10 min.
    pub total: Duration,
}

impl Limits {
    /// A window wider than this only overruns the receive rings of firmware.
    pub const WIDEST_WINDOW: u16 = 64;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            block_size: 1468,
            window: 16,
            transfers: 4096,
            transfers_per_client: 16,
            first_wait: Duration::from_secs(1),
            shortest_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(4),
            stall: Duration::from_secs(20),
            linger: Duration::from_secs(5),
            total: Duration::from_secs(600),
        }
    }
}
