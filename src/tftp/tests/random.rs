//! Whatever bytes come, at whatever time: no panic, no runaway. Inputs at random, a few hundred in each run; what fails is
//! shrunk.

use proptest::prelude::*;

use super::course::{Happens, judge_course, judge_packet};
use super::*;

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
    proptest!(|(packet in packets(), mtu in any::<Option<u16>>())| judge_packet(&packet, mtu));
}

#[test]
fn no_course_of_things_leads_a_transfer_out_of_its_window_or_keeps_it_for_ever() {
    proptest!(|(course in happenings())| judge_course(course));
}
