//! Tests of the single flight: each cell of its table, the session's clocks, and the limits.

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::attach::boot_session::IDLE_TTL;
use crate::attach::error::AttachError;
use crate::attach::node_identity::NodeIdentity;
use crate::model::{Connection, ConnectionSource, ConnectorProperties, Node, Properties, StorageInterface};

const NODE: Uuid = Uuid::from_u128(1);
const SESSION: Option<(&str, u32)> = Some(("a", 1));
const OTHER_SESSION: Option<(&str, u32)> = Some(("a", 2));

fn desired(volumes: &[&str]) -> Vec<DesiredAttachment> {
    let connector = ConnectorProperties {
        initiator: "iqn.2017-08.org.openstack.web-1".into(),
        host: NODE.to_string(),
        ip: None,
        multipath: false,
        mountpoint: None,
    };
    let desire = |volume: &&str| DesiredAttachment {
        node: NODE,
        volume: (*volume).to_owned(),
        target: Uuid::nil(),
        read_only: false,
        connector: connector.clone(),
        identity: Arc::new(NodeIdentity::of(
            &Node::new(NODE, "fake-hardware", StorageInterface::Cinder, Timestamp::UNIX_EPOCH),
            &[],
        )),
    };
    volumes.iter().map(desire).collect()
}

fn resolved() -> ResolvedVolume {
    let properties: Properties = serde_json::from_value(json!({
        "target_portal": "192.0.2.1:3260",
        "target_iqn": "iqn.2010-10.org.openstack:volume-root",
        "target_lun": 1,
    }))
    .expect("an object");
    ResolvedVolume {
        connection: Connection::from_cinder(&properties).expect("a valid connection"),
        source: ConnectionSource::Cinder,
        duration: Duration::ZERO,
        attachment: None,
        server: None,
    }
}

/// A single flight with the queue of its resolutions.
struct Site {
    flights: SingleFlight,
    queue: Arc<ResolutionQueue>,
}

impl Site {
    fn new() -> Self {
        Self { flights: SingleFlight::default(), queue: Arc::new(ResolutionQueue::new(1)) }
    }

    fn request(&self, journey: Option<(&str, u32)>, volumes: &[&str]) -> Entry {
        self.flights.enter(NODE, journey, desired(volumes), &self.queue, None)
    }

    /// Sends a request that has to start a resolution.
    fn start(&self, journey: Option<(&str, u32)>, volumes: &[&str]) -> (Progress, NewResolution) {
        match self.request(journey, volumes) {
            Entry::Started(progress, resolution) => (progress, resolution),
            entry => panic!("expected a new resolution, got {entry:?}"),
        }
    }

    /// Sends a request that has to be served by known results or an earlier resolution.
    fn join(&self, journey: Option<(&str, u32)>, volumes: &[&str]) -> Progress {
        match self.request(journey, volumes) {
            Entry::Joined(progress) => progress,
            entry => panic!("expected to join, got {entry:?}"),
        }
    }

    /// Stores Cinder's result for a volume.
    fn store_result(&self, volume: &str) {
        self.flights.store_result(&desired(&[volume])[0], Instant::now(), &resolved());
    }

    fn knows_result(&self, volume: &str) -> bool {
        self.flights.find_result(&desired(&[volume])[0]).is_some()
    }
}

fn finish(resolution: NewResolution) {
    resolution.sender.send_replace(Phase::Done(Arc::new(resolution.known)));
}

fn missing(resolution: &NewResolution) -> Vec<&str> {
    resolution.missing.iter().map(|desired| desired.volume.as_str()).collect()
}

#[test]
fn requests_join_a_running_resolution() {
    let site = Site::new();
    let (first, resolution) = site.start(SESSION, &["root"]);
    assert_eq!(missing(&resolution), ["root"]);
    assert!(site.join(SESSION, &["root"]).is_same(&first));
    site.store_result("root");
    assert!(site.join(OTHER_SESSION, &["root"]).is_same(&first));
    assert!(!site.knows_result("root"), "a new session has no earlier results");
}

