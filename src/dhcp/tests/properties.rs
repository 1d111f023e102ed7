//! Property tests: any bytes get an answer only within the invariants of [`super::check`].

use std::cell::Cell;

use proptest::prelude::*;

use super::check::{check_datagram, check_input};
use super::*;

/// Options that often matter, and any others.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        4 => (1_u8..9).prop_map(|code| vec![53, 1, code]),
        4 => (0_u16..50).prop_map(|code| vec![93, 2, (code >> 8) as u8, code as u8]),
        4 => prop_oneof![Just("PXEClient"), Just("HTTPClient"), Just("PXEClient:Arch:00007"), Just("MSFT 5.0")]
            .prop_map(|class| [&[60, class.len() as u8], class.as_bytes()].concat()),
        2 => Just([vec![97, 17], GUID.to_vec()].concat()),
        1 => Just(vec![0]),
        1 => Just(vec![255]),
        3 => (any::<u8>(), prop::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(code, value)| [vec![code, value.len() as u8], value].concat()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    let start = prop_oneof![
        3 => prop_oneof![Just(1_u8), Just(3), Just(8)].prop_map(|code| {
            [&[53, 1, code, 60, 9][..], b"PXEClient"].concat()
        }),
        1 => Just(Vec::new()),
    ];
    (start, prop::collection::vec(option, 0..14))
        .prop_map(|(start, options)| [vec![start], options].concat().concat())
}

/// A header that is mostly right, with any relay.
fn datagrams() -> impl Strategy<Value = Vec<u8>> {
    let relay = prop_oneof![Just([0; 4]), Just(RELAY.octets()), any::<[u8; 4]>()];
    let header =
        (prop_oneof![9 => Just(1_u8), 1 => any::<u8>()], prop_oneof![9 => Just(6_u8), 1 => any::<u8>()]);
    (header, relay, options(), 0_usize..600).prop_map(|((op, length), relay, options, padding)| {
        let packet = Packet::discover("", 0).with_head(0, &[op]).with_head(2, &[length]);
        Packet { options, padding, ..packet.with_head(24, &relay) }.bytes()
    })
}

#[test]
fn no_answer_breaks_an_invariant() {
    let answers = Cell::new(0_u32);
    proptest!(ProptestConfig::with_cases(4000), |(choice in 0_u8..32, length in 0_u8..=255, bytes in datagrams())| {
        let is_answered = check_input(&[&[choice, length], bytes.as_slice()].concat());
        answers.set(answers.get() + u32::from(is_answered));
    });
    assert!(answers.get() > 100, "only {} answers: the inputs are useless", answers.get());
}

#[test]
fn any_bytes_are_harmless() {
    proptest!(|(bytes in prop::collection::vec(any::<u8>(), 0..700))| {
        check_input(&bytes);
    });
}

#[test]
fn every_truncation_of_a_request_is_harmless() {
    let packet = Packet { padding: 0, ..Packet::discover("PXEClient", 7) };
    let bytes = packet.with(97, &GUID).with_ipxe(&[17, 19]).bytes();
    for length in 0..bytes.len() {
        check_datagram(&broadcast(&bytes[..length]), "snponly.efi");
    }
}
