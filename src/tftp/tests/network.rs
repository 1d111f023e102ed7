//! Whole transfers over a simulated link that loses, delays, duplicates and reorders packets, at random from a seed.
//!
//! Client and server use the virtual clock, so a transfer of minutes takes microseconds. The tests assert the
//! properties of a transfer: every byte arrives, it ends well, and the number of retransmissions stays proportional
//! to the losses.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

/// Conditions on a link; loss and duplication are shares of 1000.
#[derive(Debug, Clone, Copy, Default)]
struct LinkConditions {
    loss: u64,
    duplication: u64,
    /// Upper bound of a random delay on top of 1 ms. Later packets may overtake earlier ones.
    jitter_ms: u64,
}

/// splitmix64: equal seeds give equal links.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A client that behaves like EDK2: for each block out of order, it repeats the ACK of the last block in order.
struct SimulatedClient {
    block_size: usize,
    window_size: u16,
    content: Vec<u8>,
    last_block: u16,
    blocks_since_ack: u16,
    last_packet: Vec<u8>,
    retransmit_at: Instant,
    is_done: bool,
}

impl SimulatedClient {
    fn new(request: Vec<u8>, block_size: usize, window_size: u16, now: Instant) -> Self {
        Self {
            block_size,
            window_size,
            content: Vec::new(),
            last_block: 0,
            blocks_since_ack: 0,
            last_packet: request,
            retransmit_at: now,
            is_done: false,
        }
    }

    /// Handles a packet; returns the response.
    fn receive(&mut self, packet: &[u8], now: Instant) -> Option<Vec<u8>> {
        match packet {
            [0, 6, ..] if self.last_block == 0 => Some(self.send(ack_packet(0), now)),
            [0, 3, high, low, data @ ..] => {
                let number = u16::from_be_bytes([*high, *low]);
                if number != self.last_block.wrapping_add(1) || self.is_done {
                    self.blocks_since_ack = 0;
                    let has_response = self.window_size > 1 || number == self.last_block;
                    return has_response.then(|| ack_packet(self.last_block));
                }
                self.last_block = number;
                self.content.extend_from_slice(data);
                self.blocks_since_ack += 1;
                self.is_done = data.len() < self.block_size;
                if self.is_done || self.blocks_since_ack == self.window_size {
                    self.blocks_since_ack = 0;
                    return Some(self.send(ack_packet(number), now));
                }
                None
            }
            _ => None,
        }
    }

    fn send(&mut self, packet: Vec<u8>, now: Instant) -> Vec<u8> {
        self.last_packet.clone_from(&packet);
        self.retransmit_at = now + ms(1500);
        packet
    }
}

/// Packets in flight, ordered by arrival.
struct SimulatedLink {
    conditions: LinkConditions,
    rng: Rng,
    in_flight: BinaryHeap<Reverse<(Instant, u64, SimulatedPacket)>>,
    serial: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Clone)]
enum SimulatedPacket {
    ToServer(Vec<u8>),
    ToClient(Vec<u8>),
}

impl SimulatedLink {
    fn send(&mut self, packet: &SimulatedPacket, now: Instant) {
        let copies = 1 + u64::from(self.rng.below(1000) < self.conditions.duplication);
        for _ in 0..copies {
            if self.rng.below(1000) >= self.conditions.loss {
                let arrives_at = now + ms(1 + self.rng.below(self.conditions.jitter_ms + 1));
                self.serial += 1;
                self.in_flight.push(Reverse((arrives_at, self.serial, packet.clone())));
            }
        }
    }

    fn receive(&mut self, now: Instant) -> Option<SimulatedPacket> {
        let Reverse((arrives_at, ..)) = self.in_flight.peek()?;
        if *arrives_at > now {
            return None;
        }
        self.in_flight.pop().map(|Reverse((_, _, packet))| packet)
    }
}

/// Runs a transfer. Returns the server afterwards, whether every byte arrived, and the number of datagrams it took.
fn run_transfer(
    seed: u64,
    conditions: LinkConditions,
    size: usize,
    block_size: usize,
    window_size: u16,
) -> (TestServer, bool, usize) {
    let mut link = SimulatedLink { conditions, rng: Rng(seed), in_flight: BinaryHeap::new(), serial: 0 };
    let mut server = TestServer::new(pattern(size));
    let deadline = server.now + ms(900_000);
    let request = match window_size {
        1 => read_request(&format!("blksize {block_size}")),
        _ => read_request(&format!("blksize {block_size} windowsize {window_size}")),
    };
    let mut reader = SimulatedClient::new(request.clone(), block_size, window_size, server.now);
    let mut datagram_count = 0;
    while !(reader.is_done && server.table.is_empty()) && server.now < deadline {
        let retransmit_at = (!reader.is_done).then_some(reader.retransmit_at);
        let arrives_at = link.in_flight.peek().map(|Reverse((at, ..))| *at);
        let times = [retransmit_at, arrives_at, server.table.deadline()];
        let Some(next) = times.into_iter().flatten().min() else { break };
        server.now = server.now.max(next);
        let now = server.now;
        if retransmit_at.is_some_and(|at| at <= now) {
            let packet = reader.send(reader.last_packet.clone(), now);
            link.send(&SimulatedPacket::ToServer(packet), now);
        }
        let mut datagrams = Vec::new();
        while server.table.tick(now, &mut server.transmit).is_some() {
            datagrams.extend(server.datagrams());
        }
        while let Some(packet) = link.receive(now) {
            match packet {
                SimulatedPacket::ToServer(packet) if packet == request => {
                    datagrams.extend(server.send_request(client(1), &packet));
                }
                SimulatedPacket::ToServer(packet) => {
                    datagrams.extend(server.send_packet(client(1), &packet));
                }
                SimulatedPacket::ToClient(packet) => {
                    if let Some(response) = reader.receive(&packet, now) {
                        link.send(&SimulatedPacket::ToServer(response), now);
                    }
                }
            }
        }
        datagram_count += datagrams.len();
        for datagram in datagrams {
            link.send(&SimulatedPacket::ToClient(datagram), now);
        }
    }
    let is_complete = reader.content == pattern(size);
    (server, is_complete, datagram_count)
}

