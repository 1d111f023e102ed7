//! Property tests: any bytes at any time neither panic nor cause endless retransmission.
//!
//! Each run tries a few hundred random inputs and shrinks a failure.

use proptest::prelude::*;

use super::sequence::{Action, check_packet, check_sequence};
use super::*;

/// Bytes that often resemble a packet.
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
        (0_u16..40).prop_map(ack_packet),
        any::<u16>().prop_map(ack_packet),
        prop::collection::vec(any::<u8>(), 0..600),
    ]
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        (0_u16..3, packets()).prop_map(|(client, packet)| Action::Request(client, packet)),
        (0_u16..3, 1_u16..70).prop_map(|(client, window)| Action::Request(
            client,
            read_request(&format!("blksize 64 tsize 0 windowsize {window}"))
        )),
        (0_u16..3, packets()).prop_map(|(client, packet)| Action::Packet(client, packet)),
        (0_u16..3, 0_u16..80).prop_map(|(client, block)| Action::Ack(client, block)),
        (0_u64..3000).prop_map(Action::Wait),
    ];
    prop::collection::vec(action, 0..80)
}

#[test]
fn no_packet_gets_a_response_larger_than_a_window() {
    proptest!(|(packet in packets(), mtu in any::<Option<u16>>())| check_packet(&packet, mtu));
}

#[test]
fn no_sequence_breaks_the_window_or_keeps_a_transfer_forever() {
    proptest!(|(sequence in actions())| check_sequence(sequence));
}
