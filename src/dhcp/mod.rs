//! ProxyDHCP server (PXE 2.1, §2.2): names the boot file beside the DHCP server of the site.
//!
//! The site's server gives the address. This server answers network-boot clients on port 67 and, as the *boot server*, on
//! port 4011. It never gives out an address, and answers no other client. The [`BootPolicy`] decides on the file.
//!
//! | file | purpose |
//! |---|---|
//! | `request` | reads a request |
//! | `server_reply` | reads the reply of another DHCP server |
//! | `reply_watch` | selects the replies to network-boot clients |
//! | `offer` | writes the answer in the form that the client's firmware needs |
//! | `engine` | decides on each datagram: bytes and time in, a look-up or nothing out |
//! | `answer_limit` | answers in a period: of one machine, and in total |
//! | `ports` | the ports of DHCP and PXE |
//! | `server` | the driver: receives, looks up |
//! | `answers` | sends, and reports what became of a request |
//! | `socket` | a socket that knows the interface of each datagram |
//! | `packet_socket` | a socket that receives the replies of other servers |
//! | `interface_names` | the names of interfaces, remembered for a second |
//! | `stop_signal` | ends the driver's wait |
//! | `port_owner` | the process that holds a port |
//!
//! All files but the last seven own no socket and read no clock.
//!
//! The packets are `dhcproto`'s. Requests are read with its borrowed parser, since the owned one stops at the first
//! malformed option, keeps one architecture of a list, and panics on odd lengths in debug builds. The borrowed parser takes
//! any option, joins long ones (RFC 3396) and checks the magic cookie. Answers are written here: its encoder takes longer for
//! them than all else together. Its tree brings `hickory-proto`, for options with
//! domain names: five crates, of which none runs here.
//!
//! Invariants: `yiaddr` is zero. An answer has at most twice the bytes of its request. An answer goes to the link from which
//! the request came, or to a named relay.

mod answer_limit;
mod answers;
mod engine;
mod interface_names;
mod offer;
mod packet_socket;
mod port_owner;
mod ports;
mod reply_watch;
mod request;
mod server;
mod server_reply;
mod socket;
mod stop_signal;
#[cfg(any(test, fuzzing))]
pub(crate) mod tests;

use std::net::Ipv4Addr;

pub use answers::ProxyCounters;
pub use port_owner::{PortOwner, find_port_owner};
pub use server::{ProxyDhcp, check_reply_access};

/// Decides which clients get which file.
pub trait BootPolicy: Send + Sync + 'static {
    /// Facts of a decision, for the event.
    type Note: Send + 'static;

    /// Whether requests from the interface with this name are answered.
    fn serves_interface(&self, name: &str) -> bool;

    /// Whether requests of the relay with this address (`giaddr`) are answered.
    fn serves_relay(&self, relay: Ipv4Addr) -> bool;

    /// The file for a client; `None` for no answer.
    fn decide(&self, client: &NetbootClient) -> impl Future<Output = (Option<NamedFile>, Self::Note)> + Send;
}

/// A network-boot client, as its request shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetbootClient {
    /// The MAC address of the network card.
    pub mac: [u8; 6],
    /// The architectures in option 93, the preferred one first; empty without the option.
    pub architectures: Vec<u16>,
    /// Option 60, which begins with `PXEClient` or `HTTPClient`.
    pub vendor_class: String,
    /// The codes within option 175; only iPXE sends the option.
    pub ipxe: Option<Vec<u8>>,
    /// The relay that forwarded the request.
    pub relay: Option<Ipv4Addr>,
    /// The server's address on the client's side.
    pub local_ip: Ipv4Addr,
}

impl NetbootClient {
    /// Whether the firmware loads its file over HTTP (UEFI HTTP boot).
    pub fn is_http_boot(&self) -> bool {
        self.vendor_class.starts_with(HTTP_CLIENT)
    }

    /// The preferred architecture: of option 93, or of the vendor class `PXEClient:Arch:00007:…`.
    pub fn architecture(&self) -> Option<u16> {
        let in_class = || self.vendor_class.split_once(":Arch:")?.1.get(..5)?.parse().ok();
        self.architectures.first().copied().or_else(in_class)
    }
}

/// The vendor classes of network-boot clients and of their servers.
const PXE_CLIENT: &str = "PXEClient";
const HTTP_CLIENT: &str = "HTTPClient";

/// The file that an answer names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The name on the TFTP server, or a URL.
    pub name: String,
    /// The TFTP server (`siaddr`).
    pub server: Ipv4Addr,
}

/// What the server has observed.
#[derive(Debug, Clone)]
pub enum Observation<N> {
    /// A request of a network-boot client.
    Exchange(Exchange<N>),
    /// A reply of another server.
    Reply(ObservedReply),
}

/// A request of a network-boot client, with the answer.
#[derive(Debug, Clone)]
pub struct Exchange<N> {
    /// The client.
    pub client: NetbootClient,
    /// The kind of request.
    pub kind: RequestKind,
    /// What became of the request.
    pub result: ExchangeResult,
    /// The facts of the policy's decision; `None` if the policy was not consulted.
    pub note: Option<N>,
}

/// The requests of network-boot clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// DHCPDISCOVER: the client needs an address and a boot file.
    Discover {
        /// Whether replies of other servers to the request are observed.
        is_watched: bool,
    },
    /// DHCPREQUEST on port 67: the client takes an address of the site's server. Never answered.
    Request {
        /// The requested address (option 50).
        address: Option<Ipv4Addr>,
        /// The server that offered the address (option 54).
        server: Option<Ipv4Addr>,
        /// Whether replies of other servers to the request are observed.
        is_watched: bool,
    },
    /// A request to the boot server on port 4011.
    BootServer {
        /// The client's address.
        address: Ipv4Addr,
    },
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExchangeResult {
    /// The answer was sent, with this file.
    Answered(NamedFile),
    /// The request is for another server.
    Observed,
    /// The policy has no file for the client.
    Declined,
    /// The relay is not named.
    RelayNotNamed,
    /// The machine, or all machines together, sent too many requests.
    RateLimited,
    /// The answer would be too long for its request, or the file name for an answer.
    TooLong,
    /// Too many look-ups are pending.
    Busy,
    /// The system did not send the answer.
    NotSent(std::io::ErrorKind),
}

/// A reply of another DHCP server to a network-boot client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedReply {
    /// The MAC address of the client.
    pub mac: [u8; 6],
    /// The preferred architecture in the client's request.
    pub architecture: Option<u16>,
    /// Whether iPXE sent the request.
    pub is_ipxe: bool,
    /// The kind of reply.
    pub kind: ReplyKind,
    /// The address of the server.
    pub server: Ipv4Addr,
    /// The boot file that the reply names.
    pub file: Option<String>,
}

/// The replies of DHCP servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// DHCPOFFER with this address.
    Offer(Ipv4Addr),
    /// DHCPOFFER of a ProxyDHCP server: without an address.
    ProxyOffer,
    /// DHCPACK: the client has this address.
    Ack(Ipv4Addr),
    /// DHCPNAK: the client cannot have the address that it requested.
    Nak,
}
