//! [`check_input`]: the invariants of a session for any bytes of a target, for property tests and for the fuzz target.

use super::{ISID, parameters};
use crate::iscsi::initiator::Initiator;
use crate::iscsi::pdu::{Decoder, HEADER, Pdu, opcode};
use crate::iscsi::scsi::ScsiCommand;

/// Requests of an initiator that only reads.
const REQUESTS: [u8; 4] =
    [opcode::LOGIN_REQUEST, opcode::SCSI_COMMAND, opcode::LOGOUT_REQUEST, opcode::NOP_OUT];
/// Operation codes of the commands.
const COMMANDS: [u8; 7] = [0x00, 0x12, 0x25, 0x9e, 0x1a, 0x28, 0x88];

/// The first byte chooses whether the login is done, and the size of the reads; the others are the target's bytes.
pub(crate) fn check_input(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    let mut initiator = Initiator::new(parameters(), ISID);
    check_requests(&initiator.take_output());
    if choice & 1 == 1 {
        // Into the full feature phase at once (§11.13.3: T, CSG 0, NSG 3).
        let response =
            Pdu::new(opcode::LOGIN_RESPONSE, 0x83, Vec::new()).with_number(28, 1).with_number(32, 64);
        assert!(initiator.receive(&response.encode()).is_ok() && initiator.is_logged_in());
    }
    let command = ScsiCommand::Read { block: 7, count: 8, block_size: 512 };
    for chunk in bytes.chunks(usize::from(choice >> 1) + 1) {
        if initiator.is_logged_in() {
            let _ = initiator.start([0; 8], &command);
        }
        let result = initiator.receive(chunk);
        check_requests(&initiator.take_output());
        if let Some(completion) = initiator.take_completion() {
            assert!(completion.data.len() <= command.data_length() as usize);
        }
        if result.is_err() {
            break;
        }
    }
    initiator.log_out();
    check_requests(&initiator.take_output());
}

/// Each request reads.
fn check_requests(output: &[u8]) {
    assert!(output.len() < 1 << 20, "{} bytes at once", output.len());
    let mut decoder = Decoder::default();
    decoder.push(output);
    while let Some(pdu) = decoder.next().expect("a request that fits") {
        assert!(REQUESTS.contains(&pdu.opcode()), "opcode {}", pdu.opcode());
        if pdu.opcode() == opcode::SCSI_COMMAND {
            assert_eq!(pdu.flags() & 0x20, 0, "a command that writes");
            assert!(COMMANDS.contains(&pdu.byte(HEADER - 16)));
        }
    }
}
