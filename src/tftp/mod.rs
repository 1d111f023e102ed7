//! TFTP server, read only.
//!
//! The [`FileSource`] decides which bytes a name stands for, from memory and without blocking. This module treats
//! names as bytes and never touches a file system. Each request ends with a [`TransferEvent`] in a bounded channel;
//! the module does not depend on the timeline.
//!
//! From the wire inwards:
//!
//! | file | purpose |
//! |---|---|
//! | `server` | binds the sockets, starts one acceptor per address and up to eight workers, shuts down |
//! | `balancer` | assigns clients to workers: the first worker takes all clients until it is full |
//! | `worker` | event loop of a worker thread whose transfers have ports of their own |
//! | `single` | event loop of a worker thread whose transfers share the listen port |
//! | `port` | the socket of one transfer, on a port of its own |
//! | `socket` | the socket that receives requests: source addresses, interfaces, ICMP errors |
//! | `segments`, `waker`, `poller`, `mtu` | kernel interfaces: segmentation offload, `poll`, `epoll`, interface MTU |
//! | `transmit`, `blocks` | the datagrams of one send; a file split into DATA packets, shared by its transfers |
//! | `table`, `active`, `incoming`, `transfer_id` | running transfers, by client address too, and their deadlines |
//! | `port_kind` | what third parties know about the port of a transfer |
//! | `admission`, `budget` | transfer limits with eviction; bytes for addresses that may be forged |
//! | `transfer`, `burst`, `rtt` | state machine of one transfer; what it does next; retransmission time-out |
//! | `packet`, `options`, `names` | packet format, option negotiation, file names |
//!
//! A transfer has a port of its own, chosen at random: the port is TFTP's only authenticator (RFC 1350 §4). Its socket is
//! connected to the client, so the kernel drops packets from other addresses and reports ICMP errors.
//!
//! All files from `transmit` on own no socket and read no clock. Tests can therefore play loss, delay and duplicates
//! within microseconds.
//!
//! Implements reading by RFC 1350, 2347, 2348, 2349 and 7440. Left out on purpose:
//!
//! * writing, refused with an error packet;
//! * netascii, served as octet, as every boot server does;
//! * multicast (RFC 2090);
//! * error 5 (unknown transfer ID): the kernel drops a packet from another address than the client's.

mod active;
mod admission;
mod balancer;
mod blocks;
mod budget;
mod burst;
mod incoming;
mod mtu;
mod names;
mod options;
mod packet;
mod poller;
mod port;
mod port_kind;
mod rtt;
mod segments;
mod server;
mod single;
mod socket;
mod table;
#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
mod transfer;
mod transfer_id;
mod transmit;
mod waker;
mod worker;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

pub use names::canonicalize as canonicalize_name;
pub use options::NegotiatedOptions;
pub use server::{BindError, Counters, Server};

/// A client's request for a file.
#[derive(Debug, Clone, Copy)]
pub struct ReadRequest<'a> {
    /// Canonical file name: no leading slash, `/` for `\`, no bytes that firmware appends. It need not be UTF-8.
    pub name: &'a [u8],
    /// Address and transfer port of the client.
    pub client: SocketAddr,
    /// The server's address that the client used; `None` if unknown.
    pub local_ip: Option<IpAddr>,
}

/// Source of the files that the server serves. Must not block.
pub trait FileSource: Send + Sync + 'static {
    /// Returns the content of a file, or `None` if the file does not exist. A running transfer keeps the returned
    /// bytes, so an implementation may replace its set of files at any time.
    fn read(&self, request: ReadRequest<'_>) -> Option<Bytes>;

    /// Whether clients with this address may read files; others get an error.
    fn allows(&self, _client: IpAddr) -> bool {
        true
    }
}

