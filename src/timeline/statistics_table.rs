//! The table of the [`BootStatistics`](super::statistics::BootStatistics) in the history file.

use jiff::Timestamp;
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::encoding::{decode, encode};
use super::index::MachineIndex;

/// The steps as JSON, by number.
const STEPS: TableDefinition<'_, i64, &[u8]> = TableDefinition::new("boot_statistics");

/// Creates the table.
pub(super) fn prepare(write: &redb::WriteTransaction) -> Result<(), redb::Error> {
    write.open_table(STEPS)?;
    Ok(())
}

/// Writes the changes of the commit in progress.
pub(super) fn write(write: &redb::WriteTransaction, index: &MachineIndex) -> Result<(), redb::Error> {
    let changes = &index.in_commit.statistics;
    if changes.is_empty() {
        return Ok(());
    }
    let mut table = write.open_table(STEPS)?;
    for number in changes {
        match index.statistics().step(*number) {
            Some(step) => table.insert(number, encode(step).as_slice())?,
            None => table.remove(number)?,
        };
    }
    Ok(())
}

/// Writes all steps.
pub(super) fn write_all(write: &redb::WriteTransaction, index: &MachineIndex) -> Result<(), redb::Error> {
    let mut table = write.open_table(STEPS)?;
    for (number, step) in index.statistics().steps() {
        table.insert(number, encode(step).as_slice())?;
    }
    Ok(())
}

/// Loads all steps.
pub(super) fn load(
    database: &redb::Database,
    index: &mut MachineIndex,
    now: Timestamp,
) -> Result<(), redb::Error> {
    let table = database.begin_read()?.open_table(STEPS)?;
    for entry in table.iter()? {
        let (number, step) = entry?;
        if let Some(step) = decode(step.value()) {
            index.restore_statistics(number.value(), step);
        }
    }
    index.expire_statistics(now);
    Ok(())
}
