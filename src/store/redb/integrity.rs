//! The integrity check before a file is opened: the whole file is intact, or the start fails.
//!
//! redb's own check also repairs, and a repair may return to an older commit. So the check runs over an overlay: the
//! file stays unchanged, and a file that needs more than redb's recovery after a crash is damaged. Every commit is
//! two-phase, so no crash leaves a page with a wrong checksum (redb's docs/design.md, "2-phase commit").
//!
//! One bit of the header, without a checksum, says which of the two commits counts. If the other commit is newer and
//! complete, then either the bit is damaged, or the process ended just before it changed the bit. The newer commit
//! counts in both cases: it may have been acknowledged. Both commits must be intact: a damaged one may only look older.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::{Builder, Database, DatabaseError, StorageBackend};

use super::file::{CACHE, Meta, open_error, read_meta, run};
use super::open::Source;
use super::overlay::OverlayBackend;
use super::progress::{CheckProgress, CountingBackend, ProgressHook};
use crate::config::HISTORY_FILE;
use crate::store::contract::OpenError;
use crate::store::panics::CatchDrop;

/// The position of the flags in redb's header (docs/design.md, "god byte").
const FLAGS_OFFSET: u64 = 9;
/// The commit that counts: 0 or 1.
const PRIMARY_COMMIT: u8 = 1;
/// The last commit was two-phase.
const TWO_PHASE_COMMIT: u8 = 4;
/// The positions of both commits' transaction ids.
const TRANSACTION_OFFSETS: [u64; 2] = [64 + 104, 192 + 104];

/// The state of a file before it is opened.
pub(super) enum FileState {
    /// No file exists, or an empty one that never was a store.
    New,
    /// All pages have the right checksums.
    Intact,
    /// The same for the newer commit, with these flags in the header. The file has others.
    IntactWith(HeaderFlags),
}

/// The flags in redb's header.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeaderFlags(u8);

impl HeaderFlags {
    /// Writes the flags, and nothing else, into the file.
    fn write(self, disk: &dyn StorageBackend) -> io::Result<()> {
        disk.write(FLAGS_OFFSET, &[self.0])?;
        disk.sync_data()
    }
}

impl Source {
    /// Makes the newer commit count, as the check found it complete. A disk that refuses the write has the older one.
    pub(super) fn select_commit(&self, flags: HeaderFlags) -> Result<(), OpenError> {
        if let Some(disk) = self.disk.open_existing()? {
            let path = self.location();
            match flags.write(&*disk) {
                Ok(()) => tracing::warn!(path, "store intact; its header named the older commit"),
                Err(error) => {
                    tracing::error!(path, %error, "cannot write the header: the last change may be missing");
                }
            }
        }
        Ok(())
    }

    /// Checks the store on its disk without changing it.
    pub(super) fn verify(&self, hook: ProgressHook) -> Result<FileState, OpenError> {
        let location = self.location();
        let unavailable =
            |source: io::Error| OpenError::Unavailable { location: location.clone(), source: source.into() };
        let damaged =
            |source: Box<dyn Error + Send + Sync>| OpenError::Damaged { location: location.clone(), source };
        let Some(disk) = self.disk.open_existing()? else { return Ok(FileState::New) };
        let len = disk.len().map_err(unavailable)?;
        let check_origin = |content: &str| match find_trace(&self.path).map_err(unavailable)? {
            Some(trace) => Err(damaged(format!("{content}, but {trace} is beside it").into())),
            None => Ok(FileState::New),
        };
        if len == 0 {
            return check_origin("the file is empty");
        }
        let flags = read_flags(&*disk, len).map_err(unavailable)?;
        let check = |changed_flags: Option<HeaderFlags>| {
            let progress = CheckProgress::new(location.clone(), len, hook);
            let overlay = OverlayBackend::new(Arc::new(CountingBackend::new(Arc::clone(&disk), progress)))?;
            if let Some(flags) = changed_flags {
                flags.write(&overlay)?;
            }
            run(move || {
                let database = check_pages(overlay)?;
                read_meta(&database)
            })
        };
        let meta = check(None).map_err(|error| open_error(&location, error))?;
        if let Some(flags) = find_newer_commit(&*disk, len, flags).map_err(unavailable)?
            && check(Some(flags)).is_ok_and(|meta| meta.schema.is_some())
        {
            return Ok(FileState::IntactWith(flags));
        }
        match meta {
            Meta { schema: None, .. } => check_origin("the file has no records").map(|_| FileState::Intact),
            // Without the flag, redb may choose the older one of the two commits in the header.
            Meta { schema: Some(_), .. } if flags & TWO_PHASE_COMMIT == 0 => {
                Err(damaged("the flags in the header are wrong".into()))
            }
            Meta { schema: Some(_), clean, .. } => {
                if !clean {
                    tracing::info!(path = location, "store intact after an unclean stop");
                }
                Ok(FileState::Intact)
            }
        }
    }
}

/// The flags with which the newer of both commits counts, if that is another one than in the file.
fn find_newer_commit(disk: &dyn StorageBackend, len: u64, flags: u8) -> io::Result<Option<HeaderFlags>> {
    let mut transactions = [0; 2];
    for (transaction, offset) in transactions.iter_mut().zip(TRANSACTION_OFFSETS) {
        let mut bytes = [0; 8];
        if len < offset + 8 {
            return Ok(None);
        }
        disk.read(offset, &mut bytes)?;
        *transaction = u64::from_le_bytes(bytes);
    }
    let [first, second] = transactions;
    let newer = u8::from(second > first);
    let is_other = first != second && newer != flags & PRIMARY_COMMIT && flags & TWO_PHASE_COMMIT != 0;
    Ok(is_other.then_some(HeaderFlags(flags ^ PRIMARY_COMMIT)))
}

fn read_flags(disk: &dyn StorageBackend, len: u64) -> io::Result<u8> {
    let mut flags = [0];
    // redb reports a file that is too short.
    if len > FLAGS_OFFSET {
        disk.read(FLAGS_OFFSET, &mut flags)?;
    }
    Ok(flags[0])
}

/// Verifies the checksums of all pages.
fn check_pages(overlay: OverlayBackend) -> Result<CatchDrop<Database>, DatabaseError> {
    let mut builder = Builder::new();
    let database =
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true).create_with_backend(overlay);
    database.map(CatchDrop::new)
}

/// Finds a trace of an earlier store: the history, which volboot creates after the store, or the copy that a
/// migration keeps.
fn find_trace(path: &Path) -> io::Result<Option<String>> {
    let history = path.with_file_name(HISTORY_FILE);
    if history.exists() {
        return Ok(Some(history.display().to_string()));
    }
    let Some(name) = path.file_name() else { return Ok(None) };
    let copies = format!("{}.schema-", name.to_string_lossy());
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    for entry in fs::read_dir(directory.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&copies) {
            return Ok(Some(entry.path().display().to_string()));
        }
    }
    Ok(None)
}
