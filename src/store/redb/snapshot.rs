//! [`RedbSnapshot`]: a read transaction, which shows the records of one revision.

use std::ops::Bound;
use std::sync::Arc;

use redb::{Database, ReadTransaction, ReadableDatabase};

use super::file::{META, RECORDS, REVISION, SCHEMA, run, unavailable};
use super::read::record;
use crate::store::contract::{Record, Revision, Snapshot, StoreError, StoreFuture};
use crate::store::local::list_start;
use crate::store::schema::Schema;

/// A snapshot of a redb store.
pub(in crate::store) struct RedbSnapshot {
    transaction: Arc<ReadTransaction>,
    revision: Revision,
    schema: u64,
}

impl RedbSnapshot {
    pub(in crate::store) fn new(database: &Database) -> Result<Self, redb::Error> {
        let transaction = database.begin_read()?;
        let meta = transaction.open_table(META)?;
        let revision = meta.get(REVISION)?.map_or(0, |value| value.value());
        let schema = meta.get(SCHEMA)?.map_or(Schema::CURRENT.version(), |value| value.value());
        Ok(Self { transaction: Arc::new(transaction), revision, schema })
    }
}

impl Snapshot for RedbSnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn schema(&self) -> u64 {
        self.schema
    }

    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> StoreFuture<'a, Vec<Record>> {
        let transaction = Arc::clone(&self.transaction);
        let after = after.map(str::to_owned);
        Box::pin(async move {
            let read = move || run(|| read_page(&transaction, after.as_deref(), limit)).map_err(unavailable);
            let result = tokio::task::spawn_blocking(read).await;
            result.map_err(|error| StoreError::Unavailable(error.to_string())).flatten()
        })
    }
}

fn read_page(
    transaction: &ReadTransaction,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Record>, redb::Error> {
    let records = transaction.open_table(RECORDS)?;
    let mut page = Vec::new();
    for entry in records.range::<&str>((list_start("", after), Bound::Unbounded))?.take(limit) {
        let (key, value) = entry?;
        page.push(record(key.value(), value.value()));
    }
    Ok(page)
}
