//! The records that decide about the boots of a node: its fallback, its boot window, and a one-time boot in use.

use serde_json::json;
use uuid::Uuid;
use volboot::model::{
    BootOnce, BootWindow, BootWindowStage, Chap, Fallback, FallbackInForce, FallbackSecret, FallbackSource,
    FallbackState, Node, OnceSource, SanUri, StorageInterface, VolumeTarget, WatchedBoot, WatchedStage,
};
use volboot::store::{FallbackBasis, Inventory};

use super::records::properties;

const NODE: Uuid = Uuid::from_u128(14);
const PATH: &str = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:spare";

/// A node with a fallback on a fixed target, every field set.
pub(super) struct BootRecords {
    pub(super) node: Node,
    target: VolumeTarget,
    state: FallbackState,
    secret: FallbackSecret,
    /// The volume that reported `up`.
    up: FallbackSource,
    window: BootWindow,
    /// One that a boot session has got.
    once: BootOnce,
}

impl BootRecords {
    pub(super) fn new() -> Self {
        let now = "2026-11-24T12:00:00.5Z".parse().expect("a time");
        let path: SanUri = PATH.parse().expect("a path");
        let second = PATH.replace("192.0.2.1", "192.0.2.2").parse().expect("a path");
        let fallback = Fallback {
            loader: Some("\\EFI\\debian\\shimx64.efi".parse().expect("a path")),
            with_data: true,
            shared: true,
            ..Fallback::new(FallbackSource::Target { name: Some("spare".into()), paths: vec![path, second] })
        };
        let node = Node::new(NODE, "redfish", StorageInterface::External, now);
        let target = VolumeTarget::new(Uuid::from_u128(15), NODE, 0, "own", now);
        let target = VolumeTarget {
            properties: properties(json!({
                "target_portal": "192.0.2.1:3260", "target_iqn": "iqn.2010-10.org.example:own", "target_lun": 1,
            })),
            ..target
        };
        let up = FallbackSource::of_target(&StorageInterface::External, &target).expect("a target");
        let chap = || Chap { username: "ann".into(), password: "a-long-secret".into() };
        let boot = WatchedBoot {
            stage: WatchedStage::Hooked,
            scripts: 2,
            hooks: 1,
            clock: "0a".into(),
            instances: vec!["session-1".into(), "session-2".into()],
            is_down: true,
            doubt: Some("a report of the machine was dropped".into()),
            ..WatchedBoot::begin("0b", "own")
        };
        let in_force = FallbackInForce {
            since: now,
            failed_boots: 3,
            failed_volume: "own".into(),
            source: fallback.source.key(),
        };
        Self {
            state: FallbackState {
                failed_boots: 2,
                last_reset: Some("the node reported up".into()),
                boot: Some(boot),
                may_run: true,
                in_force: Some(in_force),
            },
            secret: FallbackSecret { target: fallback.source.key(), chap: chap() },
            node: Fallback::write(Some(&fallback), node),
            target,
            up,
            window: BootWindow {
                extension: 75,
                journey: Some("0b".into()),
                stage: BootWindowStage::Hooked,
                ..BootWindow::open(now, true)
            },
            once: BootOnce {
                uuid: Uuid::from_u128(16),
                created_at: now,
                node_uuid: NODE,
                source: OnceSource::from_target(
                    &PATH.parse().expect("a path"),
                    Some(("ann", "a-long-secret")),
                ),
                with_volumes: true,
                shared: true,
                expires_at: "2026-11-24T13:00:00.5Z".parse().expect("a time"),
                journey: Some("0b".into()),
                consumed_at: Some(now),
                earlier_volume: Some("9c6f7d51-4e50-4f61-8c73-8d9e0f1a2b3d".into()),
            },
        }
    }

    pub(super) async fn write(&self, inventory: &Inventory) {
        inventory.create(&self.node).await.expect("creates");
        inventory.create(&self.target).await.expect("creates");
        inventory.create(&self.once).await.expect("creates");
        let keep = |old: &Node| Ok::<_, std::convert::Infallible>(old.clone());
        let secret = Some(&self.secret);
        let written = inventory.set_fallback(NODE, FallbackBasis::default(), secret, keep).await;
        assert!(written.expect("writes").is_some());
        let records = inventory.fallbacks();
        let snapshot = records.read(NODE, None).await.expect("reads").expect("exists");
        assert!(records.replace(&snapshot, &self.state).await.expect("writes"));
        records.note_up(NODE, &self.up).await.expect("writes");
        inventory.open_boot_window(NODE, &self.window).await.expect("writes");
    }

    pub(super) async fn assert_in(&self, inventory: &Inventory) {
        let snapshot = inventory.fallbacks().read(NODE, Some(self.target.uuid)).await.expect("reads");
        let snapshot = snapshot.expect("exists");
        assert_eq!((&snapshot.node, snapshot.target.as_ref()), (&self.node, Some(&self.target)));
        assert_eq!((&snapshot.state, snapshot.secret.as_ref()), (&self.state, Some(&self.secret)));
        assert!(snapshot.has_reported_up());
        let with_fallback = inventory.find_node_with_fallback(|_| true).await.expect("lists");
        assert_eq!(with_fallback.as_ref(), Some(&self.node));
        assert_eq!(inventory.read_boot_window(NODE).await.expect("reads"), Some(self.window.clone()));
        assert_eq!(inventory.find_boot_once(NODE).await.expect("reads"), Some(self.once.clone()));
    }
}
