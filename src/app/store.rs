//! Opens the configured store.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::error::StartError;
use super::systemd;
use crate::config::{StoreConfig, StoreKind};
use crate::store::{RedbStore, Store};

/// Opens the store. `session`: how long a shared store keeps the work of an instance that does not respond.
/// `runtime` runs the tasks of a store in etcd; the calling thread is none of its own.
pub(super) fn open_store_blocking(
    config: &StoreConfig,
    session: Duration,
    runtime: &Handle,
) -> Result<Arc<dyn Store>, StartError> {
    match config.kind {
        StoreKind::Redb => {
            Ok(Arc::new(RedbStore::open_with_progress(&config.path, systemd::notify_checking)?))
        }
        #[cfg(feature = "etcd")]
        StoreKind::Etcd => {
            let open = crate::store::EtcdStore::open(config.etcd.clone(), &config.path, session);
            Ok(Arc::new(runtime.block_on(open)?))
        }
        #[cfg(not(feature = "etcd"))]
        StoreKind::Etcd => {
            let _ = (runtime, session);
            Err(StartError::NoEtcd)
        }
    }
}
