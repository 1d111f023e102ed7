//! The actions on a node: buttons and forms without script, confirmations, and the refusals of the API.

use std::time::Duration;

use volboot::model::ProvisionState;

use super::*;
use crate::fake_bmc::{BmcCall, BmcTrouble, FakeBmc, PASSWORD};

/// The interval between reads of a node.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The page of the node's machine.
const MACHINE: &str = "/ui/machines/52:54:00:00:00:01";

impl Site {
    async fn node(&self, node: Uuid) -> Node {
        self.inventory.get::<Node>(node).await.expect("read succeeds").expect("the node").value
    }

    async fn targets(&self, node: Uuid) -> Vec<VolumeTarget> {
        let mut targets: Vec<VolumeTarget> = self.inventory.list_all_of(node).await.expect("read succeeds");
        targets.sort_by_key(|target| target.boot_index);
        targets
    }

    async fn change(&self, node: Uuid, change: impl Fn(Node) -> Node) {
        let change = |old: &Node, _: Option<&Node>| Ok::<_, ()>(change(old.clone()));
        self.inventory.update(node, change).await.expect("update succeeds");
    }

    /// Submits an action that succeeds.
    async fn act(&self, node: Uuid, action: &str, form: &str) {
        let response = self.post(&format!("/ui/nodes/{node}/{action}"), form).await;
        let location = format!("/ui/nodes/{node}");
        assert_eq!(response.status, 303, "{}", response.body);
        assert_eq!(response.header("location"), location);
    }

    /// Submits an action that is refused, and returns the reason on the page.
    async fn refuse(&self, node: Uuid, action: &str, form: &str) -> (u16, String) {
        let response = self.post(&format!("/ui/nodes/{node}/{action}"), form).await;
        assert_eq!(response.header("content-type"), "text/html; charset=utf-8");
        let (_, rest) =
            response.body.split_once("role=\"alert\">").unwrap_or_else(|| panic!("{}", response.body));
        (
            response.status,
            rest.split("</p>").next().expect("a reason").replace("&#34;", "\"").replace("&#39;", "'"),
        )
    }
}

/// The form with what a page shows, for the control or the page of this path.
fn basis(page: &str, path: &str) -> String {
    let (_, rest) = page.split_once(&format!("action=\"{path}\"")).unwrap_or_else(|| panic!("{page}"));
    let (_, rest) = rest.split_once("name=\"basis\" value=\"").unwrap_or_else(|| panic!("{page}"));
    format!("basis={}", rest.split('"').next().expect("a value"))
}

#[tokio::test]
async fn maintenance_is_set_with_a_reason_and_cleared() {
    let site = Site::new();
    let node = site.create_node("web-1", mac(1)).await;
    let page = site.get(MACHINE).await.page();
    assert!(page.contains(&format!("href=\"/ui/nodes/{node}/maintenance\">Set</a>")), "{page}");
    assert!(site.get(&format!("/ui/nodes/{node}/maintenance")).await.page().contains("name=\"reason\""));
    site.act(node, "maintenance", "reason=fan+3+is+%3Cbroken%3E").await;
    let page = site.get(MACHINE).await.page();
    assert!(page.contains("fan 3 is &#60;broken&#62;"), "{page}");
    assert_eq!(site.node(node).await.maintenance_reason.as_deref(), Some("fan 3 is <broken>"));
    assert!(page.contains(&format!("formaction=\"/ui/nodes/{node}/maintenance/clear\"")), "{page}");
    site.act(node, "maintenance/clear", "").await;
    let cleared = site.node(node).await;
    assert_eq!((cleared.maintenance, cleared.maintenance_reason), (false, None));
}

#[tokio::test]
async fn a_machine_without_a_bmc_is_switched_by_hand_and_its_state_recorded() {
    let site = Site::new();
    let node = site.create_node("web-1", mac(1)).await;
    let page = site.get(MACHINE).await.page();
    assert!(page.contains("Driver manual-management has no BMC"), "{page}");
    assert!(page.contains(">Record: off</button>") && !page.contains(">Boot</"), "{page}");
    site.act(node, "power/off", "").await;
    assert_eq!(site.node(node).await.power_state, Some(PowerState::Off));
    let (status, reason) = site.refuse(node, "power/boot", "").await;
    assert_eq!(status, 400);
    assert_eq!(
        reason,
        "Node web-1: driver manual-management has no BMC; with driver redfish, volboot switches the machine."
    );
}

