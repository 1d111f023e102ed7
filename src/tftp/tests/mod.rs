//! Tests of the protocol under a virtual clock, without sockets and without waiting.
//!
//! [`TestServer`] is a table of transfers whose clock the test advances. `requests` and `transfers` specify a boot
//! server, one sentence per test, and `attacks` what forged packets may not achieve. `network` runs whole transfers over a link that loses, delays, duplicates and
//! reorders packets. `sequence` checks invariants for any sequence of actions, and `properties` generates sequences
//! at random.

// The fuzzer uses `sequence` alone.
#![cfg_attr(fuzzing, allow(dead_code, reason = "the tests are not compiled then"))]

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod network;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod requests;
pub(crate) mod sequence;
#[cfg(test)]
mod transfers;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::admission::Admission;
use super::incoming::{IncomingRequest, ResponsePort};
use super::port_kind::PortKind;
use super::table::{ServerState, Table};
use super::transmit::Transmit;
use super::{FileSource, ReadRequest, TransferEnd, TransferEvent, TransferLimits};

/// Content of the file named `file`, the number of reads, and whether clients may read.
struct TestFiles(Mutex<(Bytes, usize)>, AtomicBool);

impl FileSource for TestFiles {
    fn read(&self, request: ReadRequest<'_>) -> Option<Bytes> {
        let mut state = self.0.lock();
        state.1 += 1;
        (request.name == b"file").then(|| state.0.clone())
    }

    fn allows(&self, _client: IpAddr) -> bool {
        self.1.load(Ordering::Relaxed)
    }
}

/// A transfer table without sockets.
struct TestServer {
    table: Table<()>,
    now: Instant,
    transmit: Transmit,
    files: Arc<TestFiles>,
    events: Arc<Mutex<Vec<TransferEvent>>>,
    mtu: Option<u32>,
    local_ip: Option<IpAddr>,
    is_default_source: bool,
    /// The port of the last response to a request.
    response_port: Option<ResponsePort>,
}

impl TestServer {
    fn new(file: impl Into<Bytes>) -> Self {
        Self::with_limits(file, TransferLimits::default())
    }

    fn with_limits(file: impl Into<Bytes>, limits: TransferLimits) -> Self {
        Self::with_ports(file, limits, PortKind::Unguessable)
    }

    /// Returns a server whose transfers have ports of this kind.
    fn with_ports(file: impl Into<Bytes>, limits: TransferLimits, ports: PortKind) -> Self {
        let files = Arc::new(TestFiles(Mutex::new((file.into(), 0)), AtomicBool::new(true)));
        let events = Arc::new(Mutex::new(Vec::new()));
        let report_events = Arc::clone(&events);
        let state = ServerState {
            files: Arc::clone(&files) as Arc<dyn FileSource>,
            admission: Admission::new(limits.transfers, limits.transfers_per_client),
            limits: Arc::new(limits),
            budget: Arc::default(),
            blocks: Arc::default(),
            report: Arc::new(move |event| report_events.lock().push(event)),
        };
        Self {
            table: Table::new(state, ports, || ()),
            now: Instant::now(),
            transmit: Transmit::new(),
            files,
            events,
            mtu: None,
            local_ip: None,
            is_default_source: false,
            response_port: None,
        }
    }

    /// Delivers a request; returns the response.
    fn send_request(&mut self, client: SocketAddr, packet: &[u8]) -> Vec<Vec<u8>> {
        let (local_ip, is_default_source, mtu) = (self.local_ip, self.is_default_source, self.mtu);
        let request = IncomingRequest { client, local_ip, is_default_source, mtu, packet };
        let (now, transmit) = (self.now, &mut self.transmit);
        self.response_port = Some(self.table.handle_request(request, None, now, transmit, |_| Some(())));
        self.datagrams()
    }

    /// Delivers a packet of a transfer; returns the response.
    fn send_packet(&mut self, client: SocketAddr, packet: &[u8]) -> Vec<Vec<u8>> {
        self.transmit.clear();
        if let Some(id) = self.table.find(client) {
            self.table.handle_packet(id, packet, self.now, &mut self.transmit);
        }
        self.datagrams()
    }

    /// Delivers an ICMP error for the client's transfer.
    fn send_unreachable(&mut self, client: SocketAddr) {
        if let Some(id) = self.table.find(client) {
            self.table.handle_unreachable(id, self.now, &mut self.transmit);
        }
    }

    fn send_ack(&mut self, client: SocketAddr, block: u16) -> Vec<Vec<u8>> {
        self.send_packet(client, &ack_packet(block))
    }

    /// Advances the clock; returns the bursts that the timers send, with their time since the call.
    fn advance(&mut self, duration: Duration) -> Vec<(Duration, Vec<Vec<u8>>)> {
        let (start, end) = (self.now, self.now + duration);
        let mut bursts = Vec::new();
        while let Some(at) = self.table.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            while self.table.tick(self.now, &mut self.transmit).is_some() {
                let datagrams = self.datagrams();
                if !datagrams.is_empty() {
                    bursts.push((self.now - start, datagrams));
                }
            }
        }
        self.now = end;
        bursts
    }

    fn datagrams(&self) -> Vec<Vec<u8>> {
        self.transmit.datagrams().map(<[u8]>::to_vec).collect()
    }

    fn events(&self) -> Vec<TransferEvent> {
        self.events.lock().clone()
    }

    fn outcomes(&self) -> Vec<TransferEnd> {
        self.events().into_iter().map(|event| event.outcome).collect()
    }
}

fn client(number: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1000 + number))
}

/// A read request for `file`, with options.
fn read_request(options: &str) -> Vec<u8> {
    let mut packet = b"\0\x01file\0octet\0".to_vec();
    for field in options.split_whitespace() {
        packet.extend_from_slice(field.as_bytes());
        packet.push(0);
    }
    packet
}

fn ack_packet(block: u16) -> Vec<u8> {
    [[0, 4], block.to_be_bytes()].concat()
}

fn oack_packet(options: &str) -> Vec<u8> {
    let mut packet = read_request(options);
    packet.splice(..b"\0\x01file\0octet\0".len(), [0, 6]);
    packet
}

/// The block numbers of DATA packets.
fn block_numbers(datagrams: &[Vec<u8>]) -> Vec<u16> {
    datagrams
        .iter()
        .map(|datagram| match datagram.as_slice() {
            [0, 3, high, low, ..] => u16::from_be_bytes([*high, *low]),
            other => panic!("not a DATA packet: {other:?}"),
        })
        .collect()
}

/// The code of a single ERROR packet.
fn error_code(datagrams: &[Vec<u8>]) -> u16 {
    match datagrams {
        [datagram] => match datagram.as_slice() {
            [0, 5, high, low, _, .., 0] => u16::from_be_bytes([*high, *low]),
            other => panic!("not an ERROR packet with a message: {other:?}"),
        },
        other => panic!("not a single packet: {other:?}"),
    }
}

/// File content in which equal blocks are unlikely.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const NO_PACKETS: [Vec<u8>; 0] = [];

/// Starts a transfer up to its first window, with a round trip of 10 ms.
fn start_transfer(file: usize, options: &str) -> (TestServer, SocketAddr, Vec<u16>) {
    let mut server = TestServer::new(pattern(file));
    let response = server.send_request(client(1), &read_request(options));
    assert_eq!(response[0][..2], [0, 6], "an OACK");
    server.advance(ms(10));
    let window = server.send_ack(client(1), 0);
    (server, client(1), block_numbers(&window))
}
