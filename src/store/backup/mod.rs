//! Backup: the records of a store in a format that does not depend on the kind of store.
//!
//! An export holds the records of one revision, the schema of keys and values, and the revision. It is UTF-8 text, one
//! JSON object a line:
//!
//! ```text
//! {"format":"volboot-export","version":1,"schema":1,"revision":42}
//! {"key":"node/6f3c…","revision":7,"text":"{\"uuid\":…}"}
//! {"key":"port-address/52:54:00:12:34:56","revision":7,"base64":"bzxKLhstTD6fQFprfI2eDw=="}
//! {"records":2,"sha256":"…"}
//! ```
//!
//! * The first line has the format's name and version, and the store's schema and revision.
//! * A record has its key, the revision of its last write, and its value: `text` if the value is UTF-8, otherwise
//!   `base64`. Records are in key order, and no key occurs twice.
//! * The last line has the number of records, and the SHA-256 digest of all bytes before it. An export without it is
//!   incomplete. An exporter that fails writes `{"error":"…"}` instead.
//!
//! A reader refuses unknown versions, so any change to this format gets a new version.

mod export;
mod import;
mod read;
#[cfg(test)]
mod tests;

use std::io;

pub use export::{ExportError, export, export_snapshot};
pub use import::{CopyHook, CopyStep, ImportError, ImportedRecords};
pub use read::ExportReader;

use serde::{Deserialize, Serialize};

/// The name of the format, in the first line.
const FORMAT: &str = "volboot-export";
/// The version of the format.
const VERSION: u64 = 1;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportHeader {
    format: String,
    version: u64,
    /// The schema of keys and values.
    pub schema: u64,
    /// The revision of the last write before the export.
    pub revision: u64,
}

/// The line of a record.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordLine {
    key: String,
    revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrailerLine {
    records: u64,
    sha256: String,
}

/// The last line of a failed export.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorLine {
    error: String,
}

/// An export cannot be read.
///
/// No message has content of the export: records hold secrets.
#[derive(Debug, thiserror::Error)]
pub enum ExportFormatError {
    /// The export cannot be read from its file or socket.
    #[error("cannot read the export")]
    Io(#[from] io::Error),
    /// The first line is not that of an export.
    #[error("not an export of a volboot store")]
    NoExport,
    /// A newer version of volboot wrote the export.
    #[error(
        "the export has version {0} of the format, this volboot supports {VERSION}: install a newer volboot"
    )]
    Version(u64),
    /// A line is not valid.
    #[error("line {0} of the export is damaged")]
    Line(u64),
    /// The last line is missing.
    #[error("the export is incomplete: it ends after line {0}")]
    Incomplete(u64),
    /// The digest or the number of records is wrong.
    #[error("the export is damaged: its checksum is wrong")]
    Checksum,
    /// The exporter failed.
    #[error("the server cannot export the store: {0}")]
    Failed(String),
}