#[tokio::test]
async fn a_running_machine_is_switched_off_only_after_a_confirmation() {
    let site = Site::new();
    let node = site.create_node("web-1", mac(1)).await;
    site.change(node, |node| Node {
        driver: "redfish".into(),
        driver_info: serde_json::from_value(json!({"redfish_address": "https://192.0.2.5"}))
            .expect("an object"),
        power_state: Some(PowerState::On),
        ..node
    })
    .await;
    let page = site.get(MACHINE).await.page();
    for control in ["boot", "reboot", "off"] {
        assert!(page.contains(&format!("href=\"/ui/nodes/{node}/power/{control}\"")), "{control}: {page}");
        let page = site.get(&format!("/ui/nodes/{node}/power/{control}")).await.page();
        assert!(page.contains("<form") && page.contains("class=\"danger\""), "{page}");
        assert!(page.contains("open files may be damaged"), "{page}");
    }
    site.change(node, |node| Node { power_state: Some(PowerState::Off), ..node }).await;
    let page = site.get(MACHINE).await.page();
    for control in ["boot", "on"] {
        assert!(
            page.contains(&format!("formaction=\"/ui/nodes/{node}/power/{control}\"")),
            "{control}: {page}"
        );
    }
    // Another operation is under way.
    site.change(node, |node| Node { reservation: Some("boot-2".into()), ..node }).await;
    let page = site.get(MACHINE).await.page();
    assert!(page.contains("is locked by host boot-2") && !page.contains("/power/on\""), "{page}");
    for control in ["boot", "on", "off", "reboot"] {
        let (status, reason) = site.refuse(node, &format!("power/{control}"), "").await;
        assert_eq!(status, 409, "{reason}");
        assert!(reason.contains("is locked by host boot-2"), "{reason}");
    }
    // Invalid settings of the BMC: the reason instead of a button.
    let invalid = serde_json::from_value(json!({})).expect("an object");
    site.change(node, |node| Node { reservation: None, driver_info: Clone::clone(&invalid), ..node }).await;
    let page = site.get(MACHINE).await.page();
    assert!(page.contains("redfish_address") && !page.contains("/power/on\""), "{page}");
    let (status, reason) = site.refuse(node, "power/on", "").await;
    assert_eq!(status, 400);
    assert!(reason.contains("redfish_address"), "{reason}");
}

#[tokio::test]
async fn a_node_is_deployed_and_undeployed_in_ironic_s_steps() {
    let site = Site::new();
    let node = site.create_node("web-1", mac(1)).await;
    let offers = async |verbs: &[&str]| {
        let page = site.get(MACHINE).await.page();
        let offered: Vec<_> = ["manage", "provide", "deploy", "rebuild", "undeploy"]
            .into_iter()
            .filter(|verb| page.contains(&format!("/ui/nodes/{node}/provision/{verb}\"")))
            .collect();
        assert_eq!(offered, verbs, "{page}");
    };
    offers(&["manage"]).await;
    let (status, reason) = site.refuse(node, "provision/deploy", "").await;
    assert_eq!(status, 400);
    assert_eq!(
        reason,
        format!(
            "The requested action \"active\" can not be performed on node \"{node}\" while it is in state \"enroll\"."
        )
    );
    site.act(node, "provision/manage", "").await;
    offers(&["provide"]).await;
    site.act(node, "provision/provide", "").await;
    offers(&["manage", "deploy"]).await;
    site.act(node, "maintenance", "").await;
    let (_, reason) = site.refuse(node, "provision/deploy", "").await;
    assert!(reason.contains("because it's in maintenance mode"), "{reason}");
    site.act(node, "maintenance/clear", "").await;
    site.act(node, "provision/deploy", "").await;
    assert_eq!(site.node(node).await.provision_state, ProvisionState::Active);
    offers(&["rebuild", "undeploy"]).await;
    site.change(node, |node| Node { protected: true, ..node }).await;
    let (status, reason) = site.refuse(node, "provision/undeploy", "").await;
    assert_eq!(status, 403);
    assert!(reason.contains("is protected and cannot be undeployed"), "{reason}");
    site.change(node, |node| Node { protected: false, ..node }).await;
    let page = site.get(&format!("/ui/nodes/{node}/provision/undeploy")).await.page();
    assert!(page.contains("class=\"danger\"") && page.contains("Switch the machine off first"), "{page}");
    site.act(node, "provision/undeploy", "").await;
    assert_eq!(site.node(node).await.provision_state, ProvisionState::Available);
}

