//! Whatever bytes come, at whatever time: no panic, no runaway.
//!
//! Two targets: single packets, and whole transfers made of steps a client, a network or an enemy might take. A fuzzer
//! that is led by coverage would have to stand outside the crate, and what is worth fuzzing is private to it; so
//! proptest makes the inputs, shrinks what fails, and is told how long to look: `VOLBOOT_FUZZ_SECONDS` for each target,
//! one second if unset.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// Runs a target until the time is over.
fn fuzz<S: Strategy>(inputs: &S, target: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let seconds = std::env::var("VOLBOOT_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let config = Config { cases: 256, failure_persistence: None, ..Config::default() };
        if let Err(failure) = TestRunner::new(config).run(inputs, &target) {
            panic!("{failure}");
        }
    }
}

/// Bytes that are often nearly a packet.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        Just(b"file".to_vec()),
        Just(b"octet".to_vec()),
        Just(b"blksize".to_vec()),
        Just(b"windowsize".to_vec()),
        Just(b"timeout".to_vec()),
        Just(b"tsize".to_vec()),
        any::<u32>().prop_map(|number| number.to_string().into_bytes()),
        (0_u16..100).prop_map(|number| number.to_string().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    let fields = prop::collection::vec(field, 0..12).prop_map(|fields| fields.join(&0));
    prop_oneof![
        (1_u8..3, fields).prop_map(|(opcode, fields)| [vec![0, opcode], fields, vec![0]].concat()),
        (0_u16..40).prop_map(ack),
        any::<u16>().prop_map(ack),
        prop::collection::vec(any::<u8>(), 0..600),
    ]
}

#[derive(Debug, Clone)]
enum Happens {
    Request(u16, Vec<u8>),
    Packet(u16, Vec<u8>),
    Ack(u16, u16),
    Passes(u64),
}

fn happenings() -> impl Strategy<Value = Vec<Happens>> {
    let one = prop_oneof![
        (0_u16..3, packets()).prop_map(|(client, packet)| Happens::Request(client, packet)),
        (0_u16..3, 1_u16..70).prop_map(|(client, window)| Happens::Request(
            client,
            read(&format!("blksize 64 tsize 0 windowsize {window}"))
        )),
        (0_u16..3, packets()).prop_map(|(client, packet)| Happens::Packet(client, packet)),
        (0_u16..3, 0_u16..80).prop_map(|(client, block)| Happens::Ack(client, block)),
        (0_u64..3000).prop_map(Happens::Passes),
    ];
    prop::collection::vec(one, 0..80)
}

#[test]
fn no_packet_whatever_it_holds_is_answered_with_more_than_a_window() {
    fuzz(&(packets(), any::<Option<u16>>()), |(packet, mtu)| {
        let mut server = Server::new(pattern(5000));
        server.mtu = mtu.map(u32::from);
        let answer = server.request(client(1), &packet);
        prop_assert!(answer.len() <= 1, "{answer:?}");
        let answer = server.receive(client(1), &packet);
        prop_assert!(answer.len() <= 64, "{answer:?}");
        Ok(())
    });
}

#[test]
fn no_course_of_things_leads_a_transfer_out_of_its_window_or_keeps_it_for_ever() {
    fuzz(&happenings(), |course| {
        let limits = Limits { window: 64, ..Limits::default() };
        let mut server = Server::with_limits(pattern(4000), limits);
        for happens in course {
            let sent = match happens {
                Happens::Request(number, packet) => server.request(client(number), &packet),
                Happens::Packet(number, packet) => server.receive(client(number), &packet),
                Happens::Ack(number, block) => server.ack(client(number), block),
                Happens::Passes(millis) => {
                    server.pass(ms(millis)).into_iter().flat_map(|(_, sent)| sent).collect()
                }
            };
            for datagram in &sent {
                prop_assert!(datagram.len() <= 1472 && datagram.len() >= 4);
                if let [0, 3, high, low, data @ ..] = datagram.as_slice() {
                    prop_assert!(u16::from_be_bytes([*high, *low]) > 0, "a file this short never wraps");
                    prop_assert!(
                        pattern(4000).windows(data.len().max(1)).any(|part| part == data) || data.is_empty()
                    );
                }
            }
        }
        server.pass(ms(700_000));
        prop_assert!(server.table.is_empty());
        prop_assert!(server.table.deadline().is_none());
        Ok(())
    });
}
