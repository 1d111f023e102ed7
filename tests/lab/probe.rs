//! [`Probe`]: a DHCP client that requests boot files as each kind of firmware does, without the time of a real boot.
//!
//! The probe has a network namespace of its own, with a cable to the bridge. In the lab's namespace the kernel would
//! drop its packets, since they arrive with a local source address.

use std::collections::HashMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

use volboot::model::IpxeFeature;

use super::network::{ip, plug_thread};

const CABLE: &str = "probe";
/// The probe's address in the lab's network, for requests that only a client with an address sends.
const PROBE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 200);
/// The cookie before the DHCP options (RFC 2131, §3).
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// The offset of the options.
const OPTIONS: usize = 240;
/// The time-out for an offer, before the next try.
const OFFER_TIMEOUT: Duration = Duration::from_secs(2);
const TRIES: u8 = 3;
const NO_OFFER: &str = "no offer after";
/// The features of Debian's iPXE of 2019 on BIOS: PXE extensions, iSCSI, AoE, HTTP, TFTP, DNS, bzImage, multiboot, PXE,
/// ELF, menus.
const IPXE_FEATURES: [u8; 11] = [23, 19, 17, 18, 21, 25, 24, 33, 34, 39, 16];

/// The kind of client, as visible to DHCP.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ClientKind {
    /// Firmware that loads a file: its architecture (RFC 4578, §2.1).
    Pxe(u16),
    /// Firmware that loads a URL: its architecture.
    Http(u16),
    /// The same without option 93: the vendor class has the architecture.
    PxeClass(u16),
    /// The same for firmware that loads a URL.
    HttpClass(u16),
    /// iPXE on firmware of that architecture.
    Ipxe(u16),
    /// iPXE without a feature, as in the ROM of some network cards.
    IpxeWithout(IpxeFeature, u16),
    /// The same on a card whose PCI id contains the code of the feature as a byte.
    IpxeOnCardWithout(IpxeFeature, u16),
    /// Firmware with several architectures.
    PxeList(&'static [u16]),
    /// Not a boot client.
    Other,
}

impl ClientKind {
    /// The architectures in option 93; empty without the option.
    pub(crate) fn architectures(self) -> Vec<u16> {
        match self {
            Self::Pxe(code)
            | Self::Http(code)
            | Self::Ipxe(code)
            | Self::IpxeWithout(_, code)
            | Self::IpxeOnCardWithout(_, code) => vec![code],
            Self::PxeList(codes) => codes.to_vec(),
            Self::PxeClass(_) | Self::HttpClass(_) | Self::Other => Vec::new(),
        }
    }

    /// The PCI id of the card, in option 175: virtio, or one of Mellanox with the code of the feature.
    fn pci_id(self) -> [u8; 4] {
        match self {
            Self::IpxeOnCardWithout(feature, _) => [0x15, 0xb3, 0x10, feature.code()],
            _ => [0x1a, 0xf4, 0x10, 0],
        }
    }

    /// Option 60.
    pub(crate) fn vendor_class(self) -> Option<String> {
        let (client, code) = match self {
            Self::Pxe(code)
            | Self::PxeClass(code)
            | Self::Ipxe(code)
            | Self::IpxeWithout(_, code)
            | Self::IpxeOnCardWithout(_, code) => ("PXEClient", code),
            Self::PxeList(codes) => ("PXEClient", codes[0]),
            Self::Http(code) | Self::HttpClass(code) => ("HTTPClient", code),
            Self::Other => return None,
        };
        Some(format!("{client}:Arch:{code:05}:UNDI:003000"))
    }

    /// The codes of the features in option 175.
    pub(crate) fn features(self) -> Option<Vec<u8>> {
        let missing = match self {
            Self::Ipxe(_) => None,
            Self::IpxeWithout(feature, _) | Self::IpxeOnCardWithout(feature, _) => Some(feature.code()),
            Self::Pxe(_)
            | Self::Http(_)
            | Self::PxeClass(_)
            | Self::HttpClass(_)
            | Self::PxeList(_)
            | Self::Other => return None,
        };
        Some(IPXE_FEATURES.into_iter().filter(|code| Some(*code) != missing).collect())
    }
}

