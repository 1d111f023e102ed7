//! Records of the history file as JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Decodes a record. An unreadable record is logged and skipped: the rest of the history remains usable.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes)
        .inspect_err(|error| tracing::debug!(%error, "skipped an unreadable history record"))
        .ok()
}

pub(super) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    let mut buffer = Vec::new();
    encode_into(&mut buffer, record);
    buffer
}

/// Replaces the buffer's content by the encoding.
pub(super) fn encode_into<'a, T: Serialize>(buffer: &'a mut Vec<u8>, record: &T) -> &'a [u8] {
    buffer.clear();
    // Cannot fail: all map keys are strings.
    let _ = serde_json::to_writer(&mut *buffer, record);
    buffer
}
