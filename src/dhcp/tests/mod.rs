//! Tests of the engine, without sockets. `tests/fuzz` compiles this file and [`check`] as well.

#[cfg(test)]
mod captures;
pub(crate) mod check;
#[cfg(test)]
mod firmware;
#[cfg(test)]
mod network;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod replies;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use super::engine::{Datagram, Disposition, Engine, Transmission};
use super::ports::{BOOT_SERVER_PORT, SERVER_PORT};
use super::{ExchangeResult, NamedFile};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 57);
const RELAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const GUID: [u8; 17] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

/// A request under construction.
#[derive(Debug, Clone)]
struct Packet {
    /// Header and magic cookie.
    head: Vec<u8>,
    options: Vec<u8>,
    /// Bytes after the end of the options.
    padding: usize,
}

impl Packet {
    /// A message of this type from [`MAC`], with options 60 and 93.
    fn new(message_type: u8, class: &str, architecture: u16) -> Self {
        let mut head = vec![1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 4, 0x80, 0];
        head.resize(28, 0);
        head.extend(MAC);
        head.resize(236, 0);
        head.extend(COOKIE);
        let packet = Self { head, options: vec![53, 1, message_type], padding: 300 };
        packet
            .with(60, format!("{class}:Arch:{architecture:05}:UNDI:003016").as_bytes())
            .with(93, &architecture.to_be_bytes())
    }

    fn discover(class: &str, architecture: u16) -> Self {
        Self::new(1, class, architecture)
    }

    /// The same with another option.
    fn with(mut self, code: u8, value: &[u8]) -> Self {
        self.options.extend([code, value.len() as u8]);
        self.options.extend(value);
        self
    }

    /// The same with these bytes of the header.
    fn with_head(mut self, at: usize, bytes: &[u8]) -> Self {
        self.head[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn forwarded_by(self, relay: Ipv4Addr) -> Self {
        self.with_head(24, &relay.octets())
    }

    /// The features of iPXE with these codes.
    fn with_ipxe(self, features: &[u8]) -> Self {
        let codes = features.iter().flat_map(|code| [*code, 1, 1]);
        let value: Vec<u8> =
            [177, 5, 1, 0x1a, 0xf4, 0x10, 0x41, 235, 3, 1, 0, 0].into_iter().chain(codes).collect();
        self.with(77, b"iPXE").with(175, &value)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.head.as_slice(), &self.options, &[255]].concat();
        bytes.resize(bytes.len().max(self.padding), 0);
        bytes
    }
}

/// A datagram that a client without an address broadcasts.
fn broadcast(bytes: &[u8]) -> Datagram<'_> {
    Datagram {
        bytes,
        port: SERVER_PORT,
        source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        destination: Ipv4Addr::BROADCAST,
        local_ip: SERVER,
    }
}

/// A datagram to the boot server, from this port of the client.
fn to_boot_server(bytes: &[u8], source_port: u16) -> Datagram<'_> {
    let source = SocketAddrV4::new(CLIENT, source_port);
    Datagram { bytes, port: BOOT_SERVER_PORT, source, destination: SERVER, local_ip: SERVER }
}

fn file(name: &str) -> NamedFile {
    NamedFile { name: name.to_owned(), server: SERVER }
}

/// The result of a datagram with a policy that names `name`; `None` for a dropped datagram.
fn exchange(datagram: &Datagram<'_>, name: &str) -> Option<(ExchangeResult, Option<Transmission>)> {
    let now = Instant::now();
    match Engine::new(false, now).receive(datagram, |relay| relay == RELAY, now) {
        Disposition::Drop => None,
        Disposition::Observe(_, _, result) => Some((result, None)),
        Disposition::LookUp(pending) => Some(pending.complete(Some(file(name)))),
    }
}

/// The answer to a datagram.
fn answer(datagram: &Datagram<'_>, name: &str) -> Transmission {
    let (result, transmission) = exchange(datagram, name).expect("a request of a network-boot client");
    transmission.unwrap_or_else(|| panic!("no answer: {result:?}"))
}
