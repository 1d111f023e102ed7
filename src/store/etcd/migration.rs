//! [`Migrator`]: raises the schema of the records in etcd, once every instance understands the new one.
//!
//! A migration is bulk work that can be interrupted at any point:
//!
//! 1. The identity is marked as migrating. From then on, no instance reads or writes records.
//! 2. The steps run over the records of that revision, and the changed ones are written as *staged* keys.
//! 3. The mark says that all are staged. Until then, no record has changed, and a successor begins again.
//! 4. Each staged record replaces the present one, and then its staged key is deleted. A successor goes on.
//! 5. The identity gets the new schema, without the mark. Every mirror is loaded again.
//!
//! Meanwhile machines boot as during an outage of etcd. A failed step changes nothing: the older schema goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch as channel;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::announcement::{join_names, list_running};
use super::bulk::{BulkError, BulkWriter};
use super::client::EtcdClient;
use super::error::RpcError;
use super::identity::{self, BulkWork, Identity};
use super::keys::{Layout, all_under};
use super::messages::{RangeRequest, key_text};
use super::session::Sessions;
use super::source::read_page;
use super::transaction::{delete, put};
use crate::store::contract::{Revision, StoreError};
use crate::store::schema::{self, Records, Schema, StepError};

/// The pause between two looks at the sessions.
const INTERVAL: Duration = Duration::from_secs(2);
/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(60);
/// The deadline of a read.
const DEADLINE: Duration = Duration::from_secs(5);
/// The claim of the instance that migrates.
const CLAIM: &str = "schema";
/// Records of each read.
const PAGE: usize = 500;
/// Staged records of each read.
const STAGED: i64 = 100;

/// The task that migrates.
pub(super) struct Migrator {
    pub(super) client: Arc<EtcdClient>,
    pub(super) layout: Layout,
    pub(super) sessions: Arc<Sessions>,
    pub(super) schema: Schema,
}

/// A migration did not take place.
#[derive(Debug, thiserror::Error)]
enum MigrationError {
    #[error(transparent)]
    Bulk(#[from] BulkError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("migration from schema {0} to {1} failed: {2}")]
    Step(u64, u64, StepError),
}

impl From<RpcError> for MigrationError {
    fn from(error: RpcError) -> Self {
        Self::Bulk(error.into())
    }
}

impl Migrator {
    /// Migrates whenever the records have an older schema than this version's.
    pub(super) async fn run(self, mut identity: channel::Receiver<Option<Identity>>) {
        let mut reported = String::new();
        loop {
            let is_old = |found: &Option<Identity>| found.as_ref().is_some_and(|found| self.is_old(found));
            if identity.wait_for(is_old).await.is_err() {
                return;
            }
            let pause = match self.try_migrate(&mut reported).await {
                Ok(()) => INTERVAL,
                Err(error @ (MigrationError::Bulk(_) | MigrationError::Store(_))) => {
                    tracing::debug!(%error, "cannot migrate the records in etcd yet");
                    INTERVAL
                }
                Err(error @ MigrationError::Step(..)) => {
                    tracing::error!(%error, "records in etcd not migrated: the older schema goes on");
                    RETRY
                }
            };
            sleep(pause).await;
        }
    }

    fn is_old(&self, identity: &Identity) -> bool {
        match identity.work {
            None => identity.schema < self.schema.version(),
            Some(BulkWork::Migrating { to, .. }) => to <= self.schema.version(),
            Some(BulkWork::Copying { .. }) => false,
        }
    }

    /// Migrates if all instances understand the new schema, and no other one migrates.
    async fn try_migrate(&self, reported: &mut String) -> Result<(), MigrationError> {
        let by = Instant::now() + DEADLINE;
        let found = identity::read(&self.client, &self.layout, by).await?;
        let Some(key) = found else { return Ok(()) };
        let Some(present) = Identity::decode(&key.value).filter(|present| self.is_old(present)) else {
            return Ok(());
        };
        let (mut running, at) = list_running(&self.client, &self.layout, by).await?;
        running.retain(|instance| instance.schema < self.schema.version());
        if !running.is_empty() {
            let older = join_names(&running);
            if *reported != older {
                let (from, to) = (present.schema, self.schema.version());
                tracing::info!(
                    from,
                    to,
                    older,
                    "records in etcd keep their schema until these instances are upgraded"
                );
                *reported = older;
            }
            return Ok(());
        }
        let claim = Arc::clone(&self.sessions).try_claim(CLAIM.to_owned(), b"").await?;
        let Some(_claim) = claim else { return Ok(()) };
        self.migrate(present, key.changed, at).await
    }