#[tokio::test]
async fn volumes_are_added_changed_and_removed_while_the_machine_is_off() {
    let site = Site::new();
    let node = site.create_node("web-1", mac(1)).await;
    let target = site.targets(node).await[0].uuid;
    let volume =
        |name: &str| format!("volume=iscsi%3A192.0.2.2%3A%3A3260%3A1%3Aiqn.2010-10.org.example%3A{name}");
    site.act(node, "power/on", "").await;
    let (status, reason) = site.refuse(node, &format!("volumes/{target}"), &volume("disk-2")).await;
    assert_eq!(status, 400);
    assert!(reason.contains("\"volume target update\"") && reason.contains("\"power on\""), "{reason}");
    site.act(node, "power/off", "").await;
    site.act(
        node,
        &format!("volumes/{target}"),
        &format!("{}&user=ann&secret=hunter3+hunter3", volume("disk-2")),
    )
    .await;
    let changed = site.targets(node).await.remove(0);
    assert_eq!((changed.uuid, changed.boot_index), (target, 0));
    assert_eq!(changed.volume_id, "iqn.2010-10.org.example:disk-2");
    assert_eq!(changed.properties.text("auth_password"), Some("hunter3 hunter3"));
    site.act(node, "volumes", &volume("data")).await;
    assert_eq!(site.targets(node).await[1].volume_id, "iqn.2010-10.org.example:data");
    for (form, expected) in [
        ("volume=", "Enter the UUID of a Cinder volume"),
        ("volume=0b1d4a52-6d5f-4d21-9a7e-0e8a4d0a6a11", "storage interface is external"),
        (&*format!("{}&secret=hunter4", volume("x")), "Enter the user of this secret."),
    ] {
        let (status, reason) = site.refuse(node, "volumes", form).await;
        assert_eq!(status, 422);
        assert!(reason.contains(expected), "{reason}");
        assert!(!reason.contains("hunter4"));
    }
    let other = site.create_node("web-2", mac(2)).await;
    assert_eq!(site.get(&format!("/ui/nodes/{other}/volumes/{target}")).await.status, 404);
    let page = site.get(&format!("/ui/nodes/{node}/volumes/{target}/remove")).await.page();
    assert!(page.contains("iqn.2010-10.org.example:disk-2") && page.contains("class=\"danger\""), "{page}");
    site.act(node, &format!("volumes/{target}/remove"), "").await;
    assert_eq!(site.targets(node).await.len(), 1);
}

#[tokio::test]
async fn a_node_is_deleted_after_a_confirmation_unless_it_is_in_use() {
    let site = Site::new();
    let node = site.create_node("web-1", mac(1)).await;
    site.change(node, |node| Node { provision_state: ProvisionState::Active, ..node }).await;
    let (status, reason) = site.refuse(node, "delete", "").await;
    assert_eq!(status, 409);
    assert!(
        reason.starts_with(&format!("Can not delete node \"{node}\" while it is in provision state")),
        "{reason}"
    );
    assert!(site.get(&format!("/ui/nodes/{node}/delete")).await.page().contains("Delete the node"));
    site.change(node, |node| Node { provision_state: ProvisionState::Enroll, ..node }).await;
    let response = site.post(&format!("/ui/nodes/{node}/delete"), "").await;
    assert_eq!((response.status, response.header("location")), (303, "/ui/"));
    assert!(site.inventory.get::<Node>(node).await.expect("read succeeds").is_none());
    assert_eq!(site.post(&format!("/ui/nodes/{node}/delete"), "").await.status, 404);
}

#[tokio::test]
async fn a_path_of_no_action_is_not_found() {
    let site = Site::new();
    let node = site.create_node("web-1", mac(1)).await;
    for path in ["power/explode", "provision/inspect", "volumes/x", "volumes/x/remove", "nothing"] {
        let response = site.get(&format!("/ui/nodes/{node}/{path}")).await;
        assert_eq!((response.status, response.header("content-type")), (404, "text/html; charset=utf-8"));
    }
}