/// The result of one request, sent when the request has ended.
#[derive(Debug, Clone)]
pub struct TransferEvent {
    /// Address and transfer port of the client.
    pub client: SocketAddr,
    /// The server's address that the client used; `None` if unknown.
    pub local_ip: Option<IpAddr>,
    /// The requested name, with invalid UTF-8 replaced.
    pub name: String,
    /// The result of the request.
    pub outcome: TransferEnd,
    /// The client has responded within the transfer. Otherwise its address may be forged.
    pub is_answered: bool,
    /// Bytes of the file; 0 if the request was rejected.
    pub size: u64,
    /// The negotiated options.
    pub options: NegotiatedOptions,
    /// Acknowledged blocks.
    pub blocks: u64,
    /// Packets sent again.
    pub retransmissions: u64,
    /// Time from the request to the end of the transfer.
    pub duration: Duration,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferEnd {
    /// The client has acknowledged every block.
    Complete,
    /// Every block was sent, but the client did not acknowledge the last window. Most likely the client booted
    /// without sending the ACK.
    Unconfirmed,
    /// The client learnt the file's size and aborted, as firmware does before the real transfer. Not a failure.
    Probe,
    /// The client aborted the transfer with an ERROR packet.
    Aborted {
        /// Error code, see <https://www.rfc-editor.org/rfc/rfc1350#page-10>.
        code: u16,
        /// The client's error message, with invalid UTF-8 replaced.
        message: String,
    },
    /// The same client and port sent another request meanwhile.
    Replaced,
    /// The client fell silent or made no progress.
    TimedOut,
    /// The server shut down, and the grace period expired.
    Stopped,
    /// The file does not exist.
    NotFound,
    /// A limit on concurrent transfers was reached, for this client or in total. The request got no response, or its
    /// transfer gave way to a newer one before the client responded.
    Busy,
    /// A write request or a malformed request.
    Refused,
    /// The client's address is not allowed, see [`FileSource::allows`].
    NotAllowed,
}

/// Listen addresses, transfer ports and limits of a server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Addresses for requests, IPv4 or IPv6. For port 0 the system chooses a port; see [`Server::local_addrs`].
    pub listen: Vec<SocketAddr>,
    /// Ports of the transfers.
    pub ports: Ports,
    /// Workers per listen address; `None` for one per core.
    pub workers: Option<NonZeroUsize>,
    /// Limits of each transfer and on concurrent transfers.
    pub limits: TransferLimits,
}

impl ServerConfig {
    /// Returns the default configuration for these listen addresses.
    pub fn new(listen: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            listen: listen.into_iter().collect(),
            ports: Ports::default(),
            workers: None,
            limits: TransferLimits::default(),
        }
    }
}

/// Ports of the transfers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ports {
    /// A port of its own for each transfer, chosen at random by the kernel.
    #[default]
    Ephemeral,
    /// A port of a range for each transfer, chosen at random. Transfers of different clients may share a port, so the
    /// range does not limit their number. A range of fewer than 4096 ports is easy to guess.
    Range(RangeInclusive<u16>),
    /// The listen port itself, for firewalls that pass no other port. One worker per listen address serves all
    /// clients. Everybody knows the port, so packets with forged addresses are accepted.
    Single,
}

/// Limits of each transfer and on concurrent transfers.
#[derive(Debug, Clone)]
pub struct TransferLimits {
    /// Largest block size; the interface's MTU may lower it further. Default 1468, which fills an Ethernet frame.
    /// Raise it only where every switch and ROM is known to accept larger frames.
    pub block_size: u16,
    /// Largest window size in blocks. Default 16; at most [`TransferLimits::MAX_WINDOW_SIZE`].
    pub window_size: u16,
    /// Concurrent transfers in total. Default 4096. A transfer with a port of its own needs a file descriptor, so this limit
    /// has to fit the limit of the process (RLIMIT_NOFILE).
    pub transfers: usize,
    /// Concurrent transfers of one IP address. Default 16.
    pub transfers_per_client: usize,
    /// Retransmission time-out before the first round-trip sample. Default 1 s.
    pub initial_rto: Duration,
    /// Lower bound of the retransmission time-out. Default 100 ms.
    pub min_rto: Duration,
    /// Upper bound of the retransmission time-out. Default 4 s. A client's own `timeout` option takes precedence.
    pub max_rto: Duration,
    /// A transfer without progress for this long has timed out. Default 20 s.
    pub stall_timeout: Duration,
    /// The same after the last block was sent: many clients never acknowledge that block. Default 5 s.
    pub linger_timeout: Duration,
    /// Maximum duration of a transfer. Default 10 min.
    pub max_duration: Duration,
}

impl TransferLimits {
    /// Wider windows only overrun the receive rings of firmware.
    pub const MAX_WINDOW_SIZE: u16 = 64;
}

impl Default for TransferLimits {
    fn default() -> Self {
        Self {
            block_size: 1468,
            window_size: 16,
            transfers: 4096,
            transfers_per_client: 16,
            initial_rto: Duration::from_secs(1),
            min_rto: Duration::from_millis(100),
            max_rto: Duration::from_secs(4),
            stall_timeout: Duration::from_secs(20),
            linger_timeout: Duration::from_secs(5),
            max_duration: Duration::from_secs(600),
        }
    }
}
