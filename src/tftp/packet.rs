//! The packets of TFTP, read from and written to bytes.
//!
//! Implements RFC 1350 §5 and the request format of RFC 2347. A request is read leniently, since firmware is: the last
//! NUL may be missing and anything may follow. Requests arrive at the listener, answers at a worker; neither
//! is ever read as the other.
//!
//! Invariant: nothing here indexes into what came from the wire, and nothing is copied before someone needs it.

/// <https://www.rfc-editor.org/rfc/rfc1350#section-5>, and 6 from <https://www.rfc-editor.org/rfc/rfc2347>.
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

/// Opcode and block number in front of a block's data.
pub(super) const DATA_HEADER: usize = 4;

/// What may come to the listener.
///
/// ```text
///  2 bytes     string    1 byte     string   1 byte   string   1 byte   string   1 byte
///  ------------------------------------------------------------------------------------- - -
/// | Opcode |  Filename  |   0  |    Mode    |   0  |  option  |   0  |  value   |   0  |
///  ------------------------------------------------------------------------------------- - -
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// Read this file. The mode is not kept: whatever it says, octets are sent.
    Read {
        /// As it came.
        name: &'a [u8],
        /// All after the mode.
        options: OptionList<'a>,
    },
    /// Somebody wants to write.
    Write {
        /// As it came.
        name: &'a [u8],
    },
    /// A request without a name or a mode.
    Malformed,
}

impl<'a> Request<'a> {
    /// `None` for all that is no request: it deserves no answer, or two servers would answer each other for ever.
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

/// The options of a request, name and value, in the client's order. Ends at the first that is not whole.
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

/// What a client says within a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// All blocks up to this one arrived; 0 takes the options.
    Ack(u16),
    /// The client breaks off.
    Error {
        /// See [`code`].
        code: u16,
        /// For people.
        message: &'a [u8],
    },
}

impl<'a> Answer<'a> {
    /// `None` for all else. Bytes after the end are ignored.
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

/// Appends what stands before a block's data.
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

/// An OACK packet that takes no option yet.
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

/// Up to the next NUL; some firmware leaves the last one out.
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
    fn a_request_is_read_with_its_options_in_order() {
        let Some(Request::Read { name, options }) =
            Request::parse(b"\0\x01ipxe.efi\0octet\0tsize\x000\0blksize\x001468\0")
        else {
            panic!("no read request");
        };
        assert_eq!(name, b"ipxe.efi");
        let options: Vec<_> = options.collect();
        assert_eq!(options, [(&b"tsize"[..], &b"0"[..]), (&b"blksize"[..], &b"1468"[..])]);
    }

    #[test]
    fn a_request_without_its_last_nul_is_understood() {
        let Some(Request::Read { options, .. }) = Request::parse(b"\0\x01a\0octet\0tsize\x000") else {
            panic!("no read request");
        };
        assert_eq!(options.collect::<Vec<_>>(), [(&b"tsize"[..], &b"0"[..])]);
    }

    #[test]
    fn garbage_after_the_options_is_ignored() {
        let Some(Request::Read { options, .. }) = Request::parse(b"\0\x01a\0octet\0tsize\x000\0\0\0\xff\xff")
        else {
            panic!("no read request");
        };
        assert_eq!(options.count(), 1);
    }

    #[test]
    fn a_name_that_is_no_text_is_kept_as_bytes() {
        let packet = b"\0\x01ipxe.efi\xff\xfe\0octet\0";
        assert!(matches!(Request::parse(packet), Some(Request::Read { name: b"ipxe.efi\xff\xfe", .. })));
    }

    #[test]
    fn what_is_no_request_gets_no_answer() {
        for packet in
            [&b""[..], b"\0", b"\0\x03\0\x01data", b"\0\x04\0\x01", b"\0\x05\0\x01no\0", b"\x01\0a\0octet\0"]
        {
            assert_eq!(Request::parse(packet), None, "{packet:?}");
        }
    }

    #[test]
    fn a_request_without_name_or_mode_is_malformed() {
        for packet in [&b"\0\x01"[..], b"\0\x01\0octet\0", b"\0\x01name", b"\0\x01name\0", b"\0\x02name\0\0"]
        {
            assert_eq!(Request::parse(packet), Some(Request::Malformed), "{packet:?}");
        }
    }

    #[test]
    fn answers_are_read_with_or_without_a_tail() {
        assert_eq!(Answer::parse(b"\0\x04\x12\x34"), Some(Answer::Ack(0x1234)));
        assert_eq!(Answer::parse(b"\0\x04\x12\x34garbage"), Some(Answer::Ack(0x1234)));
        assert_eq!(Answer::parse(b"\0\x05\0\x08stop\0x"), Some(Answer::Error { code: 8, message: b"stop" }));
        assert_eq!(Answer::parse(b"\0\x05\0\x08"), Some(Answer::Error { code: 8, message: b"" }));
        assert_eq!(Answer::parse(b"\0\x04\x12"), None);
        assert_eq!(Answer::parse(b"\0\x03\0\x01"), None);
    }
}
