//! What operators want to know of etcd beyond its answers: which members respond, and whether old revisions are compacted.
//!
//! etcd keeps every old revision until it is told to compact, and its database grows up to the quota. Without
//! compaction, it ends in `NOSPACE`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use super::client::EtcdClient;
use super::error::RpcError;
use super::health::EtcdHealth;
use super::keys::Layout;
use super::messages::{Empty, StatusResponse, WatchCreateRequest, WatchRequest, WatchResponse, revision};
use crate::store::contract::Revision;

/// How often each member is asked.
const INTERVAL: Duration = Duration::from_secs(10);
/// The time-out of a member.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How often the compacted revision is read, in rounds.
const COMPACTION_ROUNDS: u64 = 6;

/// Asks all members until the stop.
pub(super) async fn run(
    client: Arc<EtcdClient>,
    layout: Layout,
    health: Arc<EtcdHealth>,
    stop: CancellationToken,
) {
    let mut rounds = interval(INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut round: u64 = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = rounds.tick() => {}
        }
        let (mut reachable, mut latest) = (0, 0);
        for member in 0..client.members() {
            if let Ok(status) = ask(&client, member).await {
                reachable += 1;
                latest = status.header.map_or(0, |header| revision(header.revision)).max(latest);
            }
        }
        health.set_members(reachable, latest);
        if round.is_multiple_of(COMPACTION_ROUNDS)
            && let Ok(compacted) = read_compacted(&client, &layout).await
        {
            health.set_compacted(compacted);
        }
        round += 1;
    }
}

async fn ask(client: &EtcdClient, member: usize) -> Result<StatusResponse, RpcError> {
    client.call_member(member, "/etcdserverpb.Maintenance/Status", &Empty {}, Instant::now() + TIMEOUT).await
}

/// The last compacted revision; 0: etcd was never compacted. A watch from the first revision is refused with it.
async fn read_compacted(client: &EtcdClient, layout: &Layout) -> Result<Revision, RpcError> {
    let key = layout.cluster();
    let create = WatchCreateRequest { range_end: Vec::new(), key, start_revision: 1 };
    let request = WatchRequest { create: Some(create) };
    let (mut stream, member) = client.open_stream("/etcdserverpb.Watch/Watch", request).await?;
    let by = Instant::now() + TIMEOUT;
    while let Ok(message) = timeout_at(by, stream.message()).await {
        let message: Option<WatchResponse> =
            message.map_err(|status| client.stream_error(member, &status))?;
        let Some(message) = message else { break };
        if message.canceled {
            return Ok(revision(message.compact_revision));
        }
        if !message.created {
            // The first revisions are still there.
            break;
        }
    }
    Ok(0)
}
