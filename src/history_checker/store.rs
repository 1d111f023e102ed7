//! [`InstanceStore`]: the shared store as one instance reaches it.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::link::{Link, WriteFate, store_away};
use crate::store::{
    Batch, ChangeSet, Claim, ClaimHolder, ClaimId, Cluster, Freshness, Instance, MemoryStore, Record,
    Revision, Snapshot, Store, StoreAccess, StoreError, StoreFuture, StoreInfo, WriteError,
};

/// A handle of the shared store behind the instance's link.
#[derive(Debug)]
pub(super) struct InstanceStore {
    pub(super) session: Arc<MemoryStore>,
    pub(super) link: Arc<Link>,
}

impl InstanceStore {
    /// Sends a request, and waits for its response.
    async fn exchange<T>(
        &self,
        name: impl Display,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let name = name.to_string();
        self.link.reach_store(&name).await?;
        let result = request.await;
        self.link.return_from_store(&name).await?;
        result
    }
}

/// The name of a request for these keys, which is the same in each run of a seed: without the random ids of records.
fn name<'a>(keys: impl Iterator<Item = &'a String>) -> String {
    let name = |key: &'a String| match key.split_once('/') {
        Some((kind, _)) if kind != "attachment" => kind,
        Some(_) | None => key,
    };
    keys.map(name).collect()
}

impl Store for InstanceStore {
    fn get<'a>(&'a self, keys: &'a [String]) -> StoreFuture<'a, Vec<Option<Record>>> {
        Box::pin(self.exchange(name(keys.iter()), self.session.get(keys)))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Record>> {
        Box::pin(self.exchange(prefix, self.session.list(prefix, after, limit)))
    }

    fn write(&self, batch: Batch) -> StoreFuture<'_, Revision, WriteError> {
        Box::pin(async move {
            let name = name(batch.put.iter().map(|(key, _)| key).chain(&batch.delete));
            self.link.reach_store(&name).await?;
            let fate = self.link.write_fate(&name);
            let result = match fate {
                WriteFate::Lost => Err(store_away().into()),
                WriteFate::Done | WriteFate::Unknown => self.session.write(batch).await,
            };
            self.link.return_from_store(&name).await?;
            if fate == WriteFate::Unknown { Err(store_away().into()) } else { result }
        })
    }

    fn changes(&self, after: Revision, limit: usize) -> StoreFuture<'_, ChangeSet> {
        Box::pin(self.exchange(after, self.session.changes(after, limit)))
    }

    fn wait_for_change(&self, after: Revision) -> StoreFuture<'_, Revision> {
        Box::pin(async move {
            let revision = self.session.wait_for_change(after).await?;
            self.link.wait_for_store().await;
            self.link.return_from_store("feed").await?;
            Ok(revision)
        })
    }

    fn access(&self) -> StoreAccess {
        match self.freshness() {
            Freshness::Fresh => StoreAccess::ReadWrite,
            Freshness::Stale { reason, .. } => StoreAccess::ReadOnly(reason),
        }
    }

    fn freshness(&self) -> Freshness {
        match self.link.known_outage() {
            None => Freshness::Fresh,
            Some(outage) => {
                Freshness::Stale { age: outage.since.elapsed(), reason: store_away().to_string() }
            }
        }
    }

    fn last_known(self: Arc<Self>) -> Arc<dyn Store> {
        let records = match self.link.outage() {
            Some(outage) => outage.last_known,
            None => Arc::clone(&self.session),
        };
        records.last_known()
    }

    fn cluster(&self) -> &dyn Cluster {
        self
    }

    fn snapshot(&self) -> StoreFuture<'_, Box<dyn Snapshot>> {
        self.session.snapshot()
    }

    fn info(&self) -> StoreFuture<'_, StoreInfo> {
        self.session.info()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.session.close()
    }

    fn wait_for_failure(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        self.session.wait_for_failure()
    }
}

impl Cluster for InstanceStore {
    fn announce<'a>(&'a self, name: &'a str, record: Vec<u8>) -> StoreFuture<'a, ()> {
        self.session.cluster().announce(name, record)
    }

    fn has_session(&self) -> bool {
        self.session.cluster().has_session()
    }

    fn instances(&self) -> StoreFuture<'_, Vec<Instance>> {
        Box::pin(self.exchange("instances", self.session.cluster().instances()))
    }

    fn claim<'a>(&'a self, work: &'a str, note: &'a [u8]) -> StoreFuture<'a, Option<Claim>> {
        Box::pin(async move {
            self.link.reach_store(work).await?;
            // A process without a session claims nothing, and a request of a killed one may arrive after its session.
            let is_closed = matches!(self.session.access(), StoreAccess::ReadOnly(_));
            if is_closed || !self.has_session() {
                return Err(store_away());
            }
            let claim = self.session.cluster().claim(work, note).await?;
            self.link.return_from_store(work).await?;
            Ok(claim)
        })
    }

    fn holder<'a>(&'a self, work: &'a str) -> StoreFuture<'a, Option<ClaimHolder>> {
        Box::pin(self.exchange(work, self.session.cluster().holder(work)))
    }

    fn annotate<'a>(&'a self, claim: &'a ClaimId, note: &'a [u8]) -> StoreFuture<'a, bool> {
        Box::pin(self.exchange(&claim.work, self.session.cluster().annotate(claim, note)))
    }

    fn release(&self, claim: Claim) -> StoreFuture<'_, ()> {
        let name = claim.id().work.clone();
        Box::pin(self.exchange(name, self.session.cluster().release(claim)))
    }
}
