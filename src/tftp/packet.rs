//! TFTP packets: parsing and serialization.
//!
//! Implements RFC 1350 §5 and the request format of RFC 2347. Requests are parsed leniently, as firmware requires:
//! the last NUL may be missing, and trailing bytes are ignored. [`RequestPacket`] and [`ClientPacket`] are separate
//! types: neither parser accepts a packet of the other.
//!
//! Invariant: no code here indexes into received bytes, and parsing copies no bytes.

/// Opcodes of <https://www.rfc-editor.org/rfc/rfc1350#section-5>, and OACK of
/// <https://www.rfc-editor.org/rfc/rfc2347>.
mod opcode {
    pub(super) const READ: u16 = 1;
    pub(super) const WRITE: u16 = 2;
    pub(super) const DATA: u16 = 3;
    pub(super) const ACK: u16 = 4;
    pub(super) const ERROR: u16 = 5;
    pub(super) const OACK: u16 = 6;
}

/// Error codes, <https://www.rfc-editor.org/rfc/rfc1350#page-10>.
pub(super) mod code {
    pub(crate) const OTHER: u16 = 0;
    pub(crate) const NOT_FOUND: u16 = 1;
    pub(crate) const ACCESS: u16 = 2;
    pub(crate) const ILLEGAL: u16 = 4;
}

/// Length of opcode and block number before a block's data.
pub(super) const DATA_HEADER: usize = 4;

/// A request packet.
///
/// ```text
///  2 bytes     string    1 byte     string   1 byte   string   1 byte   string   1 byte
///  ------------------------------------------------------------------------------------- - -
/// | Opcode |  Filename  |   0  |    Mode    |   0  |  option  |   0  |  value   |   0  |
///  ------------------------------------------------------------------------------------- - -
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestPacket<'a> {
    /// A read request. The mode is ignored: the server always sends octets.
    Read {
        /// File name, not yet canonical.
        name: &'a [u8],
        /// The bytes after the mode.
        options: OptionList<'a>,
    },
    /// A write request.
    Write {
        /// File name, not yet canonical.
        name: &'a [u8],
    },
    /// A request without a name or a mode.
    Malformed,
}

impl<'a> RequestPacket<'a> {
    /// Parses a request. Returns `None` for all other packets: a response could make two servers send to each other
    /// endlessly.
    pub(super) fn parse(packet: &'a [u8]) -> Option<Self> {
        let (opcode, rest) = split_u16(packet)?;
        if opcode != opcode::READ && opcode != opcode::WRITE {
            return None;
        }
        let Some((name, rest)) = split_string(rest) else { return Some(Self::Malformed) };
        let Some((mode, rest)) = split_string(rest) else { return Some(Self::Malformed) };
        if name.is_empty() || mode.is_empty() {
            return Some(Self::Malformed);
        }
        Some(match opcode {
            opcode::READ => Self::Read { name, options: OptionList(rest) },
            _ => Self::Write { name },
        })
    }
}

/// Iterator over the options of a request, name and value, in the client's order. Ends at the first incomplete
/// option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OptionList<'a>(&'a [u8]);

impl<'a> Iterator for OptionList<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = split_string(self.0)?;
        let (value, rest) = split_string(rest)?;
        self.0 = rest;
        (!name.is_empty()).then_some((name, value))
    }
}

/// A packet from the client within a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientPacket<'a> {
    /// Acknowledges all blocks up to this number; 0 acknowledges the OACK.
    Ack(u16),
    /// Aborts the transfer.
    Error {
        /// Error code, see [`code`].
        code: u16,
        /// Error message.
        message: &'a [u8],
    },
}

impl<'a> ClientPacket<'a> {
    /// Parses an ACK or ERROR packet. Returns `None` for all other packets; trailing bytes are ignored.
    pub(super) fn parse(packet: &'a [u8]) -> Option<Self> {
        let (opcode, rest) = split_u16(packet)?;
        let (number, rest) = split_u16(rest)?;
        match opcode {
            opcode::ACK => Some(Self::Ack(number)),
            opcode::ERROR => {
                let message = split_string(rest).map_or(rest, |(message, _)| message);
                Some(Self::Error { code: number, message })
            }
            _ => None,
        }
    }
}

