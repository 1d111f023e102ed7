//! [`Pdu`]: a protocol data unit (RFC 7143 §11), and [`Decoder`], which finds them in a stream of bytes.

use super::{Error, MAX_SEGMENT};

/// Bytes of the basic header segment (§11.2.1).
pub(super) const HEADER: usize = 48;

/// The opcodes that this initiator uses (§11.2.1.2).
pub(super) mod opcode {
    pub(in crate::iscsi) const NOP_OUT: u8 = 0x00;
    pub(in crate::iscsi) const SCSI_COMMAND: u8 = 0x01;
    pub(in crate::iscsi) const LOGIN_REQUEST: u8 = 0x03;
    pub(in crate::iscsi) const LOGOUT_REQUEST: u8 = 0x06;
    pub(in crate::iscsi) const NOP_IN: u8 = 0x20;
    pub(in crate::iscsi) const SCSI_RESPONSE: u8 = 0x21;
    pub(in crate::iscsi) const LOGIN_RESPONSE: u8 = 0x23;
    pub(in crate::iscsi) const DATA_IN: u8 = 0x25;
    pub(in crate::iscsi) const LOGOUT_RESPONSE: u8 = 0x26;
    pub(in crate::iscsi) const ASYNC_MESSAGE: u8 = 0x32;
    pub(in crate::iscsi) const REJECT: u8 = 0x3f;
}

/// The flag of a request that is delivered at once, outside the order of commands.
pub(super) const IMMEDIATE: u8 = 0x40;
/// The tag of a PDU that belongs to no task.
pub(super) const NO_TAG: u32 = 0xffff_ffff;

/// One PDU, without additional header segments and digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pdu {
    header: [u8; HEADER],
    data: Vec<u8>,
}

impl Pdu {
    /// A PDU whose other header fields are zero.
    pub(super) fn new(opcode: u8, flags: u8, data: Vec<u8>) -> Self {
        let mut header = [0; HEADER];
        (header[0], header[1]) = (opcode, flags);
        Self { header, data }
    }

    /// Sets header bytes from an offset on.
    pub(super) fn with(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.header[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Sets a number of the header.
    pub(super) fn with_number(self, offset: usize, number: u32) -> Self {
        self.with(offset, &number.to_be_bytes())
    }

    pub(super) fn opcode(&self) -> u8 {
        self.header[0] & 0x3f
    }

    /// The byte behind the opcode.
    pub(super) fn flags(&self) -> u8 {
        self.header[1]
    }

    pub(super) fn byte(&self, offset: usize) -> u8 {
        self.header[offset]
    }

    pub(super) fn number(&self, offset: usize) -> u32 {
        u32::from_be_bytes(self.bytes(offset))
    }

    pub(super) fn bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.header[offset..offset + N]);
        bytes
    }

    /// The initiator task tag.
    pub(super) fn tag(&self) -> u32 {
        self.number(16)
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    /// The bytes on the wire, with the padding of the data segment (§11.2.3).
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.header.to_vec();
        let length = u32::try_from(self.data.len()).unwrap_or(u32::MAX).to_be_bytes();
        bytes[4] = 0;
        bytes[5..8].copy_from_slice(&length[1..]);
        bytes.extend_from_slice(&self.data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
}

/// Collects the bytes of a connection, and cuts PDUs out of them. Holds at most one PDU and the last read.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete PDU. A data segment above [`MAX_SEGMENT`] is an error as soon as its header is there.
    pub(super) fn next(&mut self) -> Result<Option<Pdu>, Error> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let additional = usize::from(header[4]) * 4;
        let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
        if length > MAX_SEGMENT {
            return Err(Error::Protocol("a data segment is longer than announced"));
        }
        let start = HEADER + additional;
        let end = start + length.next_multiple_of(4);
        if self.buffer.len() < end {
            return Ok(None);
        }
        let pdu = Pdu { header: *header, data: self.buffer[start..start + length].to_vec() };
        self.buffer.drain(..end);
        Ok(Some(pdu))
    }
}
