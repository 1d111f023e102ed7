//! What is asked without attaching anything: previews, headers, validation, and who may not be the machine they say.

use axum::body::Body;
use axum::http::{Method, Request};
use tower::ServiceExt;
use uuid::Uuid;
use volboot::boot::Boot;
use volboot::config::{BootConfig, Config};
use volboot::http::{Machines, router};
use volboot::images::Images;
use volboot::listen::Peer;
use volboot::model::{Answer, Asker, Mac, Port, Seen, StorageInterface};
use volboot::telemetry::Metrics;
use volboot::timeline::Timeline;

use super::{Machine, Site};
use crate::fake_cinder::{Fault, Kind};

const CARD: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
const STRANGER: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 0x77]);

impl Site {
    /// Decides over this site; its machine has a card.
    async fn boot(&self, machine: &Machine) -> Boot {
        let port = Port::new(Uuid::new_v4(), machine.node.uuid, CARD, jiff::Timestamp::now());
        self.inventory.create(&port).await.expect("creates");
        Boot::new(self.inventory.clone(), self.attach.clone(), [StorageInterface::Cinder])
    }
}

/// Everything that can be asked without booting.
async fn asked_without_booting(site: &Site, boot: &Boot, machine: &Machine) {
    boot.preview(&Asker::new(CARD)).await;
    boot.faults(&machine.node, &machine.connectors, &machine.targets).await;
    site.attach.examine(machine.node.uuid, &machine.targets).await;

    let config = Config::default();
    let boot_config = BootConfig { verify_mac: false, ..config.boot };
    let timeline = Timeline::open(None, Metrics::new());
    let door = router(Machines::new(boot.clone(), boot_config, &config.http, Images::default(), timeline));
    let peer = Peer {
        remote: "192.168.0.7:1024".parse().expect("an address"),
        local: "192.168.0.1:8080".parse().expect("an address"),
        tls: false,
    };
    let request = Request::builder().method(Method::HEAD).uri(format!("/boot/{CARD}?journey=a"));
    let request = request.extension(peer).body(Body::empty()).expect("a request");
    assert_eq!(door.oneshot(request).await.expect("answers").status(), 200);
}

#[tokio::test]
async fn previews_headers_and_validation_neither_change_anything_in_cinder_nor_a_record() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    let boot = site.boot(&machine).await;
    let records = site.records();
    let nothing_changes = async |when: &str| {
        let before = (records.all().await.expect("reads"), site.cinder.attachments("root"));
        site.cinder.calls();
        asked_without_booting(&site, &boot, &machine).await;
        let calls = site.cinder.calls();
        assert!(!calls.is_empty(), "{when}");
        let only_looks = |kind: &Kind| matches!(kind, Kind::Volume | Kind::List | Kind::Show);
        assert!(calls.iter().all(only_looks), "{when}: {calls:?}");
        let after = (records.all().await.expect("reads"), site.cinder.attachments("root"));
        assert_eq!(before, after, "{when}");
    };
    nothing_changes("never attached").await;
    assert!(records.all().await.expect("reads").is_empty());

    machine.gets(None).await;
    nothing_changes("attached").await;

    // An open obligation is met by whoever works on it, not by who looks.
    site.cinder.fault(Kind::Export, Fault::DoneButFailed, 1);
    machine.gets(None).await;
    assert!(site.record(&machine).await.unanswered);
    nothing_changes("not answered").await;

    site.cinder.detach_by_hand(&site.cinder.attachments("root")[0].0);
    nothing_changes("detached by hand").await;
    site.cinder.fault(Kind::Volume, Fault::Status(404), usize::MAX);
    nothing_changes("unknown").await;
}

#[tokio::test]
async fn for_a_strangers_card_nothing_is_asked_of_cinder_and_for_the_nodes_own_it_is() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    let boot = site.boot(&machine).await;
    let at = "192.0.2.7".parse().expect("an address");
    let seen = |mac| Asker { seen: Seen::Card { mac, at }, ..Asker::new(CARD) };
    let unclear = Asker { seen: Seen::Unclear("the network is dark".into()), ..Asker::new(CARD) };

    // Neither before the volume was ever attached, nor when there is something that could be told.
    for when in ["never attached", "attached"] {
        let refused = boot.answer(&seen(STRANGER)).await;
        let Answer::Refuse { reason } = &refused.answer else { panic!("{when}: {refused:?}") };
        assert!(
            reason.starts_with(&format!("node web-1 has no port with the address {STRANGER}")),
            "{reason}"
        );
        assert!(matches!(boot.preview(&seen(STRANGER)).await.answer, Answer::Refuse { .. }), "{when}");
        assert!(matches!(boot.answer(&unclear).await.answer, Answer::Wait { .. }), "{when}");
        assert!(refused.resolved.is_empty(), "{when}");
        assert_eq!(site.cinder.calls(), [], "{when}");

        assert!(matches!(boot.answer(&seen(CARD)).await.answer, Answer::Boot(_)), "{when}");
        assert!(!site.cinder.calls().is_empty(), "{when}");
    }
}
