//! Whole transfers over lines that lose, delay, double and reorder, at random from a seed.
//!
//! Both ends live under the virtual clock, so a transfer of minutes takes microseconds. What is asserted is what matters:
//! the bytes arrive, the end is clean, and nothing is sent out of proportion to what was lost.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

/// What a line does to packets; shares of 1000.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    lost: u64,
    doubled: u64,
    /// Each packet takes 1 ms and up to this much more, so later ones may overtake.
    jitter_ms: u64,
}

/// splitmix64: the same seed, the same line.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Answers like EDK2: every block that came out of order gets the ACK of the last in order.
struct Reader {
    block: usize,
    window: u16,
    got: Vec<u8>,
    count: u16,
    since_ack: u16,
    word: Vec<u8>,
    say_again_at: Instant,
    done: bool,
}

impl Reader {
    fn new(request: Vec<u8>, block: usize, window: u16, now: Instant) -> Self {
        let got = Vec::new();
        Self { word: request, block, window, got, count: 0, since_ack: 0, say_again_at: now, done: false }
    }

    fn hear(&mut self, packet: &[u8], now: Instant) -> Option<Vec<u8>> {
        match packet {
            [0, 6, ..] if self.count == 0 => Some(self.say(ack(0), now)),
            [0, 3, high, low, data @ ..] => {
                let number = u16::from_be_bytes([*high, *low]);
                if number != self.count.wrapping_add(1) || self.done {
                    self.since_ack = 0;
                    return (self.window > 1 || number == self.count).then(|| ack(self.count));
                }
                self.count = number;
                self.got.extend_from_slice(data);
                self.since_ack += 1;
                self.done = data.len() < self.block;
                if self.done || self.since_ack == self.window {
                    self.since_ack = 0;
                    return Some(self.say(ack(number), now));
                }
                None
            }
            _ => None,
        }
    }

    fn say(&mut self, word: Vec<u8>, now: Instant) -> Vec<u8> {
        self.word.clone_from(&word);
        self.say_again_at = now + ms(1500);
        word
    }
}

/// Packets on their way, soonest first.
struct Air {
    line: Line,
    dice: Dice,
    flying: BinaryHeap<Reverse<(Instant, u64, Packet)>>,
    serial: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Clone)]
enum Packet {
    ToServer(Vec<u8>),
    ToReader(Vec<u8>),
}

impl Air {
    fn throw(&mut self, packet: &Packet, now: Instant) {
        let copies = 1 + u64::from(self.dice.below(1000) < self.line.doubled);
        for _ in 0..copies {
            if self.dice.below(1000) >= self.line.lost {
                let arrives = now + ms(1 + self.dice.below(self.line.jitter_ms + 1));
                self.serial += 1;
                self.flying.push(Reverse((arrives, self.serial, packet.clone())));
            }
        }
    }

    fn land(&mut self, now: Instant) -> Option<Packet> {
        let Reverse((arrives, ..)) = self.flying.peek()?;
        if *arrives > now {
            return None;
        }
        self.flying.pop().map(|Reverse((_, _, packet))| packet)
    }
}

/// One transfer over one line: the server afterwards, whether all bytes arrived, and how many datagrams it took.
fn cross(seed: u64, line: Line, size: usize, block: usize, window: u16) -> (Server, bool, usize) {
    let mut air = Air { line, dice: Dice(seed), flying: BinaryHeap::new(), serial: 0 };
    let mut server = Server::new(pattern(size));
    let give_up = server.now + ms(900_000);
    let request = match window {
        1 => read(&format!("blksize {block}")),
        _ => read(&format!("blksize {block} windowsize {window}")),
    };
    let mut reader = Reader::new(request.clone(), block, window, server.now);
    let mut sent = 0;
    while !(reader.done && server.table.is_empty()) && server.now < give_up {
        let say_again_at = (!reader.done).then_some(reader.say_again_at);
        let arrives = air.flying.peek().map(|Reverse((at, ..))| *at);
        let Some(next) = [say_again_at, arrives, server.table.deadline()].into_iter().flatten().min() else {
            break;
        };
        server.now = server.now.max(next);
        let now = server.now;
        if say_again_at.is_some_and(|at| at <= now) {
            let word = reader.say(reader.word.clone(), now);
            air.throw(&Packet::ToServer(word), now);
        }
        let mut datagrams = Vec::new();
        while server.table.tick(now, &mut server.parcel) {
            datagrams.extend(server.sent());
        }
        while let Some(packet) = air.land(now) {
            match packet {
                Packet::ToServer(packet) if packet == request => {
                    datagrams.extend(server.request(client(1), &packet));
                }
                Packet::ToServer(packet) => datagrams.extend(server.receive(client(1), &packet)),
                Packet::ToReader(packet) => {
                    if let Some(word) = reader.hear(&packet, now) {
                        air.throw(&Packet::ToServer(word), now);
                    }
                }
            }
        }
        sent += datagrams.len();
        for datagram in datagrams {
            air.throw(&Packet::ToReader(datagram), now);
        }
    }
    let arrived = reader.got == pattern(size);
    (server, arrived, sent)
}

