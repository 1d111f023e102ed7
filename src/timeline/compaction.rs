//! Compaction of the history file at the start: the bounds apply to a file that an older version, or an attack on it, left.
//!
//! redb reuses the pages of deleted events, but the file does not shrink. The events that the bounds keep are copied into a
//! new file, which then replaces the old one. Texts without a limit are cut on the way. The copy runs on the history
//! thread, and no part of volboot waits for it. If it fails, the old file stays.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

use parking_lot::RwLock;

use super::encoding::{decode, encode};
use super::history::{History, HistoryError, with_suffix};
use super::index::MachineIndex;
use super::record::RecordId;
use crate::telemetry::Event;

/// A file is compacted if it is larger than its contents by this factor. The growth of redb accounts for three.
const MAX_SLACK: u64 = 4;
/// Encoded events up to this size are copied as they are. Longer ones may have texts without a limit.
const PLAIN_EVENT_SIZE: usize = 512;

/// Compacts the file at `path` if it is too large for its contents. Returns the sizes before and after, if so.
pub(super) fn compact(
    path: &Path,
    history: &RwLock<Option<History>>,
    index: &RwLock<MachineIndex>,
) -> Result<Option<(u64, u64)>, HistoryError> {
    let new_path = with_suffix(path, "new");
    // Of a copy that was interrupted.
    let _ = fs::remove_file(&new_path);
    let size = fs::metadata(path)?.len();
    let (known, small_file) = (index.read().known_bytes(), index.read().bounds().small_file);
    if size <= small_file || known.is_some_and(|bytes| size / MAX_SLACK <= bytes) {
        return Ok(None);
    }
    // Readers continue: only this thread writes to the file.
    let new = {
        let history = history.read();
        let Some(old) = &*history else { return Ok(None) };
        let mut sizes = measure_events(old)?;
        {
            let mut index = index.write();
            index.write_out_log();
            for ((record_id, _), event) in index.pending_events() {
                *sizes.entry(record_id).or_default() += event.byte_size() as u64;
            }
            index.set_event_sizes(&sizes);
        }
        let copy = History::try_open(&new_path).and_then(|new| {
            new.write_copy(old, &index.read(), shorten_event)?;
            Ok(new)
        });
        // On a full disk, an unfinished copy takes the room of the events to come.
        copy.inspect_err(|_| drop(fs::remove_file(&new_path)))?
    };
    fs::rename(&new_path, path)?;
    *history.write() = Some(new);
    Ok(Some((size, fs::metadata(path)?.len())))
}

/// The bytes of each record's events, once shortened.
fn measure_events(history: &History) -> Result<HashMap<RecordId, u64>, HistoryError> {
    let mut sizes = HashMap::new();
    history.scan_events(|(record_id, _), event| {
        *sizes.entry(record_id).or_default() += shorten_event(event).len() as u64;
        Ok(())
    })?;
    Ok(sizes)
}

/// The encoding of an event with its texts cut. An unreadable event stays as it is, if it is short.
fn shorten_event(encoded: &[u8]) -> Cow<'_, [u8]> {
    if encoded.len() <= PLAIN_EVENT_SIZE {
        return Cow::Borrowed(encoded);
    }
    decode::<Event>(encoded).map_or_else(Cow::default, |event| encode(&event.with_cut_texts()).into())
}
