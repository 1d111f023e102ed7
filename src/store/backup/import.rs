//! What imports into all kinds of stores share: errors, the result, and the steps that a caller may follow.

use super::ExportFormatError;
use crate::store::contract::{OpenError, Revision, StoreError};

/// Called after each step of a copy or an import into etcd.
pub type CopyHook<'a> = &'a mut dyn FnMut(CopyStep);

/// A step of a copy or an import into etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyStep {
    /// The target is marked as incomplete.
    Marked,
    /// So many records are written.
    Written(u64),
    /// All records were read back, and are those of the source.
    Verified,
    /// The mark is gone: the target can be served.
    Finished,
}

/// The result of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportedRecords {
    /// The number of records.
    pub records: u64,
    /// The revision of the store.
    pub revision: Revision,
}

/// An import or a copy failed. A file is unchanged; etcd keeps the mark, and the next attempt begins again.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The export cannot be read.
    #[error(transparent)]
    Export(#[from] ExportFormatError),
    /// The store cannot be opened or created.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The file has records.
    #[error("{0} has records, and an import needs an empty store: move the file away first")]
    NotEmpty(String),
    /// The prefix in etcd has records.
    #[error(
        "{0} has records, and an import needs an empty prefix: delete them with 'etcdctl del --prefix', or set another \
         store.etcd.prefix"
    )]
    PrefixNotEmpty(String),
    /// The prefix in etcd has keys of others.
    #[error("{0} holds keys that are not volboot's, such as {1}: set another store.etcd.prefix")]
    ForeignKeys(String, String),
    /// An instance has a session on the store.
    #[error(
        "{0} is in use by {1}: stop volboot there (the session of an instance that was killed ends by itself, after \
         cluster.session)"
    )]
    Running(String, String),
    /// The records cannot be copied.
    #[error("{0}")]
    Unusable(String),
    /// The records in etcd are not those of the source.
    #[error("the records in {0} are not those of the source: begin again")]
    Different(String),
    /// etcd does not respond, or refuses a call.
    #[error(transparent)]
    Etcd(#[from] StoreError),
}
