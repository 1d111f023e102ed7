//! Import: creates a store from an export.
//!
//! All records are one transaction in an unfinished file, which gets the store's name after the last line is verified.
//! So a failed import leaves nothing behind. Records keep their revisions, and the store keeps the export's: revisions
//! never go back. An export of an older schema is migrated when the store is opened.

use std::io::BufRead;
use std::path::Path;

use redb::{ReadableDatabase, ReadableTableMetadata, WriteTransaction};

use super::creation::{NewFile, create_tables};
use super::file::{RECORDS, open_error, run};
use super::integrity::FileState;
use super::open::Source;
use crate::store::backup::{ExportReader, ImportError, ImportedRecords};
use crate::store::contract::OpenError;
use crate::store::schema;

/// Creates the store at `path` from an export. Blocks until all records are on disk.
///
/// No process may use the store. An existing store must be empty; it is replaced. `confirm` runs after the last record,
/// before the file gets its name.
pub fn import<R: BufRead>(
    path: &Path,
    mut export: ExportReader<R>,
    confirm: impl FnOnce() -> Result<(), ImportError>,
) -> Result<ImportedRecords, ImportError> {
    let location = path.display().to_string();
    let header = export.header().clone();
    schema::check(schema::STEPS, header.schema, "the export")?;
    // Holds the lock of a present store until the new file has replaced it: a server may start meanwhile.
    let source = Source::new(path, schema::STEPS);
    match source.verify(|_| {})? {
        FileState::New => {}
        FileState::Intact | FileState::IntactWith(_) => check_empty(&source)?,
    }
    let failed = |error: redb::Error| open_error(&location, error);
    let fill = |write: &WriteTransaction| {
        create_tables(write, header.schema, header.revision).map_err(failed)?;
        insert_records(write, &mut export, failed)?;
        confirm()
    };
    NewFile::create(path)?.finish::<ImportError>(fill)?;
    Ok(ImportedRecords { records: export.records(), revision: header.revision })
}

/// Fails if the present store has records.
fn check_empty(source: &Source) -> Result<(), ImportError> {
    let database = source.open_read_only()?.database;
    let count = || Ok(database.begin_read()?.open_table(RECORDS)?.len()?);
    match run(count).map_err(|error| open_error(&source.location(), error))? {
        0 => Ok(()),
        _ => Err(ImportError::NotEmpty(source.location())),
    }
}

fn insert_records<R: BufRead>(
    write: &WriteTransaction,
    export: &mut ExportReader<R>,
    failed: impl Fn(redb::Error) -> OpenError,
) -> Result<(), ImportError> {
    let mut table = write.open_table(RECORDS).map_err(|error| failed(error.into()))?;
    while let Some(record) = export.next_record()? {
        let value = (record.revision, record.value.as_slice());
        table.insert(record.key.as_str(), value).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}
