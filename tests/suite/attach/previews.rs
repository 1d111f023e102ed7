//! Requests that attach nothing: previews, HEAD, validation, and requesters that fail the neighbour check.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request};
use tower::ServiceExt;
use uuid::Uuid;
use volboot::boot::Boot;
use volboot::config::Config;
use volboot::http::{HttpState, router};
use volboot::images::Images;
use volboot::listen::Peer;
use volboot::model::{BootAnswer, BootRequest, Mac, NeighbourCheck, Port, StorageInterface};
use volboot::neighbours::Neighbours;
use volboot::telemetry::Metrics;
use volboot::timeline::Timeline;

use super::{Site, TestMachine};
use crate::fake_cinder::{Fault, Operation};

const NODE_MAC: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
const FOREIGN_MAC: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 0x77]);

impl Site {
    /// Adds a port to the machine; returns the decisions on this site.
    async fn build_boot(&self, machine: &TestMachine) -> Boot {
        let port = Port::new(Uuid::new_v4(), machine.node.uuid, NODE_MAC, jiff::Timestamp::now());
        self.inventory.create(&port).await.expect("the record is created");
        Boot::new(self.inventory.clone(), self.attach.clone(), Arc::default(), [StorageInterface::Cinder])
    }
}

/// Sends every request that does not boot.
async fn send_read_only_requests(site: &Site, boot: &Boot, machine: &TestMachine) {
    boot.preview(&BootRequest::new(NODE_MAC)).await;
    boot.check(&machine.node).await.expect("the store is readable");
    site.check(machine).await;

    let config = Config::default();
    let timeline = Timeline::open_blocking(None, Metrics::new());
    let neighbours = Neighbours::fixed(NeighbourCheck::Unchecked);
    let state =
        HttpState::new(boot.clone(), config.boot, &config.http, Images::default(), timeline, neighbours);
    let router = router(state);
    let peer = Peer {
        remote: "192.168.0.7:1024".parse().expect("a valid address"),
        local: "192.168.0.1:8080".parse().expect("a valid address"),
        tls: false,
    };
    let request = Request::builder().method(Method::HEAD).uri(format!("/boot/{NODE_MAC}?journey=a"));
    let request = request.extension(peer).body(Body::empty()).expect("a valid request");
    assert_eq!(router.oneshot(request).await.expect("the router is infallible").status(), 200);
}

#[tokio::test]
async fn previews_head_requests_and_validation_change_neither_cinder_nor_records() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    let boot = site.build_boot(&machine).await;
    let records = site.records();
    let expect_no_changes = async |when: &str| {
        let before =
            (records.list_all().await.expect("the store is readable"), site.cinder.attachments("root"));
        site.cinder.take_calls();
        send_read_only_requests(&site, &boot, &machine).await;
        let calls = site.cinder.take_calls();
        assert!(!calls.is_empty(), "{when}");
        let is_read = |operation: &Operation| {
            matches!(operation, Operation::Volume | Operation::List | Operation::Show)
        };
        assert!(calls.iter().all(is_read), "{when}: {calls:?}");
        let after =
            (records.list_all().await.expect("the store is readable"), site.cinder.attachments("root"));
        assert_eq!(before, after, "{when}");
    };
    expect_no_changes("never attached").await;
    assert!(records.list_all().await.expect("the store is readable").is_empty());

    machine.boot(None).await;
    expect_no_changes("attached").await;

    // A pending export is left to boot requests and the reconciler.
    site.cinder.inject_fault(Operation::Export, Fault::DoneButFailed, 1);
    machine.boot(None).await;
    assert!(site.record(&machine).await.pending_export);
    expect_no_changes("pending export").await;

    site.cinder.detach_by_hand(&site.cinder.attachments("root")[0].0);
    expect_no_changes("detached by hand").await;
    site.cinder.inject_fault(Operation::Volume, Fault::Status(404), usize::MAX);
    expect_no_changes("unknown").await;
}

#[tokio::test]
async fn requesters_that_fail_the_neighbour_check_cause_no_cinder_calls() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    let boot = site.build_boot(&machine).await;
    let at = "192.0.2.7".parse().expect("a valid address");
    let request = |mac| BootRequest {
        neighbour_check: NeighbourCheck::Entry { mac, address: at },
        ..BootRequest::new(NODE_MAC)
    };
    let inconclusive = BootRequest {
        neighbour_check: NeighbourCheck::Inconclusive("the network is dark".into()),
        ..BootRequest::new(NODE_MAC)
    };

    // Before the first attachment, and with a last known connection.
    for when in ["never attached", "attached"] {
        let decision = boot.answer(&request(FOREIGN_MAC)).await;
        let BootAnswer::Refused { reason } = &decision.answer else { panic!("{when}: {decision:?}") };
        assert!(
            reason.starts_with(&format!("node web-1: no port has the address {FOREIGN_MAC}")),
            "{reason}"
        );
        assert!(
            matches!(boot.preview(&request(FOREIGN_MAC)).await.answer, BootAnswer::Refused { .. }),
            "{when}"
        );
        assert!(matches!(boot.answer(&inconclusive).await.answer, BootAnswer::Wait { .. }), "{when}");
        assert!(decision.resolutions.is_empty(), "{when}");
        assert_eq!(site.cinder.take_calls(), [], "{when}");

        assert!(matches!(boot.answer(&request(NODE_MAC)).await.answer, BootAnswer::Boot(_)), "{when}");
        assert!(!site.cinder.take_calls().is_empty(), "{when}");
    }
}
