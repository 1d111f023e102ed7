//! Invariants of the protocol for any packet and any sequence of packets and pauses.
//!
//! The inputs come from proptest in every test run (`properties`) and from a coverage-guided fuzzer in CI
//! (`tests/fuzz`, which compiles this module with `--cfg fuzzing`).

use super::*;

const FILE_SIZE: usize = 4000;

/// A step of a sequence: client number and input, or milliseconds.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Request(u16, Vec<u8>),
    Packet(u16, Vec<u8>),
    Ack(u16, u16),
    Wait(u64),
}

/// Checks that a request and a packet of any content get at most a window as response.
pub(crate) fn check_packet(packet: &[u8], mtu: Option<u16>) {
    let mut server = TestServer::new(pattern(FILE_SIZE));
    server.mtu = mtu.map(u32::from);
    let response = server.send_request(client(1), packet);
    assert!(response.len() <= 1, "{response:?}");
    let response = server.send_packet(client(1), packet);
    assert!(response.len() <= 64, "{response:?}");
}

/// Checks that every block belongs to the file, and that no transfer remains in the end.
pub(crate) fn check_sequence(sequence: impl IntoIterator<Item = Action>) {
    let limits = TransferLimits { window_size: 64, ..TransferLimits::default() };
    let file = pattern(FILE_SIZE);
    let mut server = TestServer::with_limits(file.clone(), limits);
    for action in sequence {
        let datagrams: Vec<_> = match action {
            Action::Request(number, packet) => server.send_request(client(number), &packet),
            Action::Packet(number, packet) => server.send_packet(client(number), &packet),
            Action::Ack(number, block) => server.send_ack(client(number), block),
            Action::Wait(millis) => {
                server.advance(ms(millis)).into_iter().flat_map(|(_, burst)| burst).collect()
            }
        };
        for datagram in &datagrams {
            assert!(datagram.len() <= 1472 && datagram.len() >= 4);
            if let [0, 3, high, low, data @ ..] = datagram.as_slice() {
                assert!(
                    u16::from_be_bytes([*high, *low]) > 0,
                    "the numbers of a file this short do not wrap"
                );
                assert!(data.is_empty() || file.windows(data.len()).any(|part| part == data));
            }
        }
    }
    server.advance(ms(700_000));
    assert!(server.table.is_empty());
    assert!(server.table.deadline().is_none());
}

/// Checks a packet in the fuzzer's encoding: two bytes for the MTU, then the packet.
#[cfg(fuzzing)]
pub(crate) fn fuzz_packet(bytes: &[u8]) {
    let Some((mtu, packet)) = bytes.split_first_chunk() else { return };
    check_packet(packet, Some(u16::from_be_bytes(*mtu)).filter(|mtu| *mtu > 0));
}

/// Checks a sequence in the fuzzer's encoding. Each step has a byte for action and client, and an argument byte.
#[cfg(fuzzing)]
pub(crate) fn fuzz_sequence(bytes: &[u8]) {
    let mut rest = bytes;
    check_sequence(std::iter::from_fn(|| {
        let ([selector, argument], tail) = rest.split_first_chunk()?;
        let (number, kind) = (u16::from(selector / 8 % 3), selector % 8);
        rest = tail;
        let mut packet = || {
            let (packet, tail) = rest.split_at(rest.len().min(usize::from(*argument)));
            rest = tail;
            packet.to_vec()
        };
        Some(match kind {
            0 => Action::Request(number, packet()),
            1 => Action::Packet(number, packet()),
            2 => {
                let options = format!("blksize 64 tsize 0 windowsize {}", argument % 70 + 1);
                Action::Request(number, read_request(&options))
            }
            3 => Action::Wait(u64::from(*argument) * 12),
            _ => Action::Ack(number, u16::from(*argument)),
        })
    }));
}
