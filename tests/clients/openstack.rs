//! The `openstack` command, as operators type it.

use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::daemon::{Daemon, site};
use crate::python::program;

/// The volume of the guide; `external` takes any text.
const VOLUME: &str = "04452bed-5367-4202-8bf5-de4335ac56d2";

/// Somebody at a terminal, and the volboot they work with.
struct Operator {
    daemon: Daemon,
    site: TempDir,
    version: Option<&'static str>,
    /// How they show who they are.
    credentials: &'static [&'static str],
}

impl Operator {
    fn new(version: Option<&'static str>) -> Self {
        Self::at(site(""), version, &["--os-auth-type", "none"])
    }

    fn at(site: TempDir, version: Option<&'static str>, credentials: &'static [&'static str]) -> Self {
        Self { daemon: Daemon::start(site.path()), site, version, credentials }
    }

    fn run(&self, words: &str) -> Output {
        let mut command = program("openstack");
        // The client remembers versions in its home.
        command.env("HOME", self.site.path()).env("XDG_CACHE_HOME", self.site.path());
        command.args(self.credentials).args(["--os-endpoint", &format!("http://{}", self.daemon.api)]);
        if let Some(version) = self.version {
            command.args(["--os-baremetal-api-version", version]);
        }
        command.arg("baremetal").args(words.split_whitespace()).output().expect("is installed")
    }

    /// What a command prints that must succeed, and not complain.
    #[track_caller]
    fn says(&self, words: &str) -> String {
        let output = self.run(words);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "baremetal {words}: {complaint}");
        assert!(
            !complaint.contains("Traceback") && !complaint.contains("JSON"),
            "baremetal {words}: {complaint}"
        );
        String::from_utf8(output.stdout).expect("text")
    }

    /// The same, read.
    #[track_caller]
    fn tells(&self, words: &str) -> Value {
        serde_json::from_str(&self.says(&format!("{words} -f json"))).expect("JSON")
    }

    /// What a command complains of that must fail.
    #[track_caller]
    fn complains(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "baremetal {words}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).expect("text")
    }

