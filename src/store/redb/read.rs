//! Reads of records from a database with the tables of a store.

use std::ops::Bound;

use redb::{Database, ReadableDatabase};

use super::file::RECORDS;
use crate::store::contract::{Record, Revision};
use crate::store::local::list_start;

/// At most `limit` records with this key prefix, in key order, with keys greater than `after`.
pub(in crate::store) fn list(
    database: &Database,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Record>, redb::Error> {
    let records = database.begin_read()?.open_table(RECORDS)?;
    let mut page = Vec::new();
    for entry in records.range::<&str>((list_start(prefix, after), Bound::Unbounded))?.take(limit) {
        let (key, value) = entry?;
        if !key.value().starts_with(prefix) {
            break;
        }
        page.push(record(key.value(), value.value()));
    }
    Ok(page)
}

/// The records under these keys, in the same order.
pub(in crate::store) fn get(
    database: &Database,
    keys: &[String],
) -> Result<Vec<Option<Record>>, redb::Error> {
    let records = database.begin_read()?.open_table(RECORDS)?;
    let mut result = Vec::with_capacity(keys.len());
    for key in keys {
        result.push(records.get(key.as_str())?.map(|value| record(key, value.value())));
    }
    Ok(result)
}

pub(super) fn record(key: &str, (revision, value): (Revision, &[u8])) -> Record {
    Record { key: key.to_owned(), revision, value: value.to_vec() }
}