#[tokio::test]
async fn actions_from_other_sites_are_refused() {
    let site = Site::new();
    let node = site.create_node("web-1", mac(1)).await;
    for action in ["maintenance", "maintenance/clear", "power/off", "provision/manage", "volumes", "delete"] {
        let path = format!("/ui/nodes/{node}/{action}");
        for headers in [
            &[("content-type", "application/x-www-form-urlencoded"), ("origin", "http://evil.example")][..],
            &[("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "cross-site")],
            &[("content-type", "application/x-www-form-urlencoded")],
        ] {
            let response = site.request("POST", &path, headers, "reason=x").await;
            assert_eq!(response.status, 403, "{action} {headers:?}: {}", response.body);
        }
    }
    let node = site.node(node).await;
    assert_eq!(
        (node.maintenance, node.power_state, node.provision_state),
        (false, None, ProvisionState::Enroll)
    );
}

#[tokio::test]
async fn a_bmc_is_switched_by_buttons_and_its_fault_is_shown() {
    let site = Site::new();
    let bmc = FakeBmc::start();
    let node = site.create_node("web-1", mac(1)).await;
    let driver_info = bmc.driver_info();
    site.change(node, |node| Node {
        driver: "redfish".into(),
        driver_info: serde_json::from_value(driver_info.clone()).expect("an object"),
        ..node
    })
    .await;
    let finish = async || {
        let wait = async {
            while site.node(node).await.reservation.is_some() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("within the limit");
    };
    site.act(node, "power/boot", "").await;
    finish().await;
    assert_eq!(site.node(node).await.last_error, None);
    let commands = bmc.take_commands();
    let order = ["Pxe", "Reset On"].map(|word| commands.iter().position(|command| command.contains(word)));
    assert!(order[0].is_some() && order[0] < order[1], "{commands:?}");
    let page = site.get(MACHINE).await.page();
    assert!(page.contains("<span class=\"state success\">on</span>"), "{page}");
    site.act(node, "power/off", "soft=on").await;
    finish().await;
    let commands = bmc.take_commands();
    assert!(commands.iter().any(|command| command.contains("GracefulShutdown")), "{commands:?}");
    bmc.fail(BmcCall::Reset, 100, BmcTrouble::Status(400, "Base.1.0.GeneralError"));
    site.act(node, "power/on", "").await;
    finish().await;
    let page = site.get(MACHINE).await.page();
    assert!(
        page.contains("Failed to change power state to &#39;power on&#39; by &#39;power on&#39;: BMC "),
        "{page}"
    );
    assert!(!page.contains(PASSWORD), "{page}");
}

#[tokio::test]
async fn a_one_time_boot_that_the_machine_has_got_is_cancelled_after_a_confirmation() {
    let site = Site::new();
    let node = site.create_node("web-1", mac(1)).await;
    let path = format!("/ui/nodes/{node}/boot-once/cancel");
    site.act(node, "boot-once", "source=shell").await;
    let page = site.get(MACHINE).await.page();
    assert!(page.contains(&format!("formaction=\"{path}\"")), "{page}");
    let early = basis(&page, &path);
    let once = site.inventory.find_boot_once(node).await.expect("reads").expect("exists");
    site.inventory.consume_boot_once(&once, "a", Timestamp::now()).await.expect("writes");
    let page = site.get(MACHINE).await.page();
    assert!(page.contains(&format!("href=\"{path}\"")), "{page}");
    assert!(!page.contains(&format!("formaction=\"{path}\"")), "{page}");
    // The button of the page from before would take the volume from the machine without a confirmation.
    for stale in [early.as_str(), ""] {
        let response = site.post(&path, stale).await;
        assert_eq!(response.status, 409, "{}", response.body);
        assert!(response.body.contains("This has changed since the page was made."), "{}", response.body);
        assert!(response.body.contains("may run from the volume of its one-time boot"), "{}", response.body);
        assert!(site.inventory.find_boot_once(node).await.expect("reads").is_some());
    }
    let page = site.get(&path).await.page();
    site.act(node, "boot-once/cancel", &basis(&page, &path)).await;
    assert_eq!(site.inventory.find_boot_once(node).await.expect("reads"), None);
    // Nothing is left to cancel.
    site.act(node, "boot-once/cancel", &early).await;
    site.act(node, "boot-once", "source=shell").await;
    let page = site.get(MACHINE).await.page();
    site.act(node, "boot-once/cancel", &basis(&page, &path)).await;
    assert_eq!(site.inventory.find_boot_once(node).await.expect("reads"), None);
}
