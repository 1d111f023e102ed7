//! [`import_into_etcd`]: fills an empty prefix from an export, in a way that no instance ever serves a part of it.
//!
//! 1. The identity is written with the mark of an incomplete copy ([`BulkWork::Copying`]). Instances refuse it.
//! 2. All records are written, in transactions that require this mark.
//! 3. All records are read back at one revision. Their number and digest are those of what was written.
//! 4. The mark is removed, with a higher epoch: mirrors of earlier records are loaded again.
//!
//! After an interruption, the next attempt finds the mark, deletes what is there, and begins again.

use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::bulk::{BulkError, BulkWriter};
use super::client::EtcdClient;
use super::error::RpcError;
use super::identity::{self, BulkWork, Identity};
use super::keys::{Layout, all_under};
use super::messages::{Operation, RangeRequest, RangeResponse, key_text, revision};
use super::source::read_page;
use super::{announcement, transaction::put};
use crate::config::EtcdConfig;
use crate::store::backup::{CopyHook, CopyStep, ExportReader, ImportError, ImportedRecords};
use crate::store::contract::{OpenError, Record, StoreError};
use crate::store::mirror::Mirror;
use crate::store::schema;

/// The deadline of each read before the copy.
const DEADLINE: Duration = Duration::from_secs(20);
/// Records between two calls of the hook, at most.
const PAGE: usize = 1000;
/// The bytes of these records, unless one is larger.
const PAGE_BYTES: usize = 8 << 20;

/// Fills the prefix of `config` from an export. `store` is `[store] path`: the identity of the mirror beside it goes on,
/// so that the mirrors of all instances stay valid for this cluster.
///
/// Reads the export on the calling thread, which must not be one of the runtime's.
pub async fn import_into_etcd<R: BufRead>(
    config: EtcdConfig,
    store: &Path,
    mut export: ExportReader<R>,
    hook: CopyHook<'_>,
) -> Result<ImportedRecords, ImportError> {
    let header = export.header().clone();
    schema::check(schema::STEPS, header.schema, "the export")?;
    let layout = Layout::new(&config.prefix);
    let client = EtcdClient::new(config);
    let mut writer = begin(&client, &layout, header.schema, store).await?;
    hook(CopyStep::Marked);
    clear(&mut writer).await?;
    let mut written = RecordDigest::default();
    let mut has_more = true;
    while has_more {
        let page;
        (page, has_more) = next_page(&mut export)?;
        for record in &page {
            written.add(record);
        }
        let puts = page.into_iter().map(|record| put(layout.record(&record.key), record.value, 0));
        write(&writer, puts.collect()).await?;
        hook(CopyStep::Written(export.records()));
    }
    if read_back(&client, &layout).await? != written.finish() {
        return Err(ImportError::Different(location(&layout)));
    }
    hook(CopyStep::Verified);
    let complete = Identity { work: None, ..writer.identity.clone() };
    writer.set_identity(complete, true).await.map_err(|error| failed(&layout, error))?;
    hook(CopyStep::Finished);
    Ok(ImportedRecords { records: export.records(), revision: writer.revision() })
}

/// Checks that the prefix is empty or has an incomplete copy, and marks it.
async fn begin<'a>(
    client: &'a EtcdClient,
    layout: &'a Layout,
    schema: u64,
    store: &Path,
) -> Result<BulkWriter<'a>, ImportError> {
    let by = Instant::now() + DEADLINE;
    let found = identity::read(client, layout, by).await.map_err(StoreError::from)?;
    let present = match &found {
        None => None,
        Some(key) => {
            let foreign = || ImportError::ForeignKeys(location(layout), "meta/cluster".into());
            Some((Identity::decode(&key.value).ok_or_else(foreign)?, key.changed))
        }
    };
    let is_incomplete =
        present.as_ref().is_some_and(|(identity, _)| matches!(identity.work, Some(BulkWork::Copying { .. })));
    if !is_incomplete {
        check_empty(client, layout, by).await?;
    }
    let (running, at) = announcement::list_running(client, layout, by).await.map_err(StoreError::from)?;
    if !running.is_empty() {
        return Err(ImportError::Running(location(layout), announcement::join_names(&running)));
    }
    let mirror = read_mirror(store)?;
    let (before, present_revision) =
        present.map_or((None, 0), |(identity, revision)| (Some(identity), revision));
    let known = match before {
        Some(before) => {
            Some(Identity { epoch: before.epoch.max(epoch_of(mirror.as_ref(), before.id)), ..before })
        }
        None => mirror,
    };
    let (id, epoch) = known.map_or_else(|| (Uuid::new_v4(), 0), |identity| (identity.id, identity.epoch));
    let work = Some(BulkWork::Copying { run: Uuid::new_v4() });
    let identity = Identity { id, epoch: epoch + 1, schema, work };
    // Neither an instance nor a record has appeared since.
    let mut untouched = vec![(layout.session(""), at)];
    if !is_incomplete {
        untouched.push((layout.record(""), 0));
    }
    let begun = BulkWriter::begin(client, layout, identity, present_revision, &untouched).await;
    begun.map_err(|error| failed(layout, error))
}

