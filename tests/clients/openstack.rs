//! The `openstack baremetal` command line against volboot.

use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::daemon::{Daemon, site};
use crate::python::python_program;

/// The volume of Ironic's guide; the storage interface `external` accepts any text.
const VOLUME: &str = "04452bed-5367-4202-8bf5-de4335ac56d2";

/// The `openstack` client with a running volboot.
pub(crate) struct OpenStackClient {
    daemon: Daemon,
    site: TempDir,
    version: Option<&'static str>,
    /// The options for authentication.
    credentials: &'static [&'static str],
}

impl OpenStackClient {
    pub(crate) fn new(version: Option<&'static str>) -> Self {
        Self::with_site(site(""), version, &["--os-auth-type", "none"])
    }

    fn with_site(site: TempDir, version: Option<&'static str>, credentials: &'static [&'static str]) -> Self {
        Self { daemon: Daemon::start(site.path()), site, version, credentials }
    }

    /// The address of volboot's API.
    pub(crate) fn api(&self) -> std::net::SocketAddr {
        self.daemon.api
    }

    fn run(&self, command_line: &str) -> Output {
        let mut command = python_program("openstack");
        // The client caches microversions in the home directory.
        command.env("HOME", self.site.path()).env("XDG_CACHE_HOME", self.site.path());
        command.args(self.credentials).args(["--os-endpoint", &format!("http://{}", self.daemon.api)]);
        if let Some(version) = self.version {
            command.args(["--os-baremetal-api-version", version]);
        }
        command
            .arg("baremetal")
            .args(command_line.split_whitespace())
            .output()
            .expect("the program is installed")
    }

    /// Runs a command that must succeed without errors on stderr, and returns its output.
    #[track_caller]
    pub(crate) fn run_ok(&self, command_line: &str) -> String {
        let output = self.run(command_line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "baremetal {command_line}: {stderr}");
        assert!(
            !stderr.contains("Traceback") && !stderr.contains("JSON"),
            "baremetal {command_line}: {stderr}"
        );
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a command that must succeed, and parses its JSON output.
    #[track_caller]
    pub(crate) fn run_json(&self, command_line: &str) -> Value {
        serde_json::from_str(&self.run_ok(&format!("{command_line} -f json"))).expect("JSON")
    }

    /// Runs a command that must fail, and returns its stderr.
    #[track_caller]
    pub(crate) fn run_error(&self, command_line: &str) -> String {
        let output = self.run(command_line);
        assert!(
            !output.status.success(),
            "baremetal {command_line}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8(output.stderr).expect("text")
    }

    #[track_caller]
    pub(crate) fn show_node(&self, name: &str, fields: &str) -> Value {
        self.run_json(&format!("node show {name} --fields {fields}"))
    }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

/// The commands of Ironic's boot-from-volume guide; only the driver differs.
#[test]
fn ironics_boot_from_volume_guide_works_verbatim() {
    let client = OpenStackClient::new(Some("1.33"));
    let node = client.run_json("node create --driver manual-management --name web-1");
    assert_eq!((&node["provision_state"], &node["boot_interface"]), (&json!("enroll"), &json!("ipxe")));
    let uuid = text(&node["uuid"]);
    client.run_ok(&format!("node set --storage-interface cinder {uuid}"));
    client.run_ok(&format!("node set --property capabilities=iscsi_boot:True {uuid}"));
    let iqn = format!("iqn.2017-08.org.openstack.{uuid}");
    let connector =
        client.run_json(&format!("volume connector create --node {uuid} --type iqn --connector-id {iqn}"));
    assert_eq!(connector["connector_id"], iqn);
    let target = client.run_json(&format!(
        "volume target create --node {uuid} --type iscsi --boot-index 0 --volume {VOLUME}"
    ));
    assert_eq!((&target["volume_id"], &target["boot_index"]), (&json!(VOLUME), &json!(0)));
    let report = client.run_json(&format!("node validate {uuid}"));
    let storage = report.as_array().expect("a list").iter().find(|row| row["Interface"] == "storage");
    // The records are complete, but this test has no Cinder; `tests/cinder` has one.
    let reason =
        format!("Failed to validate cinder storage interface for node {uuid}: Cinder is not configured");
    assert_eq!(storage.expect("a row"), &json!({"Interface": "storage", "Result": false, "Reason": reason}));
}

#[test]
fn a_node_passes_through_its_whole_lifecycle() {
    let client = OpenStackClient::new(Some("1.33"));
    let node = client.run_json(
        "node create --driver fake-hardware --name web-1 --storage-interface external \
         --property capabilities=iscsi_boot:True --extra rack=12 --resource-class baremetal",
    );
    let uuid = text(&node["uuid"]);
    let iqn = format!("iqn.2017-08.org.openstack.{uuid}");
    client.run_ok(&format!("port create 52:54:00:AB:CD:EF --node {uuid} --pxe-enabled true"));
    client.run_ok(&format!("volume connector create --node {uuid} --type iqn --connector-id {iqn}"));
    let target = client.run_json(&format!(
        "volume target create --node {uuid} --type iscsi --boot-index 0 --volume-id disk-1 \
         --property target_portal=192.0.2.1:3260 --property target_iqn=iqn.2010-10.org.openstack:disk-1"
    ));
    client.run_ok("node manage web-1 --wait 30");
    assert_eq!(client.show_node("web-1", "power_state"), json!({"power_state": "power off"}));
    client.run_ok("node unset web-1 --target-raid-config");
    let properties = client.run_json("driver raid property list fake-hardware");
    assert_eq!(properties.as_array().expect("a list").len(), 10);
    client.run_ok("node provide web-1 --wait 30");
    let stderr = client.run_error("node deploy web-1 --wait 30");
    assert!(stderr.contains("properties/target_lun: missing"), "{stderr}");
    let target = text(&target["uuid"]).to_owned();
    client.run_ok(&format!(
        "volume target set {target} --property target_lun=1 --property auth_username=boot --property auth_password=hunter2"
    ));
    assert_eq!(
        client.run_json(&format!("volume target show {target}"))["properties"]["auth_password"],
        "******"
    );
    client.run_ok("node deploy web-1 --wait 30");
    assert_eq!(client.show_node("web-1", "provision_state"), json!({"provision_state": "active"}));
    client.run_ok("node power on web-1");
    client.run_ok("node reboot web-1");
    assert_eq!(client.show_node("web-1", "power_state"), json!({"power_state": "power on"}));
    client.run_ok("node rebuild web-1 --wait 30");
    client.run_ok("node undeploy web-1 --wait 30");
    assert_eq!(client.show_node("web-1", "provision_state"), json!({"provision_state": "available"}));
    assert_eq!(client.run_json("volume target list"), json!([]), "undeploy deletes the volume targets");
    client.run_ok("node manage web-1 --wait 30");
    client.run_ok("node adopt web-1 --wait 30");
    let stderr = client.run_error("node delete web-1");
    assert!(stderr.contains("while it is in provision state \"active\""), "{stderr}");
    client.run_ok("node maintenance set web-1 --reason broken");
    let state = client.show_node("web-1", "maintenance maintenance_reason");
    assert_eq!(state, json!({"maintenance": true, "maintenance_reason": "broken"}));
    client.run_ok("node delete web-1");
    for what in ["node", "port", "volume connector"] {
        assert_eq!(client.run_json(&format!("{what} list")), json!([]), "{what}");
    }
}

#[test]
fn records_are_listed_shown_updated_and_deleted() {
    let client = OpenStackClient::new(Some("1.33"));
    let uuid = text(&client.run_json("node create --driver fake-hardware --name n1")["uuid"]).to_owned();
    client.run_ok("node set n1 --name n2 --extra a=1 --property cpus=4 --instance-info image_source=x");
    client.run_ok("node unset n2 --extra a --instance-info image_source");
    let record = client.show_node("n2", "extra properties instance_info");
    assert_eq!(record, json!({"extra": {}, "properties": {"cpus": 4}, "instance_info": {}}));
    let nodes = client.run_json("node list --long");
    assert_eq!(
        nodes[0]["Provisioning State"].as_str().or(nodes[0]["provision_state"].as_str()),
        Some("enroll")
    );
    assert_eq!(client.run_json("node list --fields uuid name"), json!([{"uuid": uuid, "name": "n2"}]));
    assert_eq!(
        client.run_json("node list --maintenance --provision-state enroll --driver fake-hardware"),
        json!([])
    );
    client.run_ok("node maintenance set n2");
    client.run_ok("node maintenance unset n2");
    client.run_ok("node boot device set n2 pxe");
    assert_eq!(
        client.run_json("node boot device show n2 --supported"),
        json!({"supported_boot_devices": "pxe"})
    );
    assert_eq!(client.run_json("node vif list n2"), json!([]));

    let port = client.run_json(&format!("port create 52:54:00:ab:cd:ef --node {uuid} --extra slot=1"));
    let port = text(&port["uuid"]);
    client.run_ok(&format!("port set {port} --address 52:54:00:ab:cd:00"));
    client.run_ok(&format!("port unset {port} --extra slot"));
    assert_eq!(
        client.run_json("port list --node n2"),
        json!([{"uuid": port, "address": "52:54:00:ab:cd:00"}])
    );
    assert_eq!(client.run_json("port show --address 52:54:00:ab:cd:00")["extra"], json!({}));
    let group = client.run_json(&format!("port group create --node {uuid} --name bond0"));
    client.run_ok(&format!("port set {port} --port-group {}", text(&group["uuid"])));
    assert!(client.run_error("port group delete bond0").contains("contains ports"));
    client.run_ok(&format!("port delete {port}"));
    client.run_ok("port group delete bond0");

    client.run_ok("node power off n2");
    let connector =
        client.run_json(&format!("volume connector create --node {uuid} --type iqn --connector-id iqn.x"));
    let connector = text(&connector["uuid"]);
    client.run_ok(&format!("volume connector set {connector} --connector-id iqn.2017-08.org.x --extra a=1"));
    client.run_ok(&format!("volume connector unset {connector} --extra a"));
    let record = client.run_json(&format!("volume connector show {connector}"));
    assert_eq!((&record["connector_id"], &record["extra"]), (&json!("iqn.2017-08.org.x"), &json!({})));
    assert_eq!(
        client.run_json("volume connector list --node n2 --fields uuid"),
        json!([{"uuid": connector}])
    );
    client.run_ok(&format!("volume connector delete {connector}"));
    let target = client
        .run_json(&format!("volume target create --node {uuid} --type iscsi --boot-index 0 --volume-id v"));
    let target = text(&target["uuid"]);
    client.run_ok(&format!("volume target set {target} --volume-id w --boot-index 1 --property a=1"));
    client.run_ok(&format!("volume target unset {target} --property a"));
    let targets = client.run_json("volume target list --long");
    assert_eq!((&targets[0]["volume_id"], &targets[0]["boot_index"]), (&json!("w"), &json!(1)));
    client.run_ok(&format!("volume target delete {target}"));

    let chassis = client.run_json("chassis create --description rack");
    client.run_ok(&format!("node set n2 --chassis-uuid {}", text(&chassis["uuid"])));
    assert!(
        client.run_error(&format!("chassis delete {}", text(&chassis["uuid"]))).contains("contains nodes")
    );
    client.run_ok("node unset n2 --chassis-uuid");
    client.run_ok(&format!("chassis delete {}", text(&chassis["uuid"])));
}

#[test]
fn without_a_version_the_client_negotiates_one() {
    let client = OpenStackClient::new(None);
    let drivers = client.run_json("driver list");
    let expected_names = json!(["fake-hardware", "manual-management", "redfish"]);
    assert_eq!(json!([drivers[0]["name"], drivers[1]["name"], drivers[2]["name"]]), expected_names);
    assert_eq!(client.run_json("driver show fake-hardware")["default_boot_interface"], "fake");
    client.run_ok("node create --driver fake-hardware --name n1 --storage-interface external");
    assert_eq!(client.show_node("n1", "storage_interface"), json!({"storage_interface": "external"}));
    client.run_ok("node set n1 --property capabilities=iscsi_boot:True");
    let stderr = client.run_error("node set n1 --retired");
    assert!(stderr.contains("supported by the client's negotiated API version 1.52"), "{stderr}");
    let stderr = client.run_error("node show missing");
    assert!(stderr.contains("Node missing could not be found."), "{stderr}");
    let stderr = client.run_error("node create --driver fake-hardware --name n1");
    assert!(stderr.contains("A node with name n1 already exists."), "{stderr}");
    client.run_ok("node delete n1");
}

#[test]
fn http_basic_rejects_wrong_passwords() {
    let site = site("");
    let (config, passwords) = (site.path().join("volboot.toml"), site.path().join("htpasswd"));
    let hash = bcrypt::hash("secret", 4).expect("bcrypt hashes the password");
    std::fs::write(&passwords, format!("ann:{hash}\n")).expect("the file is writable");
    let text = std::fs::read_to_string(&config).expect("the file exists");
    // The last section of the file is `[api]`.
    let api_section = format!("auth = \"http_basic\"\nhtpasswd_file = \"{}\"\n", passwords.display());
    std::fs::write(&config, text + &api_section).expect("the file is writable");
    let ann = &["--os-auth-type", "http_basic", "--os-username", "ann", "--os-password", "secret"];
    let mut client = OpenStackClient::with_site(site, Some("1.33"), ann);
    assert_eq!(client.run_json("node list"), json!([]));
    client.credentials = &["--os-auth-type", "http_basic", "--os-username", "ann", "--os-password", "wrong"];
    let stderr = client.run_error("node list");
    assert!(stderr.contains("Incorrect username or password"), "{stderr}");
}
