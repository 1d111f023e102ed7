//! [`Barrier`]: waits until the mirror shows everything that was written before.
//!
//! Every write of records changes the key `tick`. A barrier reads the key's revision from a quorum, and waits until the
//! mirror has that revision, by an event of the watch. One barrier serves all reads that arrived before it began.
//!
//! A key's revision is the only evidence. The revision in a response's header also counts writes of other keys, and a
//! member may report progress before it has delivered all events.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::RpcError;
use super::keys::one;
use super::messages::{AlarmRequest, AlarmResponse, NOSPACE, RangeResponse, revision};
use super::watch::Follower;
use crate::store::contract::StoreError;

/// The deadline of a barrier: longer than the election of a leader.
const DEADLINE: Duration = Duration::from_secs(3);
/// A watch that has not delivered an event after this time hangs.
const HANGING: Duration = Duration::from_millis(700);
/// The interval of barriers without a read, so that an outage is known.
const INTERVAL: Duration = Duration::from_secs(1);
/// The interval of reading etcd's alarms, in barriers.
const ALARM_INTERVAL: u64 = 10;
/// Waiting reads.
const QUEUE: usize = 4096;

/// The result of a barrier, for one read.
type BarrierSender = oneshot::Sender<Result<(), StoreError>>;

/// The handle of reads.
pub(super) struct Barrier(mpsc::Sender<BarrierSender>);

impl Barrier {
    /// Starts the task.
    pub(super) fn start(follower: Arc<Follower>, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tasks.spawn(run(follower, receiver, stop));
        Self(sender)
    }

    /// Waits until the mirror shows all writes that were acknowledged before this call.
    pub(super) async fn pass(&self) -> Result<(), StoreError> {
        let closed = || StoreError::Unavailable("the store is closed".into());
        let (sender, result) = oneshot::channel();
        self.0.send(sender).await.map_err(|_| closed())?;
        result.await.map_err(|_| closed())?
    }
}

async fn run(follower: Arc<Follower>, mut receiver: mpsc::Receiver<BarrierSender>, stop: CancellationToken) {
    let mut barriers: u64 = 0;
    loop {
        let mut waiting = Vec::new();
        tokio::select! {
            () = stop.cancelled() => return,
            first = receiver.recv() => match first {
                Some(first) => waiting.push(first),
                None => return,
            },
            () = sleep(INTERVAL) => {}
        }
        while let Ok(next) = receiver.try_recv() {
            waiting.push(next);
        }
        let result = tokio::select! {
            () = stop.cancelled() => return,
            result = pass(&follower) => result,
        };
        if let Err(error) = &result {
            follower.health.fail(&error.to_string());
        }
        let result = result.map_err(StoreError::from);
        for sender in waiting {
            // A reader may have given up.
            let _ = sender.send(result.clone());
        }
        if result.is_ok() && (barriers.is_multiple_of(ALARM_INTERVAL) || follower.health.has_no_space()) {
            read_alarms(&follower).await;
        }
        barriers += 1;
    }
}

async fn pass(follower: &Follower) -> Result<(), RpcError> {
    let asked_at = Instant::now();
    let by = asked_at + DEADLINE;
    // The records may be half of a copy, or of another cluster.
    if timeout_at(asked_at + HANGING, follower.wait_until_served()).await.is_err() {
        return Err(RpcError::NotServed(follower.health.cause()));
    }
    let known = follower.mirror.revision();
    let request = one(follower.layout.tick());
    let response: RangeResponse = follower.client.call("/etcdserverpb.KV/Range", &request, by).await?;
    let tick = response.kvs.first().map_or(0, |kv| revision(kv.mod_revision));
    let mut applied = follower.mirror.subscribe();
    // The tick's revision never goes back, unless etcd was restored or its keys were deleted.
    if tick < known {
        follower.reload();
        return Err(RpcError::Unreachable("etcd's revisions have gone back: loading all records".into()));
    }
    let is_hanging = timeout_at(by.min(Instant::now() + HANGING), applied.wait_for(|at| *at >= tick.max(1)))
        .await
        .is_err();
    if is_hanging {
        follower.renew();
        let behind = || RpcError::Unreachable("the changes of etcd do not arrive".into());
        let _ = timeout_at(by, applied.wait_for(|at| *at >= tick.max(1))).await.map_err(|_| behind())?;
    }
    follower.health.succeed(asked_at);
    Ok(())
}

/// Reads whether etcd is out of space. A member with the alarm still answers reads.
async fn read_alarms(follower: &Follower) {
    let by = Instant::now() + INTERVAL;
    let path = "/etcdserverpb.Maintenance/Alarm";
    if let Ok(response) = follower.client.call::<_, AlarmResponse>(path, &AlarmRequest {}, by).await {
        follower.health.set_no_space(response.alarms.iter().any(|alarm| alarm.alarm == NOSPACE));
    }
}