#[test]
fn an_undelivered_result_serves_its_session_only() {
    let site = Site::new();
    let (first, resolution) = site.start(SESSION, &["root"]);
    finish(resolution);
    assert!(site.join(SESSION, &["root"]).is_same(&first));
    let (second, _resolution) = site.start(OTHER_SESSION, &["root"]);
    assert!(!second.is_same(&first));
}

#[test]
fn a_request_after_the_delivery_resolves_what_is_missing() {
    for delivery in [Delivery::Incomplete, Delivery::Complete] {
        let site = Site::new();
        let (progress, resolution) = site.start(SESSION, &["root", "data"]);
        site.store_result("root");
        finish(resolution);
        site.flights.mark_delivered(NODE, &progress, delivery);
        let (_progress, resolution) = site.start(SESSION, &["root", "data"]);
        assert_eq!((missing(&resolution), resolution.known.len()), (vec!["data"], 1), "{delivery:?}");
        finish(resolution);
    }
}

#[test]
fn a_session_with_all_results_starts_no_resolution() {
    let site = Site::new();
    let (progress, resolution) = site.start(SESSION, &["root"]);
    site.store_result("root");
    finish(resolution);
    site.flights.mark_delivered(NODE, &progress, Delivery::Complete);
    let next = site.join(SESSION, &["root"]);
    assert!(next.is_done() && !next.is_same(&progress));
}

#[test]
fn a_new_session_after_the_delivery_starts_afresh() {
    for delivery in [Delivery::Incomplete, Delivery::Complete] {
        let site = Site::new();
        let (progress, resolution) = site.start(SESSION, &["root"]);
        site.store_result("root");
        finish(resolution);
        site.flights.mark_delivered(NODE, &progress, delivery);
        let (_progress, resolution) = site.start(OTHER_SESSION, &["root"]);
        assert_eq!(missing(&resolution), ["root"], "{delivery:?}");
        assert!(!site.knows_result("root"));
    }
}

#[test]
fn requests_without_a_journey_share_a_session_until_all_volumes_are_delivered() {
    for (delivery, is_shared) in [(Delivery::Incomplete, true), (Delivery::Complete, false)] {
        let site = Site::new();
        let (progress, resolution) = site.start(None, &["root", "data"]);
        site.store_result("root");
        finish(resolution);
        assert!(site.join(None, &["root", "data"]).is_same(&progress), "the result is undelivered");
        site.flights.mark_delivered(NODE, &progress, delivery);
        let (_progress, resolution) = site.start(None, &["root", "data"]);
        assert_eq!(resolution.known.len(), usize::from(is_shared), "{delivery:?}");
    }
}

#[test]
fn a_request_for_other_volumes_replaces_the_flight() {
    let site = Site::new();
    let (first, running) = site.start(SESSION, &["root"]);
    let (second, _resolution) = site.start(SESSION, &["data"]);
    assert!(site.flights.is_current(NODE, &second) && !site.flights.is_current(NODE, &first));
    site.store_result("root");
    assert!(!site.knows_result("root"), "the flight no longer wants the volume");
    finish(running);
    site.flights.mark_delivered(NODE, &first, Delivery::Complete);
    assert!(site.join(SESSION, &["data"]).is_same(&second), "the delivery concerns the replaced flight");
}

#[tokio::test(start_paused = true)]
async fn a_result_of_an_earlier_session_is_not_stored() {
    let site = Site::new();
    let (_progress, _resolution) = site.start(SESSION, &["root"]);
    let sent_at = Instant::now();
    tokio::time::advance(Duration::from_secs(1)).await;
    site.join(OTHER_SESSION, &["root"]);
    site.flights.store_result(&desired(&["root"])[0], sent_at, &resolved());
    assert!(!site.knows_result("root"));
}

#[test]
fn only_a_finished_flight_is_forgotten() {
    let site = Site::new();
    let (first, resolution) = site.start(SESSION, &["root"]);
    site.flights.forget(NODE);
    assert!(site.join(SESSION, &["root"]).is_same(&first));
    finish(resolution);
    site.flights.forget(NODE);
    let (_progress, _resolution) = site.start(SESSION, &["root"]);
}