    /// Migrates, or ends the migration of another instance. No session may have been announced since `sessions_at`.
    async fn migrate(
        &self,
        present: Identity,
        revision: Revision,
        sessions_at: Revision,
    ) -> Result<(), MigrationError> {
        let started = Instant::now();
        let (from, is_staged, to) = match present.work {
            Some(BulkWork::Migrating { is_staged, to, .. }) if is_staged => (present.schema, true, to),
            _ => (present.schema, false, self.schema.version()),
        };
        let marked = |is_staged| Identity {
            work: Some(BulkWork::Migrating { run: Uuid::new_v4(), to, is_staged }),
            ..present.clone()
        };
        let untouched = [(self.layout.session(""), sessions_at)];
        let begun =
            BulkWriter::begin(&self.client, &self.layout, marked(is_staged), revision, &untouched).await;
        let mut writer = begun?;
        tracing::info!(from, to, "migration of the records in etcd begun");
        if !is_staged {
            writer.delete_all(self.layout.staged("")).await?;
            if let Err(error) = self.stage(&writer, from).await {
                if matches!(error, MigrationError::Step(..)) {
                    writer.set_identity(Identity { work: None, ..present.clone() }, true).await?;
                }
                return Err(error);
            }
            writer.set_identity(marked(true), false).await?;
        }
        self.apply_staged(&writer).await?;
        writer.set_identity(Identity { schema: to, work: None, ..present }, true).await?;
        tracing::info!(from, to, elapsed = ?started.elapsed(), "records in etcd migrated");
        Ok(())
    }

    /// Runs the steps, and writes the changed records as staged keys.
    async fn stage(&self, writer: &BulkWriter<'_>, from: u64) -> Result<(), MigrationError> {
        let records = EtcdRecords {
            client: Arc::clone(&self.client),
            layout: self.layout.clone(),
            at: writer.revision(),
            runtime: Handle::current(),
            changed: BTreeMap::new(),
        };
        let steps = self.schema.steps;
        let run = move || {
            let mut records = records;
            for (number, step) in schema::pending(steps, from) {
                step(&mut records).map_err(|error| MigrationError::Step(number, number + 1, error))?;
            }
            Ok::<_, MigrationError>(records.changed)
        };
        let changed = tokio::task::spawn_blocking(run).await;
        let changed = changed.map_err(|error| StoreError::Unavailable(error.to_string()))??;
        let staged = changed.into_iter().map(|(key, value)| {
            // The first byte tells a new value from a deletion.
            let value = value.map_or_else(|| b"-".to_vec(), |value| [b"+", value.as_slice()].concat());
            put(self.layout.staged(&key), value, 0)
        });
        Ok(writer.write(staged.collect()).await?)
    }

    /// Replaces records by the staged ones.
    async fn apply_staged(&self, writer: &BulkWriter<'_>) -> Result<(), MigrationError> {
        loop {
            let request = RangeRequest { limit: STAGED, ..all_under(self.layout.staged("")) };
            let page = writer.range(&request).await?.kvs;
            if page.is_empty() {
                return Ok(());
            }
            let (mut changes, mut done) = (Vec::new(), Vec::new());
            for kv in page {
                let Some(key) = key_text(&kv).and_then(|key| self.layout.parse_staged(key)) else { continue };
                let record = self.layout.record(key);
                changes.push(match kv.value.split_first() {
                    Some((b'+', value)) => put(record, value.to_vec(), 0),
                    _ => delete(record),
                });
                done.push(delete(kv.key));
            }
            // A staged key goes only after its record: an interruption in between repeats the change.
            writer.write(changes).await?;
            writer.write(done).await?;
        }
    }
}

/// The records of one revision, with the changes of the steps so far. For a blocking thread.
struct EtcdRecords {
    client: Arc<EtcdClient>,
    layout: Layout,
    at: Revision,
    runtime: Handle,
    /// `None`: deleted.
    changed: BTreeMap<String, Option<Vec<u8>>>,
}

impl Records for EtcdRecords {
    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StepError> {
        let mut all = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            let read = read_page(&self.client, &self.layout, prefix, self.at, after.as_deref(), PAGE);
            let page = self.runtime.block_on(read)?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            all.extend(page.into_iter().map(|record| (record.key, record.value)));
        }
        for (key, value) in
            self.changed.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix))
        {
            match value {
                Some(value) => drop(all.insert(key.clone(), value.clone())),
                None => drop(all.remove(key)),
            }
        }
        Ok(all.into_iter().collect())
    }

    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), StepError> {
        self.changed.insert(key.to_owned(), Some(value.to_vec()));
        Ok(())
    }

    fn delete(&mut self, key: &str) -> Result<(), StepError> {
        self.changed.insert(key.to_owned(), None);
        Ok(())
    }
}
