//! A boot storm over several instances: all machines start at once, and one instance may be killed in the middle.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use volboot::model::{Attachment, AttachmentState};
use volboot::store::Store;

use crate::appliance::{Appliance, Site};
use crate::cinder_nodes::{self, volume};
use crate::fake_cinder::Operation;
use crate::storm_machine::{self, BootResult};

/// The calls of a first boot.
pub(crate) const FIRST_BOOT: [Operation; 4] =
    [Operation::List, Operation::Reserve, Operation::Export, Operation::Complete];
/// The calls of a later boot.
pub(crate) const LATER_BOOT: [Operation; 2] = [Operation::Export, Operation::Complete];

/// What came of a storm.
pub(crate) struct StormResult {
    pub(crate) boots: Vec<BootResult>,
    /// The time from the kill to the last boot.
    pub(crate) after_kill: Option<Duration>,
    /// The calls of Cinder by volume.
    calls: BTreeMap<String, Vec<Operation>>,
}

/// Enrolls machines with available volumes.
pub(crate) async fn enroll(site: &Site, machines: Range<u32>) {
    for n in machines.clone() {
        site.cinder.add_volume(&volume(n), |_| {});
    }
    let store = Arc::clone(&site.store) as Arc<dyn Store>;
    cinder_nodes::fill(&store, machines).await;
}

/// Boots all machines, evenly spread over the window and over the instances. `victim` is killed once half of the machines
/// have their scripts.
pub(crate) async fn run(
    site: &Site,
    instances: &mut [Appliance],
    machines: Range<u32>,
    window: Duration,
    victim: Option<usize>,
) -> StormResult {
    let addresses: Vec<SocketAddr> = instances.iter().map(Appliance::http).collect();
    let count = machines.end - machines.start;
    site.cinder.take_effects();
    let started_at = Instant::now();
    let mut boots = JoinSet::new();
    for (position, n) in machines.enumerate() {
        let mut servers = addresses.clone();
        servers.rotate_left(position % addresses.len());
        let start = started_at + window * (position as u32) / count;
        boots.spawn(async move {
            tokio::time::sleep_until(start.into()).await;
            storm_machine::boot(&servers, n, &cinder_nodes::mac(n).to_hyphenated()).await
        });
    }
    let (mut results, mut killed_at) = (Vec::new(), None);
    while let Some(result) = boots.join_next().await {
        results.push(result.expect("the machine boots"));
        if let Some(victim) = victim
            && results.len() as u32 == count / 2
        {
            killed_at = Some(Instant::now());
            instances[victim].kill();
        }
    }
    let after_kill = killed_at.map(|at| at.elapsed());
    StormResult { boots: results, after_kill, calls: site.cinder.take_effects() }
}

impl StormResult {
    /// Checks the calls of a storm: each volume has the necessary ones, and at most `repeated` volumes have more.
    pub(crate) fn check_calls(&self, necessary: &[Operation], repeated: usize) {
        assert_eq!(self.calls.len(), self.boots.len(), "volumes with calls");
        for (volume, calls) in &self.calls {
            let has = |call| calls.contains(call);
            assert!(necessary.iter().all(has), "{volume}: {calls:?}");
        }
        let more = self.volumes_with_more_calls(necessary);
        assert!(more.len() <= repeated, "more calls than {necessary:?} for {} volumes: {more:?}", more.len());
    }

    fn volumes_with_more_calls(&self, necessary: &[Operation]) -> Vec<&[Operation]> {
        let calls = self.calls.values().map(Vec::as_slice);
        calls.filter(|calls| calls.len() > necessary.len()).collect()
    }

    /// One line of figures.
    pub(crate) fn describe(&self, necessary: &[Operation]) -> String {
        let mut times: Vec<_> = self.boots.iter().map(|boot| boot.duration.as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        let total: usize = self.calls.values().map(Vec::len).sum();
        let more = self.volumes_with_more_calls(necessary);
        let most = more.iter().map(|calls| calls.len()).max().unwrap_or(necessary.len());
        let failed: u64 = self.boots.iter().map(|boot| boot.failed_requests).sum();
        let after_kill = self
            .after_kill
            .map_or_else(String::new, |time| format!(", {:.1} s after the kill", time.as_secs_f64()));
        format!(
            "{} scripts, median {:.1} s, last {:.1} s{after_kill}; {failed} failed requests; {:.2} calls of Cinder per \
             boot, more than {} for {} volumes, at most {most}",
            times.len(),
            times[times.len() / 2],
            times[times.len() - 1],
            total as f64 / times.len() as f64,
            necessary.len(),
            more.len(),
        )
    }
}

/// Checks that each volume has one attachment in Cinder, and one record of this attachment.
pub(crate) async fn check_attachments(site: &Site, machines: Range<u32>) {
    let records = site.records().list_all().await.expect("etcd responds");
    assert_eq!(records.len(), machines.len(), "one record per volume");
    let mut by_volume: BTreeMap<&str, &Attachment> = BTreeMap::new();
    by_volume.extend(records.iter().map(|record| (record.volume.as_str(), record)));
    for n in machines {
        let volume = volume(n);
        let record = by_volume.get(volume.as_str()).unwrap_or_else(|| panic!("no record of {volume}"));
        let id = record.cinder_id.clone().unwrap_or_default();
        assert_eq!(site.cinder.attachments(&volume), [(id, "attached")], "{record:?}");
        assert!(record.state == AttachmentState::Attached && !record.pending_export, "{record:?}");
    }
}
