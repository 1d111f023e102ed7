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

use super::network::{ip, plug_thread};

const CABLE: &str = "probe";
/// The cookie before the DHCP options (RFC 2131, §3).
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// The offset of the options.
const OPTIONS: usize = 240;
/// The time-out for an offer, before the next try.
const OFFER_TIMEOUT: Duration = Duration::from_secs(5);
const TRIES: u8 = 3;

/// The kind of client, as visible to DHCP.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ClientKind {
    /// Firmware that loads a file: its architecture (RFC 4578, §2.1).
    Pxe(u16),
    /// Firmware that loads a URL: its architecture.
    Http(u16),
    /// iPXE on firmware of that architecture.
    Ipxe(u16),
    /// Not a boot client.
    Other,
}

/// A server's offer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The boot server.
    pub(crate) server: Ipv4Addr,
    /// The boot file: option 67 or the field for it.
    pub(crate) file: String,
    /// Option 60.
    pub(crate) class: Option<String>,
    /// iPXE's encapsulated options.
    pub(crate) ipxe: Option<Vec<u8>>,
}

/// A DHCP client on the lab's network.
pub(crate) struct Probe {
    requests: Sender<ClientKind>,
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
            for (number, kind) in (0..).zip(kinds) {
                let offer = match &socket {
                    Ok(socket) => request_offer(socket, number, kind),
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
        self.requests.send(kind)?;
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
    let discover = discover(number, kind);
    let mut packet = [0; 1500];
    for _ in 0..TRIES {
        socket.send_to(&discover, "255.255.255.255:67")?;
        while let Ok((size, _)) = socket.recv_from(&mut packet) {
            // Skips a late offer to an earlier transaction.
            if packet[4..8] == discover[4..8] {
                return parse_offer(&packet[..size]);
            }
        }
    }
    Err(anyhow!("no offer after {TRIES} tries"))
}

/// Builds a DHCPDISCOVER; each `number` is another machine.
fn discover(number: u8, kind: ClientKind) -> Vec<u8> {
    let mut packet = vec![1, 1, 6, 0, 0, 0, 0, number, 0, 0, 0x80, 0];
    packet.resize(28, 0);
    packet.extend([2, 0, 0, 0, 1, number]);
    packet.resize(236, 0);
    packet.extend(COOKIE);
    packet.extend([53, 1, 1]);
    packet.extend([55, 7, 1, 3, 43, 60, 66, 67, 175]);
    if let ClientKind::Pxe(arch) | ClientKind::Http(arch) | ClientKind::Ipxe(arch) = kind {
        let client = if matches!(kind, ClientKind::Http(_)) { "HTTPClient" } else { "PXEClient" };
        let class = format!("{client}:Arch:{arch:05}:UNDI:003000");
        packet.extend([60, class.len() as u8]);
        packet.extend(class.bytes());
        packet.extend([93, 2]);
        packet.extend(arch.to_be_bytes());
    }
    if let ClientKind::Ipxe(_) = kind {
        // The options of iPXE of 2019: user class, version, and HTTP as a feature.
        packet.extend([77, 4]);
        packet.extend(b"iPXE");
        packet.extend([175, 8, 235, 3, 1, 0, 0, 19, 1, 1]);
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
    ensure!(options.get(&53) == Some(&[2].as_slice()), "not a DHCPOFFER");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    let [a, b, c, d] = [packet[20], packet[21], packet[22], packet[23]];
    Ok(Offer {
        server: Ipv4Addr::new(a, b, c, d),
        file: options.get(&67).map_or_else(|| text(&packet[108..236]), |file| text(file)),
        class: options.get(&60).map(|class| text(class)),
        ipxe: options.get(&175).map(|ipxe| ipxe.to_vec()),
    })
}
