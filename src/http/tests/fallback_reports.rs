//! Dropped reports and the fallback: a boot is doubtful only if the report may have been of the machine itself.

use super::requesters::TestListener;
use super::*;
use crate::config::RequesterPolicy;
use crate::model::{FallbackState, Mac, WatchedBoot, WatchedStage};

const REPORT: &str = "/boot/52-54-00-00-00-01/event?step=up";

async fn open(check: NeighbourCheck) -> TestListener {
    let site = TestListener::open(check, RequesterPolicy::default(), &[]).await;
    let records = site.inventory.fallbacks();
    let snapshot = records.read(Uuid::from_u128(1), None).await.expect("reads").expect("a node");
    let boot = WatchedBoot { stage: WatchedStage::Hooked, hooks: 1, ..WatchedBoot::begin("a", "v") };
    let state = FallbackState { boot: Some(boot), ..FallbackState::default() };
    assert!(records.replace(&snapshot, &state).await.expect("writes"));
    site
}

/// Why the machine's boot is doubtful, once all reports are written.
async fn doubt(site: &TestListener) -> Option<String> {
    site.boot.fallback_watch().flush().await.expect("writes");
    let snapshot = site.inventory.fallbacks().read(Uuid::from_u128(1), None).await.expect("reads");
    snapshot.and_then(|snapshot| snapshot.state.boot).and_then(|boot| boot.doubt)
}

#[tokio::test]
async fn a_stranger_s_report_leaves_the_boot_alone() {
    let address = "10.99.0.7".parse().expect("an address");
    let stranger = NeighbourCheck::Entry { mac: Mac::new([0x52, 0x54, 0, 0, 0, 7]), address };
    for (check, expected) in [(stranger, false), (NeighbourCheck::NoEntry { address }, true)] {
        let site = open(check).await;
        let (status, ..) = request_from(&site.router, "10.99.0.1:9", Method::HEAD, REPORT).await;
        assert!(!status.is_success());
        assert_eq!(doubt(&site).await, None, "a report by HEAD does not count");
        let (status, ..) = site.send(REPORT, &[]).await;
        assert!(!status.is_success());
        assert_eq!(doubt(&site).await.is_some(), expected);
    }
}

#[tokio::test]
async fn a_report_over_the_rate_limit_counts_as_lost_unless_another_machine_sent_it() {
    let address = "10.99.0.7".parse().expect("an address");
    let stranger = NeighbourCheck::Entry { mac: Mac::new([0x52, 0x54, 0, 0, 0, 7]), address };
    for (check, method, expected) in [
        (stranger, Method::GET, false),
        (NeighbourCheck::Unchecked, Method::HEAD, false),
        (NeighbourCheck::Unchecked, Method::GET, true),
    ] {
        let site = open(check).await;
        // Requests that are no reports, until the limit is reached.
        let mut status = StatusCode::OK;
        for _ in 0..1000 {
            status = request_from(&site.router, "10.99.0.1:9", Method::HEAD, REPORT).await.0;
            if status == StatusCode::TOO_MANY_REQUESTS {
                break;
            }
        }
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        let (status, ..) = request_from(&site.router, "10.99.0.1:9", method.clone(), REPORT).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(doubt(&site).await.is_some(), expected, "{method}");
    }
}
