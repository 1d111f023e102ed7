//! [`ExportReader`]: reads and verifies an export.

use std::io::{BufRead, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::export::format_digest;
use super::{ErrorLine, ExportFormatError, ExportHeader, FORMAT, RecordLine, TrailerLine, VERSION};
use crate::store::contract::Record;

/// The longest line. A record of the API has at most 1 MiB.
const MAX_LINE: u64 = 16 << 20;

/// Reads an export line by line.
///
/// The export is verified only when [`ExportReader::next_record`] has returned `None`.
pub struct ExportReader<R> {
    input: R,
    header: ExportHeader,
    digest: Sha256,
    lines: u64,
    records: u64,
    last_key: Option<String>,
}

/// A line after the first.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Record(RecordLine),
    Trailer(TrailerLine),
    Error(ErrorLine),
}

impl<R: BufRead> ExportReader<R> {
    /// Reads the first line.
    pub fn new(mut input: R) -> Result<Self, ExportFormatError> {
        let line = read_line(&mut input)?;
        if let Ok(ErrorLine { error }) = serde_json::from_slice(&line) {
            return Err(ExportFormatError::Failed(error));
        }
        let header: ExportHeader = serde_json::from_slice(&line).map_err(|_| ExportFormatError::NoExport)?;
        if header.format != FORMAT {
            return Err(ExportFormatError::NoExport);
        }
        if header.version != VERSION {
            return Err(ExportFormatError::Version(header.version));
        }
        let digest = Sha256::new_with_prefix(&line);
        Ok(Self { input, header, digest, lines: 1, records: 0, last_key: None })
    }

    /// The first line.
    pub fn header(&self) -> &ExportHeader {
        &self.header
    }

    /// The number of records so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The input behind the lines read so far.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Reads the next record; `None` at the end of a complete and intact export.
    pub fn next_record(&mut self) -> Result<Option<Record>, ExportFormatError> {
        let bytes = read_line(&mut self.input)?;
        if bytes.last() != Some(&b'\n') && (bytes.len() as u64) < MAX_LINE {
            return Err(ExportFormatError::Incomplete(self.lines));
        }
        self.lines += 1;
        let line_error = || ExportFormatError::Line(self.lines);
        match serde_json::from_slice(&bytes).map_err(|_| line_error())? {
            Line::Record(line) => {
                let record = decode_record(line).ok_or_else(line_error)?;
                let is_in_order = self.last_key.as_ref().is_none_or(|last| *last < record.key);
                if !is_in_order || record.revision > self.header.revision {
                    return Err(line_error());
                }
                self.digest.update(&bytes);
                self.records += 1;
                self.last_key = Some(record.key.clone());
                Ok(Some(record))
            }
            Line::Trailer(TrailerLine { records, sha256 }) => {
                let is_at_end = self.input.fill_buf()?.is_empty();
                if is_at_end && records == self.records && sha256 == format_digest(&self.digest) {
                    return Ok(None);
                }
                Err(ExportFormatError::Checksum)
            }
            Line::Error(ErrorLine { error }) => Err(ExportFormatError::Failed(error)),
        }
    }
}

/// Reads a line with its end; less at the end of the input, or at the limit.
fn read_line(input: &mut impl BufRead) -> Result<Vec<u8>, ExportFormatError> {
    let mut line = Vec::new();
    input.take(MAX_LINE).read_until(b'\n', &mut line)?;
    Ok(line)
}

fn decode_record(line: RecordLine) -> Option<Record> {
    let value = match (line.text, line.base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(base64)) => STANDARD.decode(base64).ok()?,
        _ => return None,
    };
    Some(Record { key: line.key, revision: line.revision, value })
}