/// Appends the header of a DATA packet.
pub(super) fn write_data_header(out: &mut Vec<u8>, block: u16) {
    out.extend_from_slice(&opcode::DATA.to_be_bytes());
    out.extend_from_slice(&block.to_be_bytes());
}

/// Appends an ERROR packet.
pub(super) fn write_error(out: &mut Vec<u8>, code: u16, message: &str) {
    out.extend_from_slice(&opcode::ERROR.to_be_bytes());
    out.extend_from_slice(&code.to_be_bytes());
    write_string(out, message.as_bytes());
}

/// Returns an OACK packet without options.
pub(super) fn begin_oack() -> Vec<u8> {
    opcode::OACK.to_be_bytes().to_vec()
}

/// Appends one option to an OACK packet.
pub(super) fn write_option(out: &mut Vec<u8>, name: &[u8], value: u64) {
    write_string(out, name);
    write_string(out, value.to_string().as_bytes());
}

fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.push(0);
}

fn split_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*number), rest))
}

/// Splits at the next NUL; some firmware omits the last NUL.
fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if bytes.is_empty() {
        return None;
    }
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (string, rest) = bytes.split_at(end);
    Some((string, rest.get(1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_the_order_of_its_options() {
        let Some(RequestPacket::Read { name, options }) =
            RequestPacket::parse(b"\0\x01ipxe.efi\0octet\0tsize\x000\0blksize\x001468\0")
        else {
            panic!("no read request");
        };
        assert_eq!(name, b"ipxe.efi");
        let options: Vec<_> = options.collect();
        assert_eq!(options, [(&b"tsize"[..], &b"0"[..]), (&b"blksize"[..], &b"1468"[..])]);
    }

    #[test]
    fn a_request_without_its_last_nul_is_accepted() {
        let Some(RequestPacket::Read { options, .. }) = RequestPacket::parse(b"\0\x01a\0octet\0tsize\x000")
        else {
            panic!("no read request");
        };
        assert_eq!(options.collect::<Vec<_>>(), [(&b"tsize"[..], &b"0"[..])]);
    }

    #[test]
    fn garbage_after_the_options_is_ignored() {
        let Some(RequestPacket::Read { options, .. }) =
            RequestPacket::parse(b"\0\x01a\0octet\0tsize\x000\0\0\0\xff\xff")
        else {
            panic!("no read request");
        };
        assert_eq!(options.count(), 1);
    }

    #[test]
    fn a_name_need_not_be_utf8() {
        let packet = b"\0\x01ipxe.efi\xff\xfe\0octet\0";
        assert!(matches!(
            RequestPacket::parse(packet),
            Some(RequestPacket::Read { name: b"ipxe.efi\xff\xfe", .. })
        ));
    }

    #[test]
    fn other_packets_are_no_requests() {
        for packet in
            [&b""[..], b"\0", b"\0\x03\0\x01data", b"\0\x04\0\x01", b"\0\x05\0\x01no\0", b"\x01\0a\0octet\0"]
        {
            assert_eq!(RequestPacket::parse(packet), None, "{packet:?}");
        }
    }

    #[test]
    fn a_request_without_name_or_mode_is_malformed() {
        for packet in [&b"\0\x01"[..], b"\0\x01\0octet\0", b"\0\x01name", b"\0\x01name\0", b"\0\x02name\0\0"]
        {
            assert_eq!(RequestPacket::parse(packet), Some(RequestPacket::Malformed), "{packet:?}");
        }
    }

    #[test]
    fn client_packets_may_have_trailing_bytes() {
        assert_eq!(ClientPacket::parse(b"\0\x04\x12\x34"), Some(ClientPacket::Ack(0x1234)));
        assert_eq!(ClientPacket::parse(b"\0\x04\x12\x34garbage"), Some(ClientPacket::Ack(0x1234)));
        assert_eq!(
            ClientPacket::parse(b"\0\x05\0\x08stop\0x"),
            Some(ClientPacket::Error { code: 8, message: b"stop" })
        );
        assert_eq!(ClientPacket::parse(b"\0\x05\0\x08"), Some(ClientPacket::Error { code: 8, message: b"" }));
        assert_eq!(ClientPacket::parse(b"\0\x04\x12"), None);
        assert_eq!(ClientPacket::parse(b"\0\x03\0\x01"), None);
    }
}
