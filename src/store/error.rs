//! The errors of a store, and what else all parts of the contract need: revisions, and the futures of its methods.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;

/// The number of a write. It grows with every write to the store, whatever the keys.
pub type Revision = u64;

/// A future of a store's method. Boxed, so that `dyn Store` works.
pub type StoreFuture<'a, T, E = StoreError> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// A store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store's place cannot be reached, read or created.
    #[error("cannot open {location}")]
    Unavailable {
        /// The store, or its directory that cannot be created.
        location: String,
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another process has opened the store, which only one process can use.
    #[error("{0} is in use by another process: is volboot running already?")]
    InUse(String),
    /// A newer version of volboot wrote the store.
    #[error(
        "{location} has schema {schema}, this volboot supports up to {supported}: install the newer volboot again"
    )]
    Newer {
        /// The store.
        location: String,
        /// The store's schema.
        schema: u64,
        /// The newest schema of this version.
        supported: u64,
    },
    /// An older version wrote the store, and the back-up for a downgrade failed.
    #[error("cannot migrate {location}: the back-up to {copy} failed; the file is unchanged")]
    BackUp {
        /// The store.
        location: String,
        /// The back-up.
        copy: String,
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// An older version wrote the store, and a migration step failed.
    #[error("cannot migrate {location} from schema {from} to {to}; the file is unchanged")]
    Migration {
        /// The store.
        location: String,
        /// The schema before the failed step.
        from: u64,
        /// The schema after the failed step.
        to: u64,
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The store's content cannot be read.
    #[error(
        "{location} is damaged or not a volboot store; the file is unchanged: move it away, and restore a backup with \
         'volboot store import'"
    )]
    Damaged {
        /// The store.
        location: String,
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl OpenError {
    /// Whether a retry without an operator's action is pointless. Each retry may also copy the whole store.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Newer { .. } | Self::BackUp { .. } | Self::Migration { .. } | Self::Damaged { .. } => true,
            Self::Unavailable { .. } | Self::InUse(_) => false,
        }
    }
}

/// The store cannot be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store or its disk does not respond.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The store accepts no writes, for this reason. Nothing was changed, unless the reason says so.
    #[error("the store is read-only: {0}")]
    ReadOnly(String),
    /// The store's content cannot be decoded.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}