/// The epoch of the mirror, if it is of this cluster.
fn epoch_of(mirror: Option<&Identity>, id: Uuid) -> u64 {
    mirror.filter(|mirror| mirror.id == id).map_or(0, |mirror| mirror.epoch)
}

/// Fails if there are records, or keys that are not volboot's.
async fn check_empty(client: &EtcdClient, layout: &Layout, by: Instant) -> Result<(), ImportError> {
    let request = RangeRequest { limit: 1, keys_only: true, ..all_under(layout.record("")) };
    if !read_range(client, &request, by).await?.kvs.is_empty() {
        return Err(ImportError::PrefixNotEmpty(location(layout)));
    }
    let all = RangeRequest { keys_only: true, ..all_under(layout.prefix().as_bytes().to_vec()) };
    let keys = read_range(client, &all, by).await?.kvs;
    let foreign = keys.iter().find(|kv| !key_text(kv).is_some_and(|key| layout.is_own(key)));
    let name = |kv| key_text(kv).unwrap_or("one that is not UTF-8").to_owned();
    foreign.map_or(Ok(()), |kv| Err(ImportError::ForeignKeys(location(layout), name(kv))))
}

/// Deletes what an interrupted attempt has left.
async fn clear(writer: &mut BulkWriter<'_>) -> Result<(), ImportError> {
    for prefix in [writer.layout.record(""), writer.layout.staged("")] {
        writer.delete_all(prefix).await.map_err(|error| failed(writer.layout, error))?;
    }
    Ok(())
}

/// Reads records, and whether there may be more.
fn next_page<R: BufRead>(export: &mut ExportReader<R>) -> Result<(Vec<Record>, bool), ImportError> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    while page.len() < PAGE && bytes < PAGE_BYTES {
        let Some(record) = export.next_record()? else { return Ok((page, false)) };
        bytes += record.value.len();
        page.push(record);
    }
    Ok((page, true))
}

async fn write(writer: &BulkWriter<'_>, puts: Vec<Operation>) -> Result<(), ImportError> {
    writer.write(puts).await.map_err(|error| failed(writer.layout, error))
}

/// The digest and number of the records in etcd.
async fn read_back(client: &EtcdClient, layout: &Layout) -> Result<(u64, Vec<u8>), ImportError> {
    let request = RangeRequest { limit: 1, keys_only: true, ..all_under(layout.record("")) };
    let response = read_range(client, &request, Instant::now() + DEADLINE).await?;
    let at = response.header.map_or(0, |header| revision(header.revision));
    let (mut digest, mut after) = (RecordDigest::default(), None::<String>);
    loop {
        let page =
            read_page(client, layout, "", at, after.as_deref(), PAGE).await.map_err(StoreError::from)?;
        let Some(last) = page.last() else { return Ok(digest.finish()) };
        after = Some(last.key.clone());
        for record in &page {
            digest.add(record);
        }
    }
}

async fn read_range(
    client: &EtcdClient,
    request: &RangeRequest,
    by: Instant,
) -> Result<RangeResponse, ImportError> {
    let response: Result<_, RpcError> = client.call("/etcdserverpb.KV/Range", request, by).await;
    Ok(response.map_err(StoreError::from)?)
}

/// The identity of the mirror beside the store's path; `None`: there is no mirror, or an empty one.
fn read_mirror(store: &Path) -> Result<Option<Identity>, ImportError> {
    let Some(mirror) = Mirror::open_existing_blocking(store)? else { return Ok(None) };
    let source = mirror.source().map_err(|error| OpenError::Unavailable {
        location: mirror.path().display().to_string(),
        source: error.into(),
    })?;
    Ok(source.0.and_then(|text| Identity::decode(text.as_bytes())))
}

fn location(layout: &Layout) -> String {
    format!("{} in etcd", layout.prefix())
}

fn failed(layout: &Layout, error: BulkError) -> ImportError {
    match error {
        BulkError::Rpc(error) => ImportError::Etcd(error.into()),
        BulkError::Superseded => ImportError::Unusable(format!("{}: {error}", location(layout))),
    }
}

/// The number of records, and the digest of their keys and values.
#[derive(Default)]
struct RecordDigest {
    records: u64,
    digest: Sha256,
}

impl RecordDigest {
    fn add(&mut self, record: &Record) {
        self.records += 1;
        for part in [record.key.as_bytes(), &record.value] {
            self.digest.update((part.len() as u64).to_be_bytes());
            self.digest.update(part);
        }
    }

    fn finish(self) -> (u64, Vec<u8>) {
        (self.records, self.digest.finalize().to_vec())
    }
}
