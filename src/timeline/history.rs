//! [`History`]: the file that keeps timelines over a restart.
//!
//! A file of its own beside the store, so that what may be lost is apart from what may not: nothing in volboot waits
//! for it, and a history that cannot be read is put aside, not repaired. Every commit is one batch; an event is
//! found by its machine's number and its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;

use super::machines::{Changes, Id, Machines, Place, Track};
use crate::telemetry::Event;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const TRACKS: TableDefinition<'_, Id, &[u8]> = TableDefinition::new("machines");
const EVENTS: TableDefinition<'_, Place, &[u8]> = TableDefinition::new("events");

/// How records are written. A later one is not read by this version.
const SCHEMA: u64 = 1;
const SCHEMA_KEY: &str = "schema";
/// Memory for pages. Reading a timeline is rare, and writing touches few.
const CACHE: usize = 1 << 20;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum HistoryError {
    #[error("the history cannot be used: {0}")]
    File(#[from] redb::Error),
    #[error("the history is of a later version of volboot ({0})")]
    Later(u64),
    #[error("the history's file cannot be reached: {0}")]
    Io(#[from] io::Error),
}

/// The open file.
#[derive(Debug)]
pub(super) struct History {
    database: Database,
}

impl History {
    /// Opens the file, or makes it. One that is damaged is put aside under another name first.
    pub(super) fn open(path: &Path) -> Result<Self, HistoryError> {
        match Self::try_open(path) {
            Err(HistoryError::File(error)) if is_damage(&error) => {
                let aside = aside(path);
                tracing::warn!(%error, aside = %aside.display(), "the history is damaged: put aside, begun anew");
                fs::rename(path, aside)?;
                Self::try_open(path)
            }
            opened => opened,
        }
    }

    fn try_open(path: &Path) -> Result<Self, HistoryError> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        restrict(&file)?;
        let opened = redb::Builder::new().set_cache_size(CACHE).create(path);
        let database = opened.map_err(redb::Error::from)?;
        let write = database.begin_write().map_err(redb::Error::from)?;
        let schema = {
            let mut meta = write.open_table(META).map_err(redb::Error::from)?;
            write.open_table(TRACKS).map_err(redb::Error::from)?;
            write.open_table(EVENTS).map_err(redb::Error::from)?;
            let found = meta.get(SCHEMA_KEY).map_err(redb::Error::from)?.map(|schema| schema.value());
            if found.is_none() {
                meta.insert(SCHEMA_KEY, SCHEMA).map_err(redb::Error::from)?;
            }
            found
        };
        match schema {
            Some(later) if later > SCHEMA => return Err(HistoryError::Later(later)),
            Some(_) => write.abort().map_err(redb::Error::from)?,
            None => write.commit().map_err(redb::Error::from)?,
        }
        Ok(Self { database })
    }

    /// Puts all machines into the memory of the running volboot.
    pub(super) fn load(&self, machines: &mut Machines) -> Result<(), redb::Error> {
        let tracks = self.database.begin_read()?.open_table(TRACKS)?;
        for entry in tracks.iter()? {
            let (id, track) = entry?;
            if let Some(track) = decoded::<Track>(track.value()) {
                machines.restore(id.value(), track);
            }
        }
        Ok(())
    }

    /// A machine's events, by their numbers.
    pub(super) fn events(&self, of: Id) -> Result<Vec<(u64, Event)>, redb::Error> {
        let events = self.database.begin_read()?.open_table(EVENTS)?;
        let mut found = Vec::new();
        for entry in events.range((of, 0)..=(of, u64::MAX))? {
            let (place, event) = entry?;
            found.extend(decoded(event.value()).map(|event| (place.value().1, event)));
        }
        Ok(found)
    }

    /// Writes all that has changed, in one commit.
    pub(super) fn write(&self, changes: &Changes) -> Result<(), redb::Error> {
        let mut write = self.database.begin_write()?;
        // After a crash the file is open again at once, instead of being walked through.
        write.set_quick_repair(true);
        {
            let mut tracks = write.open_table(TRACKS)?;
            let mut events = write.open_table(EVENTS)?;
            for (id, track) in &changes.tracks {
                if let Some(track) = track {
                    tracks.insert(id, encoded(track).as_slice())?;
                } else {
                    tracks.remove(id)?;
                    events.retain_in((*id, 0)..=(*id, u64::MAX), |_, _| false)?;
                }
            }
            for (place, event) in &changes.events {
                match event {
                    Some(event) => events.insert(place, encoded(event).as_slice())?,
                    None => events.remove(place)?,
                };
            }
        }
        write.commit()?;
        Ok(())
    }
}

/// Who boots, and when, is nobody else's business.
fn restrict(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Corrupted(_) | redb::Error::RepairAborted | redb::Error::UpgradeRequired(_) => true,
        // No file of redb's at all.
        redb::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    name.into()
}

/// A record that cannot be read is passed over: it is a line in a history.
fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).inspect_err(|error| tracing::debug!(%error, "a record of the history")).ok()
}

fn encoded<T: serde::Serialize>(record: &T) -> Vec<u8> {
    // None of its maps has keys that are no texts.
    serde_json::to_vec(record).unwrap_or_default()
}