/// A server's offer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Whether the server gives the client an address.
    pub(crate) has_address: bool,
    /// The boot server.
    pub(crate) server: Ipv4Addr,
    /// The boot file: option 67 or the field for it.
    pub(crate) file: String,
    /// Option 60.
    pub(crate) class: Option<String>,
    /// iPXE's encapsulated options.
    pub(crate) ipxe: Option<Vec<u8>>,
}

/// The server that decides on the boot file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decider {
    /// The server that gives the address.
    AddressServer,
    /// A proxyDHCP server beside it (PXE 2.1, §2.2).
    Proxy,
    /// The boot server with this address, without an offer of its own (PXE 2.1, §2.2.4).
    BootServer(Ipv4Addr),
}

/// A DHCP client on the lab's network.
pub(crate) struct Probe {
    requests: Sender<(ClientKind, Decider)>,
    offers: Receiver<Result<Offer>>,
}

impl Probe {
    /// Connects the probe to the bridge. Must be called from the lab's thread.
    pub(crate) fn start() -> Result<Self> {
        let (requests, kinds) = channel();
        let (offer_sender, offers) = channel();
        let (thread_sender, thread) = channel();
        let (cable_sender, cable) = channel();
        thread::spawn(move || {
            thread_sender.send(unshare(CloneFlags::CLONE_NEWNET).map(|()| gettid())).ok();
            let socket = cable.recv().map_err(|_| anyhow!("no cable")).and_then(|()| open_socket());
            for (number, (kind, from)) in (0..).zip(kinds) {
                let offer = match &socket {
                    Ok(socket) => match from {
                        Decider::AddressServer => request_offer(socket, number, kind),
                        Decider::Proxy => request_proxy_offer(socket, number, kind),
                        Decider::BootServer(server) => request_boot_file(socket, number, kind, server),
                    },
                    Err(error) => Err(anyhow!("no socket: {error:#}")),
                };
                offer_sender.send(offer).ok();
            }
        });
        plug_thread(CABLE, thread.recv()?.context("cannot create a network namespace")?)?;
        cable_sender.send(())?;
        Ok(Self { requests, offers })
    }

    /// Requests an offer for this kind of client.
    pub(crate) fn offer(&self, kind: ClientKind) -> Result<Offer> {
        self.request(kind, Decider::AddressServer)
    }

    /// Requests the offer of a proxyDHCP server, at port 67 and, if that offer has no boot file, at port 4011.
    pub(crate) fn proxy_offer(&self, kind: ClientKind) -> Result<Offer> {
        self.request(kind, Decider::Proxy)
    }

    /// Requests the boot file at port 4011 of a server.
    pub(crate) fn ask_boot_server(&self, kind: ClientKind, server: Ipv4Addr) -> Result<Offer> {
        self.request(kind, Decider::BootServer(server))
    }