#[test]
fn a_resolution_without_its_task_counts_as_finished() {
    let site = Site::new();
    let (_progress, resolution) = site.start(SESSION, &["root"]);
    drop(resolution);
    let (_progress, _resolution) = site.start(OTHER_SESSION, &["root"]);
}

#[tokio::test(start_paused = true)]
async fn idle_sessions_are_evicted_unless_they_are_running() {
    let site = Site::new();
    let (first, resolution) = site.start(SESSION, &["root"]);
    tokio::time::advance(IDLE_TTL).await;
    site.flights.evict_idle();
    assert!(site.join(SESSION, &["root"]).is_same(&first));
    finish(resolution);
    tokio::time::advance(IDLE_TTL / 2).await;
    site.flights.evict_idle();
    assert!(site.join(SESSION, &["root"]).is_same(&first), "the session has a recent request");
    tokio::time::advance(IDLE_TTL).await;
    site.flights.evict_idle();
    assert!(!site.flights.is_current(NODE, &first));
}

#[tokio::test(start_paused = true)]
async fn a_session_keeps_its_clocks_over_resolutions() {
    let site = Site::new();
    let (progress, resolution) = site.start(SESSION, &["root"]);
    assert_eq!(site.flights.transient_duration(NODE), Duration::ZERO);
    finish(resolution);
    site.flights.mark_delivered(NODE, &progress, Delivery::Incomplete);
    tokio::time::advance(IDLE_TTL / 2).await;
    let (progress, resolution) = site.start(SESSION, &["root"]);
    assert_eq!(site.flights.transient_duration(NODE), IDLE_TTL / 2);
    finish(resolution);
    site.flights.mark_delivered(NODE, &progress, Delivery::Complete);
    assert_eq!(site.flights.transient_duration(NODE), Duration::ZERO, "the condition has passed");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_waits_too_long_ends() {
    let site = Site::new();
    let (mut progress, mut resolution) = site.start(SESSION, &["root"]);
    let mut waited = Duration::ZERO;
    while waited <= MAX_WAIT {
        assert_eq!(site.flights.expire_wait(NODE), None);
        finish(resolution);
        site.flights.mark_delivered(NODE, &progress, Delivery::Incomplete);
        tokio::time::advance(IDLE_TTL / 2).await;
        waited += IDLE_TTL / 2;
        (progress, resolution) = site.start(SESSION, &["root"]);
    }
    finish(resolution);
    let reason = site.flights.expire_wait(NODE).expect("the session has ended");
    assert_eq!(reason, "Cinder returned no usable result within 31 minutes");
    assert!(!site.flights.is_current(NODE, &progress));
}

#[tokio::test]
async fn followers_get_results_or_learn_that_the_task_is_gone() {
    let site = Site::new();
    let (mut progress, resolution) = site.start(SESSION, &["root"]);
    assert_eq!(progress.queue_position(), Some(1));
    let results = vec![("root".to_owned(), Err(AttachError::Refused("in use".into())))];
    resolution.sender.send_replace(Phase::Running);
    assert_eq!(progress.queue_position(), None);
    resolution.sender.send_replace(Phase::Done(Arc::new(results)));
    assert_eq!(progress.results().await.map(|results| results.len()), Some(1));
    let (mut progress, resolution) = site.start(OTHER_SESSION, &["root"]);
    drop(resolution);
    assert!(progress.results().await.is_none());
}

#[test]
fn machines_beyond_the_limit_have_to_retry() {
    let site = Site::new();
    let enter = |node: usize| {
        site.flights.enter(Uuid::from_u128(node as u128), SESSION, desired(&["root"]), &site.queue, None)
    };
    for node in 1..=MAX_IN_FLIGHT {
        assert!(!matches!(enter(node), Entry::Full));
    }
    assert!(matches!(enter(MAX_IN_FLIGHT + 1), Entry::Full));
    assert!(!matches!(enter(1), Entry::Full), "the machine is in flight already");
}
