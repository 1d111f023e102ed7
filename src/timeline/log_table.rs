//! The table of the [`DhcpLog`](super::dhcp_log::DhcpLog) in the history file.

use jiff::Timestamp;
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::dhcp_log::parse_row;
use super::index::MachineIndex;
use crate::telemetry::Event;

/// The rows of the log as JSON, by number.
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("dhcp_log");

/// Creates the table.
pub(super) fn prepare(write: &redb::WriteTransaction) -> Result<(), redb::Error> {
    write.open_table(LOG)?;
    Ok(())
}

/// Writes the changes of the commit in progress.
pub(super) fn write(write: &redb::WriteTransaction, index: &MachineIndex) -> Result<(), redb::Error> {
    let writes = &index.in_commit.log;
    let rows = index.dhcp_log().rows(writes);
    if rows.is_empty() && !writes.is_cleared {
        return Ok(());
    }
    let mut table = write.open_table(LOG)?;
    if writes.is_cleared {
        table.retain(|_, _| false)?;
    }
    let mut number = table.last()?.map_or(0, |(number, _)| number.value());
    for row in rows {
        number += 1;
        table.insert(number, row.as_slice())?;
    }
    Ok(())
}

/// Brings the index up to date with the log.
pub(super) fn load(
    database: &redb::Database,
    index: &mut MachineIndex,
    now: Timestamp,
) -> Result<(), redb::Error> {
    let table = database.begin_read()?.open_table(LOG)?;
    for row in table.iter()? {
        let (_, row) = row?;
        let (evicted, requests) = parse_row(row.value());
        for id in evicted {
            index.evict_logged(id);
        }
        for (key, event) in requests {
            index.restore_logged(key, Event { at: event.at.min(now), ..event });
        }
    }
    Ok(())
}