    /// Checks that no proxyDHCP server answers this kind of client.
    pub(crate) fn expect_no_proxy_offer(&self, kind: ClientKind) -> Result<()> {
        match self.request(kind, Decider::Proxy) {
            Ok(offer) => Err(anyhow!("an offer for {kind:?}: {offer:?}")),
            Err(error) if format!("{error:#}").contains(NO_OFFER) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The MAC address of the request with this number, from 0.
    pub(crate) fn mac(number: u8) -> String {
        format!("02:00:00:00:01:{number:02x}")
    }

    fn request(&self, kind: ClientKind, from: Decider) -> Result<Offer> {
        self.requests.send((kind, from))?;
        self.offers.recv()?.with_context(|| format!("no offer for {kind:?}"))
    }
}

/// Opens the socket of a client without an address.
fn open_socket() -> Result<UdpSocket> {
    ip(&["link", "set", CABLE, "up"])?;
    ip(&["route", "add", "255.255.255.255", "dev", CABLE])?;
    let socket = UdpSocket::bind("0.0.0.0:68")?;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(OFFER_TIMEOUT))?;
    Ok(socket)
}

fn request_offer(socket: &UdpSocket, number: u8, kind: ClientKind) -> Result<Offer> {
    exchange(socket, &build_request(number, kind, None), "255.255.255.255:67", |offer| offer.has_address)
}

fn request_proxy_offer(socket: &UdpSocket, number: u8, kind: ClientKind) -> Result<Offer> {
    // The address that the other server gave, so to speak.
    ip(&["address", "replace", &format!("{PROBE_ADDRESS}/24"), "dev", CABLE])?;
    let discover = build_request(number, kind, None);
    let offer = exchange(socket, &discover, "255.255.255.255:67", |offer| !offer.has_address)?;
    if !offer.file.is_empty() {
        return Ok(offer);
    }
    request_boot_file(socket, number, kind, offer.server)
}

fn request_boot_file(socket: &UdpSocket, number: u8, kind: ClientKind, server: Ipv4Addr) -> Result<Offer> {
    ip(&["address", "replace", &format!("{PROBE_ADDRESS}/24"), "dev", CABLE])?;
    let request = build_request(number, kind, Some(PROBE_ADDRESS));
    exchange(socket, &request, &format!("{server}:4011"), |_| true)
}

/// Sends a request until an answer is accepted.
fn exchange(socket: &UdpSocket, request: &[u8], to: &str, accept: impl Fn(&Offer) -> bool) -> Result<Offer> {
    let mut packet = [0; 1500];
    for _ in 0..TRIES {
        socket.send_to(request, to)?;
        while let Ok((size, _)) = socket.recv_from(&mut packet) {
            // Skips a late answer to an earlier transaction.
            if packet[4..8] == request[4..8] {
                let offer = parse_offer(&packet[..size])?;
                if accept(&offer) {
                    return Ok(offer);
                }
            }
        }
    }
    Err(anyhow!("{NO_OFFER} {TRIES} tries"))
}

/// Builds a DHCPDISCOVER, or a DHCPREQUEST of a client that has an address; each `number` is another machine.
fn build_request(number: u8, kind: ClientKind, address: Option<Ipv4Addr>) -> Vec<u8> {
    let mut packet = vec![1, 1, 6, 0, 0, 0, u8::from(address.is_some()), number, 0, 0];
    packet.extend(if address.is_some() { [0, 0] } else { [0x80, 0] });
    packet.extend(address.map_or([0; 4], |address| address.octets()));
    packet.resize(28, 0);
    packet.extend([2, 0, 0, 0, 1, number]);
    packet.resize(236, 0);
    packet.extend(COOKIE);
    packet.extend([53, 1, if address.is_some() { 3 } else { 1 }]);
    packet.extend([55, 7, 1, 3, 43, 60, 66, 67, 175]);
    if let Some(class) = kind.vendor_class() {
        packet.extend([60, class.len() as u8]);
        packet.extend(class.bytes());
    }
    let architectures = kind.architectures();
    if !architectures.is_empty() {
        packet.extend([93, 2 * architectures.len() as u8]);
        packet.extend(architectures.into_iter().flat_map(u16::to_be_bytes));
    }
    if let Some(features) = kind.features() {
        // The options of iPXE of 2019: user class; card (bus and PCI id), features, and version.
        packet.extend([77, 4]);
        packet.extend(b"iPXE");
        let [a, b, c, d] = kind.pci_id();
        let card_and_version = [177, 5, 1, a, b, c, d, 235, 3, 1, 0, 0];
        packet.extend([175, (card_and_version.len() + 3 * features.len()) as u8]);
        packet.extend(card_and_version);
        packet.extend(features.into_iter().flat_map(|code| [code, 1, 1]));
    }
    packet.push(255);
    packet.resize(packet.len().max(300), 0);
    packet
}

fn parse_offer(packet: &[u8]) -> Result<Offer> {
    ensure!(packet.len() > OPTIONS && packet[..1] == [2], "not a DHCP reply");
    let mut options = HashMap::new();
    let mut rest = &packet[OPTIONS..];
    while let [code, length, after @ ..] = rest
        && *code != 255
    {
        let (value, after) = after.split_at_checked(usize::from(*length)).context("truncated option")?;
        options.insert(*code, value);
        rest = after;
    }
    ensure!(matches!(options.get(&53), Some([2 | 5])), "neither a DHCPOFFER nor a DHCPACK");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    let [a, b, c, d] = [packet[20], packet[21], packet[22], packet[23]];
    Ok(Offer {
        has_address: packet[16..20] != [0; 4],
        server: Ipv4Addr::new(a, b, c, d),
        file: options.get(&67).map_or_else(|| text(&packet[108..236]), |file| text(file)),
        class: options.get(&60).map(|class| text(class)),
        ipxe: options.get(&175).map(|ipxe| ipxe.to_vec()),
    })
}
