//! [`TurnKeeper`]: the limit of concurrent resolutions, over all instances.
//!
//! Cinder is the bottleneck of a boot storm, so `[cinder] resolutions` means all instances together. A fixed share each
//! would be wrong behind a virtual IP address, where one instance has all machines. So an instance with a queue takes free
//! turns, and gives back turns that it has not used for [`IDLE_TIME`]. While other instances have a queue, it gives unused
//! turns back at once, and keeps at most an equal share. The turns of a dead instance are free once it no longer confirms its share: see
//! [`super::share_watch`].
//!
//! An instance that is alone has all turns, and writes nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use super::resolver::Resolver;
use super::share_watch::ShareWatch;
use super::state::State;
use crate::store::{StoreError, TurnShare};

/// How long an instance keeps turns that it does not use, while no other instance has a queue.
const IDLE_TIME: Duration = Duration::from_secs(5);
/// The interval at which the shares are read, and confirmed while others wait. A queue without turns is looked at once.
const INTERVAL: Duration = Duration::from_millis(500);
/// Attempts at a change of the shares, before the next interval.
const ATTEMPTS: usize = 10;

/// Takes turns and gives them back.
#[derive(Debug)]
pub(super) struct TurnKeeper {
    state: Arc<State>,
    resolver: Arc<Resolver>,
    /// Since when more turns are held than needed.
    idle_since: Option<Instant>,
    watch: ShareWatch,
    /// When the own share was last confirmed.
    confirmed_at: Option<Instant>,
}

/// What decides about the turns of an instance.
#[derive(Debug, Clone, Copy)]
struct Demand {
    limit: usize,
    /// The turns that it holds.
    held: usize,
    /// The resolutions that run or wait.
    needed: usize,
    /// The turns that the others hold.
    held_elsewhere: usize,
    /// The other instances whose resolutions wait.
    rivals: usize,
}

impl Demand {
    /// The turns that the instance should hold. `keeps_idle`: unused turns are kept for now, unless another instance waits.
    fn find_share(self, keeps_idle: bool) -> usize {
        let needed = if keeps_idle && self.rivals == 0 { self.needed.max(self.held) } else { self.needed };
        let equal = if self.rivals == 0 { self.limit } else { (self.limit / (self.rivals + 1)).max(1) };
        needed.min(equal).min(self.limit.saturating_sub(self.held_elsewhere))
    }
}

impl TurnKeeper {
    pub(super) fn new(state: Arc<State>, resolver: Arc<Resolver>) -> Self {
        Self { state, resolver, idle_since: None, watch: ShareWatch::default(), confirmed_at: None }
    }

    /// Runs until dropped.
    pub(super) async fn run(mut self) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let queue = self.resolver.queue();
            let deadline = self.watch.next_deadline();
            tokio::select! {
                _ = interval.tick() => {}
                () = queue.wait_for_demand() => {}
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
            }
            // Without the store, the turns stay as they are.
            if let Err(error) = self.adjust().await {
                tracing::debug!(%error, "cannot share turns");
                self.watch.reset();
            }
        }
    }

    async fn adjust(&mut self) -> Result<(), StoreError> {
        let queue = self.resolver.queue();
        let records = &self.state.records;
        let instances = records.cluster().instances().await?;
        let own = instances.iter().find(|instance| instance.is_self);
        let Some(own) = own.filter(|_| instances.len() > 1) else {
            self.watch.reset();
            queue.set_queued_elsewhere(0);
            queue.set_turns(queue.limit());
            return Ok(());
        };
        for _ in 0..ATTEMPTS {
            let mut shares = records.read_turns().await?;
            let old = shares.shares.clone();
            shares.shares.retain(|session, _| instances.iter().any(|instance| instance.session == *session));
            self.watch.note(&shares.shares);
            let all_others = || shares.shares.iter().filter(|(session, _)| **session != own.session);
            let others = || all_others().filter(|(session, _)| self.watch.is_confirmed(session));
            let queued_elsewhere: usize = others().map(|(_, share)| share.queued).sum();
            let (held, queued, running) = (queue.held(), queue.queued(), queue.running());
            let demand = Demand {
                limit: queue.limit(),
                held,
                needed: running + queued,
                held_elsewhere: others().map(|(_, share)| share.turns).sum(),
                rivals: others().filter(|(_, share)| share.queued > 0).count(),
            };
            let keeps_idle = if demand.needed >= held {
                self.idle_since = None;
                true
            } else {
                self.idle_since.get_or_insert_with(Instant::now).elapsed() < IDLE_TIME
            };
            let turns = demand.find_share(keeps_idle);
            queue.set_queued_elsewhere(queued_elsewhere);
            if turns < held {
                // Running resolutions keep their turns until they end.
                queue.set_turns(turns);
            }
            let confirmations = old.get(&own.session).map_or(0, |share| share.confirmations);
            let is_due = self.confirmed_at.is_none_or(|at| at.elapsed() >= INTERVAL);
            let confirms = is_due && all_others().any(|(_, share)| share.queued > 0);
            let confirmations = confirmations + u64::from(confirms);
            let share = TurnShare { turns: turns.max(queue.held()), queued, confirmations };
            shares.shares.insert(own.session.clone(), share);
            if shares.shares == old || records.write_turns(&shares).await? {
                if confirms {
                    self.confirmed_at = Some(Instant::now());
                }
                self.watch.set_waiting(queued > 0);
                queue.set_turns(turns);
                return Ok(());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_takes_what_it_needs_of_what_is_free() {
        let alone = Demand { limit: 32, held: 0, needed: 50, held_elsewhere: 0, rivals: 0 };
        for (demand, keeps_idle, share) in [
            (alone, true, 32),
            (Demand { needed: 3, ..alone }, true, 3),
            (Demand { held_elsewhere: 30, ..alone }, true, 2),
            (Demand { held: 10, needed: 3, ..alone }, true, 10),
            (Demand { held: 10, needed: 3, ..alone }, false, 3),
            // Others wait: an equal share each, and nothing unused.
            (Demand { held: 32, rivals: 1, ..alone }, true, 16),
            (Demand { held: 10, needed: 3, rivals: 1, ..alone }, true, 3),
            (Demand { held: 10, needed: 0, rivals: 1, ..alone }, true, 0),
            (Demand { held_elsewhere: 32, rivals: 1, ..alone }, true, 0),
            (Demand { limit: 1, held: 1, rivals: 3, ..alone }, true, 1),
        ] {
            assert_eq!(demand.find_share(keeps_idle), share, "{demand:?}");
        }
    }
}
