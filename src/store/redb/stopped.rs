//! [`StoppedStore`]: the records of a file that no server uses, for a copy.

use std::path::Path;
use std::sync::Arc;

use redb::Database;

use super::file::{open_error, run};
use super::integrity::FileState;
use super::open::Source;
use super::snapshot::RedbSnapshot;
use crate::store::backup::ImportError;
use crate::store::contract::{OpenError, Snapshot};
use crate::store::panics::CatchDrop;
use crate::store::schema;

/// An open file, unchanged by its use. It is locked until the drop, so no server starts meanwhile.
pub struct StoppedStore {
    location: String,
    database: Arc<CatchDrop<Database>>,
    _lock: Source,
}

impl StoppedStore {
    /// Checks the whole file, and opens it for reading. An older schema is migrated in memory. Blocks.
    pub fn open_blocking(path: &Path) -> Result<Self, ImportError> {
        let source = Source::new(path, schema::STEPS);
        let location = source.location();
        if matches!(source.verify(|_| {})?, FileState::New) {
            return Err(ImportError::Unusable(format!(
                "{location} does not exist: there is nothing to copy"
            )));
        }
        let database = source.open_read_only()?.database;
        Ok(Self { location, database, _lock: source })
    }

    /// All records.
    pub fn snapshot(&self) -> Result<Box<dyn Snapshot>, OpenError> {
        let snapshot = run(|| RedbSnapshot::new(&self.database));
        Ok(Box::new(snapshot.map_err(|error| open_error(&self.location, error))?))
    }
}