/// Runs `count` transfers of random size, block size and window size; each must arrive complete and end well. Returns
/// the necessary share of the datagrams, in percent.
fn run_many(conditions: LinkConditions, window_sizes: &[u16], count: u64) -> usize {
    let (mut necessary, mut total) = (0, 0);
    for seed in 0..count {
        let mut rng = Rng(seed ^ 0x5eed);
        let block_size = 8 + rng.below(1460) as usize;
        let window_size = window_sizes[rng.below(window_sizes.len() as u64) as usize];
        let full_blocks = rng.below(60) as usize * block_size;
        let size = full_blocks + rng.below(2) as usize * rng.below(block_size as u64) as usize;
        let (server, is_complete, datagram_count) =
            run_transfer(seed, conditions, size, block_size, window_size);
        let outcomes = server.outcomes();
        assert!(is_complete, "seed {seed}, {conditions:?}: {outcomes:?}");
        // A late duplicate of the request may start a transfer without a reader; the first transfer has ended well.
        let ended_well = matches!(outcomes.first(), Some(TransferEnd::Complete | TransferEnd::Unconfirmed));
        assert!(ended_well && server.table.is_empty(), "seed {seed}, {conditions:?}: {outcomes:?}");
        necessary += size / block_size + 2;
        total += datagram_count;
    }
    necessary * 100 / total
}

const LOCKSTEP: [u16; 1] = [1];
const WINDOWS: [u16; 4] = [2, 4, 8, 16];
const ANY_WINDOW: [u16; 6] = [1, 1, 2, 4, 8, 16];

#[test]
fn a_clean_link_carries_no_retransmission() {
    assert_eq!(run_many(LinkConditions::default(), &ANY_WINDOW, 500), 100);
}

#[test]
fn every_byte_arrives_despite_packet_loss() {
    for loss in [5, 20, 100] {
        run_many(LinkConditions { loss, ..LinkConditions::default() }, &ANY_WINDOW, 300);
    }
}

#[test]
fn every_byte_arrives_despite_delay_and_reordering() {
    for jitter_ms in [1, 5, 50] {
        run_many(LinkConditions { jitter_ms, ..LinkConditions::default() }, &ANY_WINDOW, 300);
    }
}

#[test]
fn with_every_packet_duplicated_lockstep_retransmits_nothing() {
    for jitter_ms in [0, 10] {
        let conditions = LinkConditions { duplication: 1000, jitter_ms, ..LinkConditions::default() };
        // A duplicate of the request gets a second response.
        assert!(run_many(conditions, &LOCKSTEP, 300) >= 95);
    }
}

#[test]
fn with_every_packet_duplicated_windows_send_each_block_at_most_twice() {
    let conditions = LinkConditions { duplication: 1000, ..LinkConditions::default() };
    for window_size in WINDOWS {
        for blocks in [40, 4000] {
            let (_, is_complete, datagram_count) = run_transfer(1, conditions, blocks * 8, 8, window_size);
            let few = datagram_count <= blocks * 2 + 10;
            assert!(is_complete && few, "window size {window_size}: {datagram_count} for {blocks}");
        }
    }
}

#[test]
fn every_byte_arrives_despite_loss_duplication_and_jitter_together() {
    run_many(LinkConditions { loss: 100, duplication: 100, jitter_ms: 20 }, &ANY_WINDOW, 500);
}

#[test]
fn with_windows_a_lost_block_costs_a_round_trip_and_not_a_timeout() {
    let conditions = LinkConditions { loss: 20, ..LinkConditions::default() };
    let mut durations: Vec<_> = (0..100)
        .map(|seed| {
            let (server, is_complete, _) = run_transfer(seed, conditions, 1 << 20, 1432, 16);
            assert!(is_complete, "seed {seed}");
            server.events()[0].duration
        })
        .collect();
    durations.sort();
    // 46 windows of 2 ms each, some 15 losses: most cost a round trip, only the end of a window a time-out.
    assert!(durations[50] < ms(1500), "{:?}", durations[50]);
}
