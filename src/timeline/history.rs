//! [`History`]: the file that stores machine records and events across restarts.
//!
//! The history is a separate file beside the store, because its loss is tolerable: no part of volboot waits for it.
//! A damaged file, or one with an older schema, is renamed and replaced by an empty one. Every commit is one batch.
//! An event's key is the number of its machine record and a number within that record.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::encoding::{decode, encode, encode_into};
use super::index::MachineIndex;
use super::outbox::{EventPosition, Outbox, OutboxWrites};
use super::peers::PeerProgress;
use super::record::{EventKey, MachineRecord, RecordId};
use super::{log_table, statistics_table};
use crate::store::{CatchDrop, OverlayBackend, catch_panic};
use crate::telemetry::Event;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const MACHINES: TableDefinition<'_, RecordId, &[u8]> = TableDefinition::new("machines");
const EVENTS: TableDefinition<'_, EventKey, &[u8]> = TableDefinition::new("events");
/// The outbox: events of this instance as JSON, by number. The first eight bytes of a value are the stream.
const OUTBOX: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outbox");
/// The events that were joined from each other instance, by its name.
const PEERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("peers");

/// Schema of the records. There is no migration: an older file is set aside, a newer one is rejected.
const SCHEMA: u64 = 2;
const SCHEMA_KEY: &str = "schema";
/// The stream of the outbox's numbers.
const STREAM_KEY: &str = "stream";
/// Size of the page cache in bytes. Timelines are rarely read, and a commit touches few pages.
const CACHE_SIZE: usize = 1 << 20;

