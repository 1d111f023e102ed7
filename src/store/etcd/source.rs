//! [`EtcdSource`]: the records in etcd while no instance runs, for a copy.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::client::EtcdClient;
use super::error::RpcError;
use super::identity::{self, Identity};
use super::keys::{Layout, one};
use super::messages::{RangeRequest, RangeResponse, etcd_revision, key_text, prefix_end, revision};
use super::{announcement, guard};
use crate::config::EtcdConfig;
use crate::store::backup::ImportError;
use crate::store::contract::{Record, Revision, Snapshot, StoreError, StoreFuture};
use crate::store::schema::Schema;

/// The deadline of each read.
const DEADLINE: Duration = Duration::from_secs(30);
/// Records of each read. etcd 3.4 counts the rest of the range each time, so larger pages are faster.
const PAGE: usize = 2000;

/// The records in etcd.
pub struct EtcdSource {
    client: Arc<EtcdClient>,
    layout: Layout,
    location: String,
    schema: u64,
    /// The revision of the copied records. It is etcd's own latest one: that of the last write, which may be much older,
    /// may be compacted by now.
    revision: Revision,
    /// The revision of the last write, which is the tick's.
    written: Revision,
}

impl EtcdSource {
    /// Checks that the records are complete, and that no instance runs.
    pub async fn open(config: EtcdConfig) -> Result<Self, ImportError> {
        let layout = Layout::new(&config.prefix);
        let location = format!("{} in etcd", layout.prefix());
        let client = Arc::new(EtcdClient::new(config));
        let by = Instant::now() + DEADLINE;
        let found = identity::read(&client, &layout, by).await.map_err(StoreError::from)?;
        let Some(key) = found else {
            return Err(ImportError::Unusable(format!(
                "{location} has no records: there is nothing to copy"
            )));
        };
        let unusable = |cause: String| ImportError::Unusable(cause);
        let identity = Identity::decode(&key.value);
        let identity = identity.ok_or_else(|| unusable(format!("{location} is not volboot's")))?;
        guard::check(&identity, &layout, &Schema::CURRENT).map_err(|error| unusable(error.to_string()))?;
        let running = announcement::list_running(&client, &layout, by).await.map_err(StoreError::from)?.0;
        if !running.is_empty() {
            return Err(ImportError::Running(location, announcement::join_names(&running)));
        }
        let (written, revision) = read_tick(&client, &layout).await?;
        Ok(Self { client, layout, location, schema: identity.schema, revision, written })
    }

    /// All records.
    pub fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(EtcdSnapshot {
            client: Arc::clone(&self.client),
            layout: self.layout.clone(),
            revision: self.revision,
            schema: self.schema,
            ahead: Mutex::default(),
        })
    }

    /// Fails if an instance has written since the opening.
    pub async fn check_unchanged(&self) -> Result<(), ImportError> {
        if read_tick(&self.client, &self.layout).await?.0 == self.written {
            return Ok(());
        }
        let location = &self.location;
        Err(ImportError::Unusable(format!("{location} has changed during the copy: stop all instances")))
    }
}

/// The revision of the last write, and etcd's.
async fn read_tick(client: &EtcdClient, layout: &Layout) -> Result<(Revision, Revision), StoreError> {
    let by = Instant::now() + DEADLINE;
    let tick: RangeResponse = client.call("/etcdserverpb.KV/Range", &one(layout.tick()), by).await?;
    let written = tick.kvs.first().map_or(0, |kv| revision(kv.mod_revision));
    Ok((written, tick.header.map_or(0, |header| revision(header.revision))))
}

/// The records of one revision.
struct EtcdSnapshot {
    client: Arc<EtcdClient>,
    layout: Layout,
    revision: Revision,
    schema: u64,
    /// Records that were read with an earlier page, in order.
    ahead: Mutex<Vec<Record>>,
}

impl Snapshot for EtcdSnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn schema(&self) -> u64 {
        self.schema
    }

    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> StoreFuture<'a, Vec<Record>> {
        Box::pin(async move {
            let mut ahead = self.ahead.lock().await;
            ahead.retain(|record| after.is_none_or(|after| record.key.as_str() > after));
            if ahead.is_empty() {
                let limit = limit.max(PAGE);
                *ahead = read_page(&self.client, &self.layout, "", self.revision, after, limit).await?;
            }
            let end = limit.min(ahead.len());
            Ok(ahead.drain(..end).collect())
        })
    }
}

/// Reads records of one revision with a key prefix and after a key, in key order.
pub(super) async fn read_page(
    client: &EtcdClient,
    layout: &Layout,
    prefix: &str,
    at: Revision,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Record>, RpcError> {
    let prefix = layout.record(prefix);
    let key = after.map_or_else(|| prefix.clone(), |after| [layout.record(after).as_slice(), &[0]].concat());
    let request = RangeRequest {
        key,
        range_end: prefix_end(&prefix),
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
        revision: etcd_revision(at),
        ..RangeRequest::default()
    };
    let by = Instant::now() + DEADLINE;
    let page: RangeResponse = client.call_long("/etcdserverpb.KV/Range", &request, by).await?;
    let records = page.kvs.into_iter().filter_map(|kv| {
        let key = layout.parse_record(key_text(&kv)?)?.to_owned();
        Some(Record { key, revision: revision(kv.mod_revision), value: kv.value })
    });
    Ok(records.collect())
}
