//! [`Initiator`]: state machine of a session with one connection and one task at a time (RFC 7143 §4, §11).

use super::Error;
use super::login::{Isid, LoginParameters, LoginRefusal};
use super::negotiation::{LoginStage, Negotiation};
use super::pdu::{Decoder, IMMEDIATE, NO_TAG, Pdu, opcode};
use super::scsi::{Completion, ScsiCommand};
use super::text::Pairs;

/// The most PDUs of a target between two steps of this side: a read of 64 KiB needs few.
const MAX_PDUS: usize = 4096;
/// The longest text of a login response, in all its parts.
const MAX_TEXT: usize = 64 * 1024;

/// Flags of login requests and responses (§11.12.1, §11.12.2), and the flag of a last PDU (§11.3.1).
const TRANSIT: u8 = 0x80;
const CONTINUE: u8 = 0x40;
const FINAL: u8 = 0x80;
/// Flags of Data-In PDUs and responses (§11.4.1, §11.7.3).
const HAS_STATUS: u8 = 0x01;
/// Flags of a command (§11.3.1).
const READ: u8 = 0x40;
const SIMPLE: u8 = 0x01;

/// What the session is doing.
#[derive(Debug)]
enum Activity {
    Login(Box<Negotiation>, Vec<u8>),
    Idle,
    Command { length: usize, data: Vec<u8>, queued: Option<Pdu> },
    Logout,
    LoggedOut,
}

/// One session: takes the bytes of the target, and returns those to send.
#[derive(Debug)]
pub(super) struct Initiator {
    isid: Isid,
    tsih: u16,
    activity: Activity,
    decoder: Decoder,
    output: Vec<u8>,
    completion: Option<Completion>,
    tag: u32,
    command_number: u32,
    max_command_number: u32,
    expected_status_number: u32,
    pdus: usize,
    used_chap: bool,
}

impl Initiator {
    /// A session that has its first login request to send.
    pub(super) fn new(parameters: LoginParameters, isid: Isid) -> Self {
        let (negotiation, text) = Negotiation::start(parameters);
        let mut initiator = Self {
            isid,
            tsih: 0,
            activity: Activity::Idle,
            decoder: Decoder::default(),
            output: Vec::new(),
            completion: None,
            tag: 1,
            command_number: 1,
            max_command_number: 1,
            expected_status_number: 0,
            pdus: 0,
            used_chap: false,
        };
        initiator.send_login(LoginStage::Security, text);
        initiator.activity = Activity::Login(Box::new(negotiation), Vec::new());
        initiator
    }