/// The history file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum HistoryError {
    #[error("cannot use the history file: {0}")]
    Database(#[from] redb::Error),
    #[error("the history file has schema {0}, written by a newer version of volboot")]
    NewerSchema(u64),
    #[error("the history file has schema {0}, written by an older version of volboot")]
    OlderSchema(u64),
    #[error("cannot access the history file: {0}")]
    Io(#[from] io::Error),
}

/// The open file.
#[derive(Debug)]
pub(super) struct History {
    database: CatchDrop<Database>,
    /// Whether the file is open for reading only. Changes would be lost.
    is_read_only: bool,
}

impl History {
    /// Opens or creates the file. A damaged file, or one with an older schema, is renamed first.
    pub(super) fn open(path: &Path) -> Result<Self, HistoryError> {
        match Self::try_open(path) {
            Ok(history) => Ok(history),
            Err(error) => {
                Self::set_aside(path, error)?;
                Self::try_open(path)
            }
        }
    }

    /// Renames the file if the error is damage or an older schema; otherwise returns the error.
    pub(super) fn set_aside(path: &Path, error: HistoryError) -> Result<(), HistoryError> {
        let suffix = match &error {
            HistoryError::Database(error) if is_damage(error) => "damaged".to_owned(),
            HistoryError::OlderSchema(schema) => format!("schema-{schema}"),
            _ => return Err(error),
        };
        let new_path = with_suffix(path, &suffix);
        tracing::warn!(%error, renamed_to = %new_path.display(), "history set aside; starting an empty one");
        Ok(fs::rename(path, new_path)?)
    }

    pub(super) fn try_open(path: &Path) -> Result<Self, HistoryError> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        restrict_permissions(&file)?;
        let is_new = file.metadata()?.len() == 0;
        let opened = Self::open_database(|builder| builder.create(path), false);
        if opened.is_err() && is_new {
            // On a full disk, the unfinished file would look damaged at the next start.
            let _ = fs::remove_file(path);
        }
        opened
    }

    /// Opens an existing file for reading, on a disk that accepts no writes. Repairs stay in memory.
    pub(super) fn open_read_only(path: &Path) -> Result<Self, HistoryError> {
        let file = fs::File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Err(io::Error::other("the file is empty").into());
        }
        let file = redb::backends::FileBackend::new(file).map_err(redb::Error::from)?;
        let overlay = OverlayBackend::new(Arc::new(file))?;
        Self::open_database(|builder| builder.create_with_backend(overlay), true)
    }

    /// Opens the database; a panic of redb is damage.
    fn open_database(
        open: impl FnOnce(&redb::Builder) -> Result<Database, redb::DatabaseError>,
        is_read_only: bool,
    ) -> Result<Self, HistoryError> {
        let open = || {
            let database =
                open(redb::Builder::new().set_cache_size(CACHE_SIZE)).map_err(redb::Error::from)?;
            Self::prepare(CatchDrop::new(database), is_read_only)
        };
        catch_panic(open).unwrap_or_else(|panic| Err(damage(panic).into()))
    }

    /// Runs an operation on the database; a panic of redb is damage.
    fn run<T>(&self, operation: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        catch_panic(|| operation(&self.database)).unwrap_or_else(|panic| Err(damage(panic)))
    }

    /// Whether the file is open for reading only.
    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Creates the tables in a new file, and checks the schema.
    fn prepare(database: CatchDrop<Database>, is_read_only: bool) -> Result<Self, HistoryError> {
        let write = database.begin_write().map_err(redb::Error::from)?;
        let schema = {
            let mut meta = write.open_table(META).map_err(redb::Error::from)?;
            write.open_table(MACHINES).map_err(redb::Error::from)?;
            write.open_table(EVENTS).map_err(redb::Error::from)?;
            write.open_table(OUTBOX).map_err(redb::Error::from)?;
            write.open_table(PEERS).map_err(redb::Error::from)?;
            log_table::prepare(&write)?;
            statistics_table::prepare(&write)?;
            let schema = meta.get(SCHEMA_KEY).map_err(redb::Error::from)?.map(|schema| schema.value());
            if schema.is_none() {
                meta.insert(SCHEMA_KEY, SCHEMA).map_err(redb::Error::from)?;
            }
            schema
        };
        match schema {
            Some(newer) if newer > SCHEMA => return Err(HistoryError::NewerSchema(newer)),
            Some(older) if older < SCHEMA => return Err(HistoryError::OlderSchema(older)),
            // An older version has not created all tables.
            Some(_) | None => write.commit().map_err(redb::Error::from)?,
        }
        Ok(Self { database, is_read_only })
    }

    /// Loads all machine records into the index, and the log.
    pub(super) fn load(&self, index: &mut MachineIndex) -> Result<(), redb::Error> {
        self.run(|database| {
            let now = Timestamp::now();
            let records = database.begin_read()?.open_table(MACHINES)?;
            for entry in records.iter()? {
                let (id, record) = entry?;
                if let Some(record) = decode::<MachineRecord>(record.value()) {
                    index.restore(id.value(), record, now);
                }
            }
            statistics_table::load(database, index, now)?;
            log_table::load(database, index, now)
        })
    }

    /// Loads the outbox; `None` if it has never had an event.
    pub(super) fn load_outbox(&self) -> Result<Option<Outbox>, redb::Error> {
        self.run(|database| {
            let read = database.begin_read()?;
            let Some(stream) = read.open_table(META)?.get(STREAM_KEY)?.map(|stream| stream.value()) else {
                return Ok(None);
            };
            let mut entries = VecDeque::new();
            for entry in read.open_table(OUTBOX)?.iter()? {
                let (number, value) = entry?;
                let Some((stream, event)) = value.value().split_first_chunk::<8>() else { continue };
                let Ok(event) = std::str::from_utf8(event) else { continue };
                let position = EventPosition { stream: u64::from_be_bytes(*stream), number: number.value() };
                entries.push_back((position, event.into()));
            }
            Ok(Some(Outbox::restore(stream, entries, self.is_read_only)))
        })
    }

    /// Loads the progress of all other instances, by name.
    pub(super) fn load_peers(&self) -> Result<BTreeMap<String, PeerProgress>, redb::Error> {
        self.run(|database| {
            let table = database.begin_read()?.open_table(PEERS)?;
            let mut peers = BTreeMap::new();
            for entry in table.iter()? {
                let (name, progress) = entry?;
                peers.extend(decode(progress.value()).map(|progress| (name.value().to_owned(), progress)));
            }
            Ok(peers)
        })
    }

    /// A machine's events, by number.
    pub(super) fn events(&self, id: RecordId) -> Result<Vec<(u64, Event)>, redb::Error> {
        self.run(|database| {
            let table = database.begin_read()?.open_table(EVENTS)?;
            let mut events = Vec::new();
            for entry in table.range((id, 0)..=(id, u64::MAX))? {
                let (key, event) = entry?;
                events.extend(decode(event.value()).map(|event| (key.value().1, event)));
            }
            Ok(events)
        })
    }

    /// Calls `visit` with the key and the encoding of each event, in the order of the keys, until it fails.
    pub(super) fn scan_events(
        &self,
        mut visit: impl FnMut(EventKey, &[u8]) -> Result<(), redb::Error>,
    ) -> Result<(), redb::Error> {
        self.run(|database| {
            let table = database.begin_read()?.open_table(EVENTS)?;
            for entry in table.iter()? {
                let (key, event) = entry?;
                visit(key.value(), event.value())?;
            }
            Ok(())
        })
    }

    /// Writes all records of `index`, and their events as `source` has them and those to come, in one commit. Events are
    /// shortened by `shorten`. The log must have been written out.
    pub(super) fn write_copy(
        &self,
        source: &Self,
        index: &MachineIndex,
        shorten: impl Fn(&[u8]) -> Cow<'_, [u8]>,
    ) -> Result<(), redb::Error> {
        self.run(|database| {
            let mut write = database.begin_write()?;
            write.set_quick_repair(true);
            {
                let mut records = write.open_table(MACHINES)?;
                for (id, record) in index.numbered_records() {
                    records.insert(id, encode(record).as_slice())?;
                }
                let mut events = write.open_table(EVENTS)?;
                source.scan_events(|key, event| {
                    if index.record(key.0).is_some() {
                        events.insert(key, &*shorten(event))?;
                    }
                    Ok(())
                })?;
                for (key, event) in index.pending_events() {
                    events.insert(key, encode(event).as_slice())?;
                }
                statistics_table::write_all(&write, index)?;
                source.copy_cluster_tables(&write)?;
            }
            write.commit()?;
            Ok(())
        })
    }

    /// Copies the outbox and the progress of other instances.
    fn copy_cluster_tables(&self, write: &redb::WriteTransaction) -> Result<(), redb::Error> {
        self.run(|database| {
            let read = database.begin_read()?;
            if let Some(stream) = read.open_table(META)?.get(STREAM_KEY)? {
                write.open_table(META)?.insert(STREAM_KEY, stream.value())?;
            }
            let mut outbox = write.open_table(OUTBOX)?;
            for entry in read.open_table(OUTBOX)?.iter()? {
                let (number, event) = entry?;
                outbox.insert(number.value(), event.value())?;
            }
            let mut peers = write.open_table(PEERS)?;
            for entry in read.open_table(PEERS)?.iter()? {
                let (name, progress) = entry?;
                peers.insert(name.value(), progress.value())?;
            }
            Ok(())
        })
    }

    /// Writes the changes of [`MachineIndex::in_commit`] in one commit.
    pub(super) fn write(&self, index: &MachineIndex) -> Result<(), redb::Error> {
        self.run(|database| write_changes(database, index))
    }
}

