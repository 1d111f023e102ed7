//! Messages between the inspecting process and its parent, over one stream socket.
//!
//! The process sends requests for bytes, and at last its report. The parent answers each request with one byte, 0 for
//! success, and the bytes.

use std::io::{self, Read, Write};

use super::contents::Contents;
use super::volume::{BlockSource, CHUNK};

/// The most bytes of a request.
pub const MAX_REQUEST: u32 = CHUNK as u32;
/// The longest report, in bytes.
pub const MAX_REPORT: u32 = 256 * 1024;

const REQUEST: u8 = b'R';
const REPORT: u8 = b'D';
/// Type, offset, length.
const HEADER: usize = 13;

/// A message of the inspecting process.
#[derive(Debug, PartialEq, Eq)]
pub enum ChildMessage {
    /// A request for bytes of the volume.
    Request {
        /// The first byte.
        offset: u64,
        /// The number of bytes.
        length: u32,
    },
    /// The report, whose JSON has this many bytes.
    Report(u32),
}

/// Reads the header of a message. The parent treats the process as a stranger: anything else is an error.
pub fn read_message(header: [u8; HEADER]) -> io::Result<ChildMessage> {
    let (kind, rest) = (header[0], &header[1..]);
    let offset = rest[..8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    let length = rest[8..].iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
    match kind {
        REQUEST if (1..=MAX_REQUEST).contains(&length) => Ok(ChildMessage::Request { offset, length }),
        REPORT if length <= MAX_REPORT => Ok(ChildMessage::Report(length)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Writes the answer to a request; `None` if the bytes cannot be read.
pub fn encode_blocks(blocks: Option<&[u8]>) -> Vec<u8> {
    match blocks {
        Some(blocks) => [&[0], blocks].concat(),
        None => vec![1],
    }
}

fn write_header(kind: u8, offset: u64, length: u32) -> [u8; HEADER] {
    let mut header = [kind; HEADER];
    header[1..9].copy_from_slice(&offset.to_be_bytes());
    header[9..].copy_from_slice(&length.to_be_bytes());
    header
}

/// The parent as the origin of a volume's bytes.
pub(super) struct ParentSource<S>(pub(super) S);

impl<S: Read + Write> BlockSource for ParentSource<S> {
    fn read(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.0.write_all(&write_header(REQUEST, offset, length as u32))?;
        let mut answer = [1];
        self.0.read_exact(&mut answer)?;
        if answer != [0] {
            return Err(io::Error::other("the volume cannot be read"));
        }
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Sends the report.
pub(super) fn send_report(mut stream: impl Write, contents: &Contents) -> io::Result<()> {
    let json = serde_json::to_vec(contents)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    stream.write_all(&write_header(REPORT, 0, length))?;
    stream.write_all(&json)
}
