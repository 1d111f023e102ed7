//! What must hold whatever comes: single packets, and whole courses of what clients, the network and enemies may do.
//!
//! Judged here, made elsewhere: by proptest in every test run (`random`), by a fuzzer that is led by coverage in CI
//! (`tests/fuzz`, which compiles this module with `--cfg fuzzing`).

use super::*;

const FILE: usize = 4000;

/// One step of a course.
#[derive(Debug, Clone)]
pub(crate) enum Happens {
    Request(u16, Vec<u8>),
    Packet(u16, Vec<u8>),
    Ack(u16, u16),
    Passes(u64),
}

/// A request and an answer of any content is answered with a window at most.
pub(crate) fn judge_packet(packet: &[u8], mtu: Option<u16>) {
    let mut server = Server::new(pattern(FILE));
    server.mtu = mtu.map(u32::from);
    let answer = server.request(client(1), packet);
    assert!(answer.len() <= 1, "{answer:?}");
    let answer = server.receive(client(1), packet);
    assert!(answer.len() <= 64, "{answer:?}");
}

/// Every block that leaves is one of the file's, and in the end nothing is left.
pub(crate) fn judge_course(course: impl IntoIterator<Item = Happens>) {
    let limits = Limits { window: 64, ..Limits::default() };
    let file = pattern(FILE);
    let mut server = Server::with_limits(file.clone(), limits);
    for happens in course {
        let sent: Vec<_> = match happens {
            Happens::Request(number, packet) => server.request(client(number), &packet),
            Happens::Packet(number, packet) => server.receive(client(number), &packet),
            Happens::Ack(number, block) => server.ack(client(number), block),
            Happens::Passes(millis) => {
                server.pass(ms(millis)).into_iter().flat_map(|(_, sent)| sent).collect()
            }
        };
        for datagram in &sent {
            assert!(datagram.len() <= 1472 && datagram.len() >= 4);
            if let [0, 3, high, low, data @ ..] = datagram.as_slice() {
                assert!(u16::from_be_bytes([*high, *low]) > 0, "a file this short never wraps");
                assert!(data.is_empty() || file.windows(data.len()).any(|part| part == data));
            }
        }
    }
    server.pass(ms(700_000));
    assert!(server.table.is_empty());
    assert!(server.table.deadline().is_none());
}

/// A packet as a fuzzer writes it: two bytes for the MTU, then the packet.
#[cfg(fuzzing)]
pub(crate) fn fuzz_packet(bytes: &[u8]) {
    let Some((mtu, packet)) = bytes.split_first_chunk() else { return };
    judge_packet(packet, Some(u16::from_be_bytes(*mtu)).filter(|mtu| *mtu > 0));
}

/// A course as a fuzzer writes it, step by step: what, who, and what that needs.
#[cfg(fuzzing)]
pub(crate) fn fuzz_course(bytes: &[u8]) {
    let mut rest = bytes;
    judge_course(std::iter::from_fn(|| {
        let ([what, argument], after) = rest.split_first_chunk()?;
        let (number, kind) = (u16::from(what / 8 % 3), what % 8);
        rest = after;
        let mut packet = || {
            let (packet, after) = rest.split_at(rest.len().min(usize::from(*argument)));
            rest = after;
            packet.to_vec()
        };
        Some(match kind {
            0 => Happens::Request(number, packet()),
            1 => Happens::Packet(number, packet()),
            2 => {
                let options = format!("blksize 64 tsize 0 windowsize {}", argument % 70 + 1);
                Happens::Request(number, read(&options))
            }
            3 => Happens::Passes(u64::from(*argument) * 12),
            _ => Happens::Ack(number, u16::from(*argument)),
        })
    }));
}