    /// The bytes to send.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    pub(super) fn is_logged_in(&self) -> bool {
        matches!(self.activity, Activity::Idle | Activity::Command { .. })
    }

    pub(super) fn is_logged_out(&self) -> bool {
        matches!(self.activity, Activity::LoggedOut)
    }

    pub(super) fn used_chap(&self) -> bool {
        self.used_chap
    }

    /// The end of the command, once.
    pub(super) fn take_completion(&mut self) -> Option<Completion> {
        self.completion.take()
    }

    /// Starts a command. The previous one has to be complete.
    pub(super) fn start(&mut self, lun: [u8; 8], command: &ScsiCommand) -> Result<(), Error> {
        if !matches!(self.activity, Activity::Idle) {
            return Err(Error::Protocol("the session is not ready for a command"));
        }
        (self.pdus, self.completion) = (0, None);
        self.tag = self.tag.wrapping_add(1) & 0x7fff_ffff;
        let length = command.data_length();
        let read = if length > 0 { READ } else { 0 };
        let pdu = Pdu::new(opcode::SCSI_COMMAND, FINAL | read | SIMPLE, Vec::new())
            .with(8, &lun)
            .with_number(16, self.tag)
            .with_number(20, length)
            .with(32, &command.to_bytes());
        self.activity = Activity::Command { length: length as usize, data: Vec::new(), queued: Some(pdu) };
        self.send_queued();
        Ok(())
    }

    /// Starts the logout: closes the session (§11.14.1, reason 0). A command under way ends with it.
    pub(super) fn log_out(&mut self) {
        if !self.is_logged_in() {
            return;
        }
        self.pdus = 0;
        let pdu = Pdu::new(opcode::LOGOUT_REQUEST | IMMEDIATE, FINAL, Vec::new())
            .with_number(16, self.tag ^ 0x8000_0000);
        self.send(pdu);
        self.activity = Activity::Logout;
    }

    /// Takes bytes of the target.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.decoder.push(bytes);
        while let Some(pdu) = self.decoder.next()? {
            self.pdus += 1;
            if self.pdus > MAX_PDUS {
                return Err(Error::Protocol("the target does not stop sending"));
            }
            self.take(&pdu)?;
        }
        Ok(())
    }

    fn take(&mut self, pdu: &Pdu) -> Result<(), Error> {
        match (pdu.opcode(), &self.activity) {
            (opcode::LOGIN_RESPONSE, Activity::Login(..)) => self.take_login(pdu),
            (_, Activity::Login(..)) => Err(Error::Protocol("a login was answered by another message")),
            (opcode::NOP_IN, _) => {
                self.take_window(pdu);
                self.take_nop(pdu);
                self.send_queued();
                Ok(())
            }
            (opcode::ASYNC_MESSAGE, activity) => {
                // Event 0 is a SCSI event, and 4 a request to negotiate again: neither ends the session (§11.9.1).
                let ends = matches!(pdu.byte(36), 1..=3) && !matches!(activity, Activity::Logout);
                self.take_status_number(pdu);
                if ends { Err(Error::Ended) } else { Ok(()) }
            }
            (opcode::LOGOUT_RESPONSE, Activity::Logout) => {
                self.activity = Activity::LoggedOut;
                Ok(())
            }
            // Answers to the command that the logout has ended.
            (opcode::DATA_IN | opcode::SCSI_RESPONSE, Activity::Logout) => Ok(()),
            (opcode::DATA_IN, Activity::Command { .. }) => self.take_data(pdu),
            (opcode::SCSI_RESPONSE, Activity::Command { .. }) => self.take_response(pdu),
            (opcode::REJECT, _) => Err(Error::Protocol("the target rejected a message")),
            _ => Err(Error::Protocol("unexpected message")),
        }
    }

    fn take_login(&mut self, pdu: &Pdu) -> Result<(), Error> {
        let Activity::Login(negotiation, text) = &mut self.activity else {
            return Err(Error::Protocol("unexpected message"));
        };
        match (pdu.byte(36), pdu.byte(37)) {
            (0, _) => {}
            (1, _) => {
                let pairs = Pairs::parse(pdu.data())?;
                let address =
                    pairs.get("TargetAddress").ok_or(Error::Protocol("a redirection names no address"))?;
                return Err(Error::Redirected(address.to_owned()));
            }
            (class, detail) => return Err(Error::Refused(LoginRefusal { class, detail })),
        }
        if text.len() + pdu.data().len() > MAX_TEXT {
            return Err(Error::Protocol("a login response is too long"));
        }
        text.extend_from_slice(pdu.data());
        if pdu.flags() & CONTINUE != 0 {
            let stage = negotiation.stage();
            self.take_window(pdu);
            self.take_status_number(pdu);
            self.send_login_flags(stage as u8 * 4, Vec::new());
            return Ok(());
        }
        let text = std::mem::take(text);
        let entered = (pdu.flags() & TRANSIT != 0).then(|| LoginStage::from_bits(pdu.flags())).transpose()?;
        let next = negotiation.advance(&text, entered)?;
        let (stage, used_chap) = (negotiation.stage(), negotiation.used_chap());
        self.take_window(pdu);
        self.take_status_number(pdu);
        if let Some(text) = next {
            self.send_login(stage, text);
        } else {
            (self.tsih, self.used_chap) = (u16::from_be_bytes(pdu.bytes(14)), used_chap);
            self.activity = Activity::Idle;
        }
        Ok(())
    }

    /// Answers a ping, which has a target transfer tag (§11.19).
    fn take_nop(&mut self, pdu: &Pdu) {
        let target_tag: [u8; 4] = pdu.bytes(20);
        if u32::from_be_bytes(target_tag) == NO_TAG {
            return;
        }
        if pdu.tag() == NO_TAG {
            // The status number of a ping is not advanced (§11.19.3).
            let pong = Pdu::new(opcode::NOP_OUT | IMMEDIATE, FINAL, pdu.data().to_vec())
                .with(8, &pdu.bytes::<8>(8))
                .with_number(16, NO_TAG)
                .with(20, &target_tag);
            self.send(pong);
        }
    }

    fn take_data(&mut self, pdu: &Pdu) -> Result<(), Error> {
        self.take_window(pdu);
        let Activity::Command { length, data, .. } = &mut self.activity else {
            return Err(Error::Protocol("unexpected message"));
        };
        if pdu.tag() != self.tag || pdu.number(40) as usize != data.len() {
            return Err(Error::Protocol("data of another command, or out of order"));
        }
        if data.len() + pdu.data().len() > *length {
            return Err(Error::Protocol("more data than requested"));
        }
        data.extend_from_slice(pdu.data());
        if pdu.flags() & HAS_STATUS == 0 {
            return Ok(());
        }
        let data = std::mem::take(data);
        self.take_status_number(pdu);
        self.complete(Completion { status: pdu.byte(3), sense: Vec::new(), data });
        Ok(())
    }

    fn take_response(&mut self, pdu: &Pdu) -> Result<(), Error> {
        self.take_window(pdu);
        self.take_status_number(pdu);
        let Activity::Command { data, .. } = &mut self.activity else {
            return Err(Error::Protocol("unexpected message"));
        };
        if pdu.tag() != self.tag {
            return Err(Error::Protocol("the response to another command"));
        }
        if pdu.byte(2) != 0 {
            return Err(Error::Protocol("the target could not execute a command"));
        }
        let data = std::mem::take(data);
        // The data segment is the length of the sense data, and the sense data (§11.4.7.2).
        let sense = match pdu.data() {
            [high, low, sense @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                sense[..length.min(sense.len())].to_vec()
            }
            _ => Vec::new(),
        };
        self.complete(Completion { status: pdu.byte(3), sense, data });
        Ok(())
    }

    fn complete(&mut self, completion: Completion) {
        self.completion = Some(completion);
        self.activity = Activity::Idle;
    }

    fn take_status_number(&mut self, pdu: &Pdu) {
        self.expected_status_number = pdu.number(24).wrapping_add(1);
    }

    /// Takes the last command number that the target accepts (§4.2.2.1).
    fn take_window(&mut self, pdu: &Pdu) {
        let (expected, max) = (pdu.number(28), pdu.number(32));
        let window = max.wrapping_sub(expected).wrapping_add(1);
        if window <= 0x7fff_ffff {
            self.max_command_number = max;
        }
    }

    /// Sends the queued command once the target's window is open.
    fn send_queued(&mut self) {
        let is_open = self.max_command_number.wrapping_sub(self.command_number) <= 0x7fff_ffff;
        let Activity::Command { queued, .. } = &mut self.activity else { return };
        if is_open && let Some(pdu) = queued.take() {
            self.send(pdu);
            self.command_number = self.command_number.wrapping_add(1);
        }
    }

    fn send_login(&mut self, stage: LoginStage, text: Vec<u8>) {
        self.send_login_flags(TRANSIT | (stage as u8 * 4) | stage.next() as u8, text);
    }

    fn send_login_flags(&mut self, flags: u8, text: Vec<u8>) {
        let pdu = Pdu::new(opcode::LOGIN_REQUEST | IMMEDIATE, flags, text)
            .with(8, &self.isid.bytes())
            .with(14, &self.tsih.to_be_bytes())
            .with_number(16, self.tag);
        self.send(pdu);
    }

    fn send(&mut self, pdu: Pdu) {
        let pdu = pdu.with_number(24, self.command_number).with_number(28, self.expected_status_number);
        self.output.extend(pdu.encode());
    }
}
