//! Commands in the full feature phase, messages of the target, the logout.

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::proptest;

use super::check::check_input;
use super::target::ScriptedTarget;
use crate::iscsi::Error;
use crate::iscsi::pdu::{NO_TAG, Pdu, opcode};
use crate::iscsi::scsi::ScsiCommand;

const READ: ScsiCommand = ScsiCommand::Read { block: 0, count: 2, block_size: 512 };

fn data_in(tag: u32, offset: u32, flags: u8, length: usize) -> Pdu {
    Pdu::new(opcode::DATA_IN, flags, vec![0xa5; length]).with_number(16, tag).with_number(40, offset)
}

#[test]
fn data_is_put_together_and_ends_with_a_status() {
    let mut target = ScriptedTarget::logged_in();
    target.initiator.start([0, 1, 0, 0, 0, 0, 0, 0], &READ).expect("started");
    let request = target.request();
    assert_eq!((request.flags(), request.number(20), request.byte(9)), (0xc1, 1024, 1));
    assert_eq!((request.number(24), request.number(28)), (1, 102), "command and status number");
    target.send(data_in(request.tag(), 0, 0x00, 512)).expect("data");
    assert!(target.initiator.take_completion().is_none());
    target.send(data_in(request.tag(), 512, 0x81, 512)).expect("data");
    let completion = target.completion();
    assert_eq!((completion.status, completion.data.len()), (0, 1024));
    target.initiator.start([0; 8], &READ).expect("started");
    assert_eq!(target.request().number(24), 2, "the next command number");
}

#[test]
fn sense_data_comes_with_the_response() {
    let mut target = ScriptedTarget::logged_in();
    target.initiator.start([0; 8], &ScsiCommand::TestUnitReady).expect("started");
    let tag = target.request().tag();
    let sense = [0, 4, 0x70, 0, 6, 0];
    let response = Pdu::new(opcode::SCSI_RESPONSE, 0x80, sense.to_vec()).with_number(16, tag).with(3, &[2]);
    target.send(response).expect("a response");
    assert_eq!(target.completion().sense, [0x70, 0, 6, 0]);
}

#[test]
fn a_ping_is_answered_and_a_closed_window_holds_commands_back() {
    let mut target = ScriptedTarget::logged_in();
    let ping = Pdu::new(opcode::NOP_IN, 0x80, b"ping".to_vec()).with_number(16, NO_TAG).with_number(20, 7);
    target.send(ping).expect("a ping");
    let reply = target.request();
    assert_eq!(
        (reply.opcode(), reply.tag(), reply.number(20), reply.data()),
        (opcode::NOP_OUT, NO_TAG, 7, &b"ping"[..])
    );

    let window = |max| {
        let update =
            Pdu::new(opcode::NOP_IN, 0x80, Vec::new()).with_number(16, NO_TAG).with_number(20, NO_TAG);
        update.with_number(24, 1).with_number(28, 1).with_number(32, max).encode()
    };
    target.initiator.receive(&window(0)).expect("a window");
    target.initiator.start([0; 8], &READ).expect("started");
    assert_eq!(target.requests(), []);
    target.initiator.receive(&window(1)).expect("a window");
    assert_eq!(target.request().opcode(), opcode::SCSI_COMMAND);
}

#[test]
fn the_logout_ends_a_command() {
    let mut target = ScriptedTarget::logged_in();
    target.initiator.start([0; 8], &READ).expect("started");
    let tag = target.request().tag();
    target.initiator.log_out();
    let logout = target.request();
    assert_eq!((logout.byte(0), logout.flags()), (0x46, 0x80));
    target.send(data_in(tag, 0, 0x81, 512)).expect("late data");
    target
        .send(Pdu::new(opcode::LOGOUT_RESPONSE, 0x80, Vec::new()).with_number(16, logout.tag()))
        .expect("logged out");
    assert!(target.initiator.is_logged_out());
}

#[test]
fn messages_that_break_the_protocol_are_errors() {
    let bad: [fn(u32) -> Pdu; 8] = [
        |tag| data_in(tag, 512, 0x00, 512),
        |tag| data_in(tag, 0, 0x00, 1025),
        |tag| data_in(tag + 1, 0, 0x00, 512),
        |tag| Pdu::new(opcode::SCSI_RESPONSE, 0x80, Vec::new()).with_number(16, tag + 1),
        |tag| Pdu::new(opcode::SCSI_RESPONSE, 0x80, Vec::new()).with_number(16, tag).with(2, &[1]),
        |_| Pdu::new(opcode::REJECT, 0x80, Vec::new()),
        |_| Pdu::new(opcode::LOGIN_RESPONSE, 0x80, Vec::new()),
        |_| Pdu::new(opcode::ASYNC_MESSAGE, 0x80, Vec::new()).with(36, &[2]),
    ];
    for (at, make) in bad.iter().enumerate() {
        let mut target = ScriptedTarget::logged_in();
        target.initiator.start([0; 8], &READ).expect("started");
        let tag = target.request().tag();
        assert!(target.send(make(tag)).is_err(), "message {at}");
    }
    let mut long = Pdu::new(opcode::DATA_IN, 0x80, Vec::new()).encode();
    long[5..8].copy_from_slice(&[1, 0, 1]);
    let mut target = ScriptedTarget::logged_in();
    assert!(matches!(target.initiator.receive(&long), Err(Error::Protocol(_))));
}

proptest! {
    #[test]
    fn any_bytes_of_a_target_keep_the_invariants(input in vec(any::<u8>(), 0..300)) {
        check_input(&input);
    }
}
