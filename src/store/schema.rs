//! Schema migration: the schema number of a store, and the steps from an older number to this version's.
//!
//! A step changes records, whatever kind of store holds them. A store in a file runs all steps and writes the new number
//! in one transaction. A shared store is migrated once every instance understands the new schema: until then, newer
//! instances serve records of the older one ([`Schema::oldest`]). No store is ever served between two schemas.
//!
//! A new field alone needs no step: an older version ignores it and keeps it ([`super::encoding`]). A change that an
//! older version must not ignore is a [`Step`] at the end of [`STEPS`], with a golden store in `tests/golden/store`.
//! The older version then refuses to open the store. Such changes are:
//!
//! * a new field with a meaning that the older version must respect;
//! * a new value of a field with a closed list of values, such as a state: the older version cannot read the record;
//! * a field with a new format, or without use: as an unknown field, its old content would stay in the record for ever;
//! * index entries or records that belong to another record, and that the older version would not delete with it.

use std::error::Error;

use super::error::OpenError;

/// Migrates the records from one schema to the next. The caller commits or aborts the transaction.
pub type Step = fn(&mut dyn Records) -> Result<(), StepError>;
/// The error of a failed step.
pub type StepError = Box<dyn Error + Send + Sync>;

/// The schemas that a version of volboot understands.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// The steps from schema 1 to the newest.
    pub steps: &'static [Step],
    /// The oldest schema whose records this version serves unchanged, beside instances of an older version.
    pub oldest: u64,
}

impl Schema {
    /// This version's.
    pub const CURRENT: Self = Self { steps: STEPS, oldest: 2 };

    /// The newest schema.
    pub const fn version(&self) -> u64 {
        version(self.steps)
    }
}

/// The records of a store, within the transaction of a migration.
pub trait Records {
    /// Lists all keys with this prefix and their values, in key order.
    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StepError>;

    /// Creates or replaces a record.
    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), StepError>;

    /// Deletes a record. A missing key is no error.
    fn delete(&mut self, key: &str) -> Result<(), StepError>;
}

/// The schema since which a node may have a one-time boot, and a fallback.
pub(super) const BOOT_ONCE_AND_FALLBACK: u64 = 3;

/// From schema 1 to 2, from 2 to 3, and so on.
pub(super) const STEPS: &[Step] = &[ADD_RULES_OF_SCHEMA_2, ADD_RULES_OF_SCHEMA_3];

/// Schema 2: an attachment may be borrowed (`ownership`). An older version would delete the attachment in Cinder, which
/// is the Compute service's. A node may be protected, and may have an allocation: an older version would undeploy or
/// delete the node, and leave the allocation. Existing records need no change.
const ADD_RULES_OF_SCHEMA_2: Step = |_| Ok(());

/// Schema 3: a node may have a one-time boot, whose volume is attached without a volume target. An older version would
/// boot the node's own volumes, and would keep the record and the attachment after the node. The same goes for a fallback
/// with its state and its secret. Existing records need no change.
const ADD_RULES_OF_SCHEMA_3: Step = |_| Ok(());

/// The schema after all steps.
pub(super) const fn version(steps: &[Step]) -> u64 {
    1 + steps.len() as u64
}

/// Refuses a store whose schema is newer than all steps, or never existed.
pub(super) fn check(steps: &[Step], schema: u64, location: &str) -> Result<(), OpenError> {
    let supported = version(steps);
    if (1..=supported).contains(&schema) {
        return Ok(());
    }
    Err(OpenError::Newer { location: location.to_owned(), schema, supported })
}

/// The steps that a store of this schema still needs, each with the schema that it starts from.
pub(super) fn pending(steps: &[Step], schema: u64) -> impl Iterator<Item = (u64, Step)> {
    (1..).zip(steps.iter().copied()).skip_while(move |(from, _)| *from < schema)
}