/// `count` transfers of random size, block and window; each must arrive and end well. How much of what was
/// sent was needed, in percent.
fn cross_many(line: Line, windows: &[u16], count: u64) -> usize {
    let (mut needed, mut sent) = (0, 0);
    for seed in 0..count {
        let mut dice = Dice(seed ^ 0x5eed);
        let block = 8 + dice.below(1460) as usize;
        let window = windows[dice.below(windows.len() as u64) as usize];
        let size =
            dice.below(60) as usize * block + dice.below(2) as usize * dice.below(block as u64) as usize;
        let (server, arrived, datagrams) = cross(seed, line, size, block, window);
        let outcomes = server.outcomes();
        assert!(arrived, "seed {seed}, {line:?}: {outcomes:?}");
        // A request that arrives late a second time may open a transfer nobody reads; the first has ended well.
        let ended_well = matches!(outcomes.first(), Some(Outcome::Complete | Outcome::Unconfirmed));
        assert!(ended_well && server.table.is_empty(), "seed {seed}, {line:?}: {outcomes:?}");
        needed += size / block + 2;
        sent += datagrams;
    }
    needed * 100 / sent
}

const LOCKSTEP: [u16; 1] = [1];
const WINDOWS: [u16; 4] = [2, 4, 8, 16];
const ANY: [u16; 6] = [1, 1, 2, 4, 8, 16];

#[test]
fn a_clean_line_carries_nothing_twice() {
    assert_eq!(cross_many(Line::default(), &ANY, 500), 100);
}

#[test]
fn every_byte_arrives_where_packets_are_lost() {
    for lost in [5, 20, 100] {
        cross_many(Line { lost, ..Line::default() }, &ANY, 300);
    }
}

#[test]
fn every_byte_arrives_where_packets_are_late_and_overtake_each_other() {
    for jitter_ms in [1, 5, 50] {
        cross_many(Line { jitter_ms, ..Line::default() }, &ANY, 300);
    }
}

#[test]
fn where_every_packet_comes_twice_lockstep_sends_nothing_twice() {
    for jitter_ms in [0, 10] {
        let line = Line { doubled: 1000, jitter_ms, ..Line::default() };
        // A request that comes twice is answered twice.
        assert!(cross_many(line, &LOCKSTEP, 300) >= 95);
    }
}

#[test]
fn where_every_packet_comes_twice_windows_send_each_block_twice_and_no_more() {
    let line = Line { doubled: 1000, ..Line::default() };
    for window in WINDOWS {
        for blocks in [40, 4000] {
            let (_, arrived, sent) = cross(1, line, blocks * 8, 8, window);
            assert!(arrived && sent <= blocks * 2 + 10, "window {window}: {sent} for {blocks}");
        }
    }
}

#[test]
fn every_byte_arrives_where_all_of_it_happens_at_once() {
    cross_many(Line { lost: 100, doubled: 100, jitter_ms: 20 }, &ANY, 500);
}

#[test]
fn a_lost_block_costs_a_round_trip_and_not_a_timeout_in_window_mode() {
    let line = Line { lost: 20, ..Line::default() };
    let mut times: Vec<_> = (0..100)
        .map(|seed| {
            let (server, arrived, _) = cross(seed, line, 1 << 20, 1432, 16);
            assert!(arrived, "seed {seed}");
            server.events()[0].took
        })
        .collect();
    times.sort();
    // 46 windows of 2 ms each, some 15 losses: most cost a round trip, only the end of a window a time-out.
    assert!(times[50] < ms(1500), "{:?}", times[50]);
}
