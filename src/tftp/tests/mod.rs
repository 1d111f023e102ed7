//! The protocol under a virtual clock: no socket, no waiting, no luck.
//!
//! [`Server`] is a table of transfers whose time passes when a test says so. `requests` and `transfers` say what a boot
//! server must do, one sentence a test; `lines` lets whole transfers cross lines that lose, delay, double and reorder;
//! `course` judges whatever else may come, and `random` makes some of it.

// The fuzzer sees `course` alone.
#![cfg_attr(fuzzing, allow(dead_code, reason = "the tests are not compiled then"))]

pub(crate) mod course;
#[cfg(test)]
mod lines;
#[cfg(test)]
mod random;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod transfers;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::admission::Admission;
use super::parcel::Parcel;
use super::table::{Arrival, Shared, Table};
use super::{Event, Files, Limits, Outcome, ReadRequest};

/// A name, a file, and how often it was asked for.
struct Shelf(Mutex<(Bytes, usize)>);

impl Files for Shelf {
    fn read(&self, request: ReadRequest<'_>) -> Option<Bytes> {
        let mut held = self.0.lock().expect("not poisoned");
        held.1 += 1;
        (request.name == b"file").then(|| held.0.clone())
    }
}

struct Server {
    table: Table,
    now: Instant,
    parcel: Parcel,
    shelf: Arc<Shelf>,
    events: Arc<Mutex<Vec<Event>>>,
    mtu: Option<u32>,
    local: Option<IpAddr>,
    local_is_usual: bool,
}

impl Server {
    fn new(file: impl Into<Bytes>) -> Self {
        Self::with_limits(file, Limits::default())
    }

    fn with_limits(file: impl Into<Bytes>, limits: Limits) -> Self {
        let shelf = Arc::new(Shelf(Mutex::new((file.into(), 0))));
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        let shared = Shared {
            files: Arc::clone(&shelf) as Arc<dyn Files>,
            admission: Admission::new(limits.transfers, limits.transfers_per_client),
            limits: Arc::new(limits),
            cuts: Arc::default(),
            tell: Arc::new(move |event| told.lock().expect("not poisoned").push(event)),
        };
        Self {
            table: Table::new(shared),
            now: Instant::now(),
            parcel: Parcel::new(),
            shelf,
            events,
            mtu: None,
            local: None,
            local_is_usual: false,
        }
    }

    /// A request arrives; what is answered at once.
    fn request(&mut self, client: SocketAddr, packet: &[u8]) -> Vec<Vec<u8>> {
        let (local, mtu) = (self.local, self.mtu);
        let arrival = Arrival { client, local, local_is_usual: self.local_is_usual, mtu, packet };
        self.table.request(arrival, None, self.now, &mut self.parcel);
        self.sent()
    }

    /// A packet of a transfer arrives; what is answered at once.
    fn receive(&mut self, client: SocketAddr, packet: &[u8]) -> Vec<Vec<u8>> {
        self.table.receive(client, packet, self.now, &mut self.parcel);
        self.sent()
    }

    fn ack(&mut self, client: SocketAddr, block: u16) -> Vec<Vec<u8>> {
        self.receive(client, &ack(block))
    }

    /// A while passes; what is sent meanwhile, and when.
    fn pass(&mut self, while_: Duration) -> Vec<(Duration, Vec<Vec<u8>>)> {
        let (began, end) = (self.now, self.now + while_);
        let mut sent = Vec::new();
        while let Some(at) = self.table.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            while self.table.tick(self.now, &mut self.parcel) {
                let datagrams = self.sent();
                if !datagrams.is_empty() {
                    sent.push((self.now - began, datagrams));
                }
            }
        }
        self.now = end;
        sent
    }

    fn sent(&self) -> Vec<Vec<u8>> {
        self.parcel.datagrams().map(<[u8]>::to_vec).collect()
    }

    fn events(&self) -> Vec<Event> {
        self.events.lock().expect("not poisoned").clone()
    }

    fn outcomes(&self) -> Vec<Outcome> {
        self.events().into_iter().map(|event| event.outcome).collect()
    }
}

fn client(number: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1000 + number))
}

/// A read request for `file` with these options.
fn read(options: &str) -> Vec<u8> {
    let mut packet = b"\0\x01file\0octet\0".to_vec();
    for field in options.split_whitespace() {
        packet.extend_from_slice(field.as_bytes());
        packet.push(0);
    }
    packet
}

fn ack(block: u16) -> Vec<u8> {
    [[0, 4], block.to_be_bytes()].concat()
}

fn oack(options: &str) -> Vec<u8> {
    let mut packet = read(options);
    packet.splice(..b"\0\x01file\0octet\0".len(), [0, 6]);
    packet
}

/// The block numbers of DATA packets.
fn blocks(datagrams: &[Vec<u8>]) -> Vec<u16> {
    datagrams
        .iter()
        .map(|datagram| match datagram.as_slice() {
            [0, 3, high, low, ..] => u16::from_be_bytes([*high, *low]),
            other => panic!("no block: {other:?}"),
        })
        .collect()
}

/// The code of the one ERROR packet.
fn error_code(datagrams: &[Vec<u8>]) -> u16 {
    match datagrams {
        [datagram] => match datagram.as_slice() {
            [0, 5, high, low, _, .., 0] => u16::from_be_bytes([*high, *low]),
            other => panic!("no polite error: {other:?}"),
        },
        other => panic!("not one packet: {other:?}"),
    }
}

/// Bytes that tell where in the file they stand.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const NOTHING: [Vec<u8>; 0] = [];

/// Up to the first window on its way, with a round trip of 10 ms.
fn started(file: usize, options: &str) -> (Server, SocketAddr, Vec<u16>) {
    let mut server = Server::new(pattern(file));
    let answer = server.request(client(1), &read(options));
    assert_eq!(answer[0][..2], [0, 6], "an OACK");
    server.pass(ms(10));
    let first = server.ack(client(1), 0);
    (server, client(1), blocks(&first))
}