    #[track_caller]
    fn node(&self, name: &str, fields: &str) -> Value {
        self.tells(&format!("node show {name} --fields {fields}"))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Ironic's own guide to booting from a volume, its commands word by word but for the driver.
#[test]
fn the_guide_to_booting_from_a_volume_works_verbatim() {
    let operator = Operator::new(Some("1.33"));
    let node = operator.tells("node create --driver manual-management --name web-1");
    assert_eq!((&node["provision_state"], &node["boot_interface"]), (&json!("enroll"), &json!("ipxe")));
    let uuid = text(&node["uuid"]);
    operator.says(&format!("node set --storage-interface cinder {uuid}"));
    operator.says(&format!("node set --property capabilities=iscsi_boot:True {uuid}"));
    let iqn = format!("iqn.2017-08.org.openstack.{uuid}");
    let connector =
        operator.tells(&format!("volume connector create --node {uuid} --type iqn --connector-id {iqn}"));
    assert_eq!(connector["connector_id"], iqn);
    let target = operator
        .tells(&format!("volume target create --node {uuid} --type iscsi --boot-index 0 --volume {VOLUME}"));
    assert_eq!((&target["volume_id"], &target["boot_index"]), (&json!(VOLUME), &json!(0)));
    let report = operator.tells(&format!("node validate {uuid}"));
    let storage = report.as_array().expect("a list").iter().find(|row| row["Interface"] == "storage");
    // The records are all there is to wish for. Here is no Cinder; `tests/cinder` has one.
    let reason =
        format!("Failed to validate cinder storage interface for node {uuid}: Cinder is not configured");
    assert_eq!(storage.expect("a row"), &json!({"Interface": "storage", "Result": false, "Reason": reason}));
}

#[test]
fn a_node_lives_from_its_enrolment_to_its_end() {
    let operator = Operator::new(Some("1.33"));
    let created = operator.tells(
        "node create --driver fake-hardware --name web-1 --storage-interface external \
         --property capabilities=iscsi_boot:True --extra rack=12 --resource-class baremetal",
    );
    let uuid = text(&created["uuid"]);
    let iqn = format!("iqn.2017-08.org.openstack.{uuid}");
    operator.says(&format!("port create 52:54:00:AB:CD:EF --node {uuid} --pxe-enabled true"));
    operator.says(&format!("volume connector create --node {uuid} --type iqn --connector-id {iqn}"));
    let target = operator.tells(&format!(
        "volume target create --node {uuid} --type iscsi --boot-index 0 --volume-id disk-1 \
         --property target_portal=192.0.2.1:3260 --property target_iqn=iqn.2010-10.org.openstack:disk-1"
    ));
    operator.says("node manage web-1 --wait 30");
    operator.says("node power off web-1 --power-timeout 30");
    operator.says("node provide web-1 --wait 30");
    let refusal = operator.complains("node deploy web-1 --wait 30");
    assert!(refusal.contains("properties/target_lun: missing"), "{refusal}");
    let target = text(&target["uuid"]).to_owned();
    operator.says(&format!(
        "volume target set {target} --property target_lun=1 --property auth_username=boot --property auth_password=hunter2"
    ));
    assert_eq!(
        operator.tells(&format!("volume target show {target}"))["properties"]["auth_password"],
        "******"
    );
    operator.says("node deploy web-1 --wait 30");
    assert_eq!(operator.node("web-1", "provision_state"), json!({"provision_state": "active"}));
    operator.says("node power on web-1");
    operator.says("node reboot web-1");
    assert_eq!(operator.node("web-1", "power_state"), json!({"power_state": "power on"}));
    operator.says("node rebuild web-1 --wait 30");
    operator.says("node undeploy web-1 --wait 30");
    assert_eq!(operator.node("web-1", "provision_state"), json!({"provision_state": "available"}));
    assert_eq!(operator.tells("volume target list"), json!([]), "undeploy takes the volumes away");
    operator.says("node manage web-1 --wait 30");
    operator.says("node adopt web-1 --wait 30");
    let refusal = operator.complains("node delete web-1");
    assert!(refusal.contains("while it is in provision state \"active\""), "{refusal}");
    operator.says("node maintenance set web-1 --reason broken");
    let state = operator.node("web-1", "maintenance maintenance_reason");
    assert_eq!(state, json!({"maintenance": true, "maintenance_reason": "broken"}));
    operator.says("node delete web-1");
    for what in ["node", "port", "volume connector"] {
        assert_eq!(operator.tells(&format!("{what} list")), json!([]), "{what}");
    }
}

#[test]
fn records_are_listed_shown_changed_and_removed() {
    let operator = Operator::new(Some("1.33"));
    let uuid = text(&operator.tells("node create --driver fake-hardware --name n1")["uuid"]).to_owned();
    operator.says("node set n1 --name n2 --extra a=1 --property cpus=4 --instance-info image_source=x");
    operator.says("node unset n2 --extra a --instance-info image_source");
    let shown = operator.node("n2", "extra properties instance_info");
    assert_eq!(shown, json!({"extra": {}, "properties": {"cpus": 4}, "instance_info": {}}));
    let long = operator.tells("node list --long");
    assert_eq!(
        long[0]["Provisioning State"].as_str().or(long[0]["provision_state"].as_str()),
        Some("enroll")
    );
    assert_eq!(operator.tells("node list --fields uuid name"), json!([{"uuid": uuid, "name": "n2"}]));
    assert_eq!(
        operator.tells("node list --maintenance --provision-state enroll --driver fake-hardware"),
        json!([])
    );
    operator.says("node maintenance set n2");
    operator.says("node maintenance unset n2");
    operator.says("node boot device set n2 pxe");
    assert_eq!(
        operator.tells("node boot device show n2 --supported"),
        json!({"supported_boot_devices": "pxe"})
    );
    assert_eq!(operator.tells("node vif list n2"), json!([]));

    let port = operator.tells(&format!("port create 52:54:00:ab:cd:ef --node {uuid} --extra slot=1"));
    let port = text(&port["uuid"]);
    operator.says(&format!("port set {port} --address 52:54:00:ab:cd:00"));
    operator.says(&format!("port unset {port} --extra slot"));
    assert_eq!(
        operator.tells("port list --node n2"),
        json!([{"uuid": port, "address": "52:54:00:ab:cd:00"}])
    );
    assert_eq!(operator.tells("port show --address 52:54:00:ab:cd:00")["extra"], json!({}));
    let group = operator.tells(&format!("port group create --node {uuid} --name bond0"));
    operator.says(&format!("port set {port} --port-group {}", text(&group["uuid"])));
    assert!(operator.complains("port group delete bond0").contains("contains ports"));
    operator.says(&format!("port delete {port}"));
    operator.says("port group delete bond0");

    operator.says("node power off n2");
    let connector =
        operator.tells(&format!("volume connector create --node {uuid} --type iqn --connector-id iqn.x"));
    let connector = text(&connector["uuid"]);
    operator.says(&format!("volume connector set {connector} --connector-id iqn.2017-08.org.x --extra a=1"));
    operator.says(&format!("volume connector unset {connector} --extra a"));
    let shown = operator.tells(&format!("volume connector show {connector}"));
    assert_eq!((&shown["connector_id"], &shown["extra"]), (&json!("iqn.2017-08.org.x"), &json!({})));
    assert_eq!(operator.tells("volume connector list --node n2 --fields uuid"), json!([{"uuid": connector}]));
    operator.says(&format!("volume connector delete {connector}"));
    let target = operator
        .tells(&format!("volume target create --node {uuid} --type iscsi --boot-index 0 --volume-id v"));
    let target = text(&target["uuid"]);
    operator.says(&format!("volume target set {target} --volume-id w --boot-index 1 --property a=1"));
    operator.says(&format!("volume target unset {target} --property a"));
    let listed = operator.tells("volume target list --long");
    assert_eq!((&listed[0]["volume_id"], &listed[0]["boot_index"]), (&json!("w"), &json!(1)));
    operator.says(&format!("volume target delete {target}"));

    let chassis = operator.tells("chassis create --description rack");
    operator.says(&format!("node set n2 --chassis-uuid {}", text(&chassis["uuid"])));
    assert!(
        operator.complains(&format!("chassis delete {}", text(&chassis["uuid"]))).contains("contains nodes")
    );
    operator.says("node unset n2 --chassis-uuid");
    operator.says(&format!("chassis delete {}", text(&chassis["uuid"])));
}

#[test]
fn without_a_version_the_client_negotiates_one() {
    let operator = Operator::new(None);
    let drivers = operator.tells("driver list");
    let names = json!(["fake-hardware", "manual-management"]);
    assert_eq!(json!([drivers[0]["name"], drivers[1]["name"]]), names);
    assert_eq!(operator.tells("driver show fake-hardware")["default_boot_interface"], "fake");
    operator.says("node create --driver fake-hardware --name n1 --storage-interface external");
    assert_eq!(operator.node("n1", "storage_interface"), json!({"storage_interface": "external"}));
    operator.says("node set n1 --property capabilities=iscsi_boot:True");
    let later = operator.complains("node set n1 --owner me");
    assert!(later.contains("supported by the client's negotiated API version 1.33"), "{later}");
    let missing = operator.complains("node show nobody");
    assert!(missing.contains("Node nobody could not be found."), "{missing}");
    let taken = operator.complains("node create --driver fake-hardware --name n1");
    assert!(taken.contains("A node with name n1 already exists."), "{taken}");
    operator.says("node delete n1");
}

#[test]
fn where_names_and_passwords_are_asked_for_only_who_has_them_gets_in() {
    let site = site("");
    let (config, passwords) = (site.path().join("volboot.toml"), site.path().join("htpasswd"));
    let hash = bcrypt::hash("secret", 4).expect("hashes");
    std::fs::write(&passwords, format!("ann:{hash}\n")).expect("is written");
    let text = std::fs::read_to_string(&config).expect("is there");
    // Its last section is that of the API.
    let more = format!("auth = \"http_basic\"\nhtpasswd_file = \"{}\"\n", passwords.display());
    std::fs::write(&config, text + &more).expect("is written");
    let ann = &["--os-auth-type", "http_basic", "--os-username", "ann", "--os-password", "secret"];
    let mut operator = Operator::at(site, Some("1.33"), ann);
    assert_eq!(operator.tells("node list"), json!([]));
    operator.credentials =
        &["--os-auth-type", "http_basic", "--os-username", "ann", "--os-password", "wrong"];
    let refusal = operator.complains("node list");
    assert!(refusal.contains("Incorrect username or password"), "{refusal}");
}
