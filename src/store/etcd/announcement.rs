//! The values of sessions and claims: a header line, then bytes of the caller. And the sessions, as a copy or a migration
//! reads them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::client::EtcdClient;
use super::error::RpcError;
use super::keys::{Layout, all_under};
use super::messages::{RangeResponse, revision};
use crate::store::contract::Revision;

/// The first line of an announcement. The record follows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AnnouncementHeader {
    pub(super) name: String,
    pub(super) since: Timestamp,
    /// The newest schema that the instance understands.
    #[serde(default)]
    pub(super) schema: u64,
}

/// An announced session, as other work than this process's reads it.
pub(super) struct RunningInstance {
    pub(super) name: String,
    /// The newest schema that it understands.
    pub(super) schema: u64,
}

/// Reads the announced sessions, and the revision at which they are read.
pub(super) async fn list_running(
    client: &EtcdClient,
    layout: &Layout,
    by: Instant,
) -> Result<(Vec<RunningInstance>, Revision), RpcError> {
    let request = all_under(layout.session(""));
    let response: RangeResponse = client.call("/etcdserverpb.KV/Range", &request, by).await?;
    let at = response.header.map_or(0, |header| revision(header.revision));
    let running = response.kvs.iter().map(|kv| {
        let header = split::<AnnouncementHeader>(&kv.value).map(|(header, _)| header);
        // An announcement of a format that this version cannot read is one of an instance all the same.
        let (name, schema) = header.map_or(("an unknown instance".into(), 0), |h| (h.name, h.schema));
        RunningInstance { name, schema }
    });
    Ok((running.collect(), at))
}

/// The names for a message.
pub(super) fn join_names(running: &[RunningInstance]) -> String {
    let names: Vec<&str> = running.iter().map(|instance| instance.name.as_str()).collect();
    names.join(", ")
}

/// Joins a header line and a text of bytes.
pub(super) fn join(header: &impl Serialize, rest: &[u8]) -> Vec<u8> {
    // Cannot fail: the headers are structures of texts.
    let mut value = serde_json::to_vec(header).unwrap_or_default();
    value.push(b'\n');
    value.extend_from_slice(rest);
    value
}

/// Splits what [`join`] has joined.
pub(super) fn split<T: for<'de> Deserialize<'de>>(value: &[u8]) -> Option<(T, Vec<u8>)> {
    let end = value.iter().position(|byte| *byte == b'\n')?;
    Some((serde_json::from_slice(&value[..end]).ok()?, value[end + 1..].to_vec()))
}
