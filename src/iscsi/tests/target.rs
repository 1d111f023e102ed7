//! [`ScriptedTarget`]: the target's side of a session, message by message.

use super::{ISID, parameters};
use crate::iscsi::Error;
use crate::iscsi::initiator::Initiator;
use crate::iscsi::login::LoginParameters;
use crate::iscsi::pdu::{Decoder, Pdu, opcode};
use crate::iscsi::scsi::Completion;

/// A session whose target's messages come from the test.
pub(super) struct ScriptedTarget {
    pub(super) initiator: Initiator,
    status_number: u32,
}

impl ScriptedTarget {
    pub(super) fn new(parameters: LoginParameters) -> Self {
        Self { initiator: Initiator::new(parameters, ISID), status_number: 100 }
    }

    /// A session after its login.
    pub(super) fn logged_in() -> Self {
        let mut target = Self::new(parameters());
        target.request();
        target.answer_login(0x83, "").expect("a login");
        assert!(target.initiator.is_logged_in());
        target
    }

    /// The only request that is waiting.
    pub(super) fn request(&mut self) -> Pdu {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    pub(super) fn requests(&mut self) -> Vec<Pdu> {
        let mut decoder = Decoder::default();
        decoder.push(&self.initiator.take_output());
        std::iter::from_fn(|| decoder.next().expect("a valid request")).collect()
    }

    /// Sends a message with the next status number and an open window.
    pub(super) fn send(&mut self, pdu: Pdu) -> Result<(), Error> {
        self.status_number += 1;
        let pdu = pdu.with_number(24, self.status_number).with_number(28, 1).with_number(32, 64);
        self.initiator.receive(&pdu.encode())
    }

    pub(super) fn answer_login(&mut self, flags: u8, text: &str) -> Result<(), Error> {
        self.send(Pdu::new(opcode::LOGIN_RESPONSE, flags, text.as_bytes().to_vec()))
    }

    /// Refuses the login.
    pub(super) fn refuse(&mut self, class: u8, detail: u8) -> Error {
        let pdu = Pdu::new(opcode::LOGIN_RESPONSE, 0, Vec::new()).with(36, &[class, detail]);
        self.send(pdu).expect_err("a refusal")
    }

    pub(super) fn completion(&mut self) -> Completion {
        self.initiator.take_completion().expect("a completed command")
    }
}
