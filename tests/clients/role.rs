//! The Ansible role `volboot_volumes`: idempotence, check mode, secrets, refusals.

use std::path::Path;

use reqwest::Client;
use serde_json::{Value, json};

use crate::ansible::{ControlNode, Play};
use crate::daemon::{Daemon, site};

const PASSWORDS: [&str; 2] = ["first-secret-1", "other-secret-2"];

/// A volboot with node `web-1`, and Ansible with the role's playbook.
struct Role {
    daemon: Daemon,
    control: ControlNode,
    client: Client,
    _site: tempfile::TempDir,
}

impl Role {
    async fn start() -> Self {
        let site = site("");
        let daemon = Daemon::start(site.path());
        let auth = json!({ "auth_type": "none", "auth": { "endpoint": format!("http://{}", daemon.api) } });
        let control = ControlNode::new(&json!({ "clouds": { "volboot": auth } }).to_string());
        volboot::tls::install_provider();
        let role = Self { daemon, control, client: Client::new(), _site: site };
        role.send("POST", "nodes", json!({ "driver": "manual-management", "name": "web-1" })).await;
        role.send("PUT", "nodes/web-1/states/provision", json!({ "target": "manage" })).await;
        role
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Value {
        let url = format!("http://{}/v1/{path}", self.daemon.api);
        let request = self.client.request(method.parse().expect("a method"), url).json(&body);
        let response =
            request.header("X-OpenStack-Ironic-API-Version", "1.33").send().await.expect("an answer");
        let status = response.status();
        let text = response.text().await.expect("text");
        assert!(status.is_success(), "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn targets(&self) -> Vec<Value> {
        let list = self.send("GET", "volume/targets?detail=True&sort_key=boot_index", json!(null)).await;
        list["targets"].as_array().expect("a list").clone()
    }

    /// Runs the playbook with these arguments; no secret may be in its output.
    fn play(&self, arguments: &[&str]) -> Play {
        let playbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/ansible/role.yml");
        let mut command = self.control.ansible_playbook();
        // `-vvv` shows the arguments of the module.
        let play = Play::run(command.arg(playbook).args(["-vvv", "--diff"]).args(arguments));
        for password in PASSWORDS {
            assert!(!play.output.contains(password), "{}", play.output);
        }
        play
    }
}

#[tokio::test]
async fn role_changes_only_what_differs() {
    let role = Role::start().await;
    // Check mode changes nothing, and reports all changes.
    let check = role.play(&["--check"]);
    assert_eq!(check.changes(), 1);
    assert!(check.output.contains("create volume target 0\ncreate volume target 1\n"), "{}", check.output);
    assert!(role.targets().await.is_empty());
    assert_eq!(role.play(&[]).changes(), 1);
    let first = role.targets().await;
    assert_eq!((&first[0]["boot_index"], &first[1]["boot_index"]), (&json!(0), &json!(1)));
    assert_eq!(first[0]["properties"]["auth_password"], "******");
    assert_eq!(first[1]["extra"], json!({ "rack": "12" }), "without secrets there is no digest");
    let connectors = role.send("GET", "volume/connectors", json!(null)).await;
    assert_eq!(connectors["connectors"][0]["connector_id"], "iqn.2017-08.org.openstack.web-1");
    assert_eq!(role.play(&[]).changes(), 0);
    assert_eq!(role.targets().await, first);

    // A changed secret is found, although the API shows none.
    let password = format!("password={}", PASSWORDS[1]);
    let check = role.play(&["-e", &password, "--check"]);
    assert!(check.output.contains("change properties of volume target 0\n"), "{}", check.output);
    assert_eq!(role.play(&["-e", &password]).changes(), 1);
    assert_eq!(role.play(&["-e", &password]).changes(), 0);
    assert_ne!(role.targets().await[0]["extra"], first[0]["extra"]);
    // A change of a visible value by another client is found as well.
    let target = format!("volume/targets/{}", first[0]["uuid"].as_str().expect("a UUID"));
    let patch = json!([{ "op": "replace", "path": "/properties/target_lun", "value": 7 }]);
    role.send("PATCH", &target, patch).await;
    assert_eq!(role.play(&["-e", &password]).changes(), 1);
    assert_eq!(role.targets().await[0]["properties"]["target_lun"], 1);

    let volume = role.play(&["-e", &format!("{password} volume=web-2 data_state=absent")]);
    assert_eq!(volume.changes(), 1);
    let targets = role.targets().await;
    assert_eq!((targets.len(), &targets[0]["volume_id"]), (1, &json!("web-2")));
    assert_eq!(
        role.play(&["-e", "volboot_volumes_state=absent data_state=absent volume=web-2"]).changes(),
        1
    );
    assert!(role.targets().await.is_empty());
    assert_eq!(
        role.play(&["-e", "volboot_volumes_state=absent data_state=absent volume=web-2"]).changes(),
        0
    );
}

#[tokio::test]
async fn role_reports_refusals() {
    let role = Role::start().await;
    let always = "volboot_volumes_secrets=always";
    assert_eq!(role.play(&["-e", always]).changes(), 1);
    assert_eq!(role.targets().await[0]["extra"], json!({}), "no digest is stored");
    assert_eq!(role.play(&["-e", always]).changes(), 1, "secrets cannot be compared");
    // A target without a digest gets one.
    assert_eq!(role.play(&[]).changes(), 1);
    assert_eq!(role.play(&[]).changes(), 0);

    role.send("PUT", "nodes/web-1/states/power", json!({ "target": "power on" })).await;
    assert_eq!(role.play(&[]).changes(), 0, "nothing differs");
    let refused = role.play(&["-e", "volume=web-2"]);
    let message = refused.expect_failure();
    assert!(message.contains("cannot change volume_id of volume target 0 on node web-1"), "{message}");
    assert!(message.contains("power on"), "{message}");

    let refused = role.play(&["-e", "volboot_volumes_node=web-9"]);
    assert!(refused.expect_failure().contains("node web-9 does not exist"), "{}", refused.output);
    let refused = role.play(&["-e", "volboot_volumes_cloud=cloud-9"]);
    assert!(refused.expect_failure().contains("cannot use the bare metal API"), "{}", refused.output);
}