fn write_changes(database: &Database, index: &MachineIndex) -> Result<(), redb::Error> {
    let changes = &index.in_commit;
    let mut write = database.begin_write()?;
    // After a crash, redb opens the file at once instead of scanning all of it.
    write.set_quick_repair(true);
    {
        let mut records = write.open_table(MACHINES)?;
        let mut events = write.open_table(EVENTS)?;
        let mut buffer = Vec::new();
        for id in &changes.records {
            if let Some(record) = index.record(*id) {
                records.insert(id, encode_into(&mut buffer, record))?;
            } else {
                records.remove(id)?;
                events.retain_in((*id, 0)..=(*id, u64::MAX), |_, _| false)?;
            }
        }
        for (key, event) in &changes.events {
            match event {
                Some(event) => events.insert(key, encode_into(&mut buffer, event))?,
                None => events.remove(key)?,
            };
        }
        if !changes.peers.is_empty() {
            let mut peers = write.open_table(PEERS)?;
            for (name, progress) in &changes.peers {
                match progress {
                    Some(progress) => peers.insert(name.as_str(), encode(progress).as_slice())?,
                    None => peers.remove(name.as_str())?,
                };
            }
        }
        if let Some(outbox) = &changes.outbox {
            write_outbox(&write, outbox)?;
        }
        statistics_table::write(&write, index)?;
        log_table::write(&write, index)?;
    }
    write.commit()?;
    Ok(())
}

fn write_outbox(write: &redb::WriteTransaction, changes: &OutboxWrites) -> Result<(), redb::Error> {
    if let Some(stream) = changes.stream {
        write.open_table(META)?.insert(STREAM_KEY, stream)?;
    }
    let mut outbox = write.open_table(OUTBOX)?;
    for (position, event) in &changes.put {
        let value = [&position.stream.to_be_bytes()[..], event.as_bytes()].concat();
        outbox.insert(position.number, value.as_slice())?;
    }
    outbox.retain_in(..changes.delete_below, |_, _| false)?;
    Ok(())
}

/// Damage that a panic of redb shows.
fn damage(panic: String) -> redb::Error {
    redb::Error::Corrupted(panic)
}

/// Makes the file readable for volboot's user only: boot times of machines are confidential.
fn restrict_permissions(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Corrupted(_) | redb::Error::RepairAborted | redb::Error::UpgradeRequired(_) => true,
        // The file is not a redb database.
        redb::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}
