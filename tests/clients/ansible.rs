//! [`ControlNode`]: runs playbooks against a volboot; and the examples in the documentation of openstack.cloud.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;
use tempfile::TempDir;

use crate::daemon::{Daemon, site};
use crate::python::{clean_command, environment_path, python_program};

/// The folder of the role, as the packages install it.
pub(crate) fn roles_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/ansible/roles")
}

/// A directory with `clouds.yaml`, in which Ansible runs.
pub(crate) struct ControlNode {
    directory: TempDir,
}

impl ControlNode {
    pub(crate) fn new(clouds: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("clouds.yaml"), clouds).expect("the file is writable");
        Self { directory }
    }

    /// Writes a file into the directory.
    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.directory.path().join(name), content).expect("the file is writable");
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `ansible-playbook`. Its modules find the newest openstacksdk.
    pub(crate) fn ansible_playbook(&self) -> Command {
        let mut command = self.prepare(python_program("ansible-playbook"));
        // Modules run in the folder of the playbook.
        command.env("OS_CLIENT_CONFIG_FILE", self.path().join("clouds.yaml"));
        command
    }

    /// A shell that runs a script until a command fails.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = self.prepare(clean_command("bash"));
        command.args(["-ec", script]);
        command
    }

    fn prepare(&self, mut command: Command) -> Command {
        let path = std::env::var("PATH").expect("a search path");
        command
            .current_dir(self.path())
            .env("PATH", format!("{}:{path}", environment_path().join("bin").display()))
            // Ansible refuses other encodings.
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", self.path())
            .env("ANSIBLE_HOME", self.path())
            .env("ANSIBLE_REMOTE_TEMP", self.path().join("remote"))
            .env("ANSIBLE_COLLECTIONS_PATH", environment_path())
            .env("ANSIBLE_ROLES_PATH", roles_path())
            .env("ANSIBLE_PYTHON_INTERPRETER", environment_path().join("bin/python"))
            .env("ANSIBLE_LOCALHOST_WARNING", "False")
            .env("ANSIBLE_INVENTORY_UNPARSED_WARNING", "False");
        command
    }

    /// The environment variable by which Python finds the openstacksdk that openstack.cloud works with.
    pub(crate) fn sdk_for_collection() -> (&'static str, PathBuf) {
        ("PYTHONPATH", environment_path().join("ansible_sdk"))
    }
}

/// The result of a playbook.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) output: String,
    succeeded: bool,
}

impl Play {
    pub(crate) fn run(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().expect("the program is installed");
        let output = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        Self { output, succeeded: status.success() }
    }

    /// The number of changed tasks of a playbook that must succeed.
    #[track_caller]
    pub(crate) fn changes(&self) -> usize {
        assert!(self.succeeded, "{}", self.output);
        let (_, recap) = self.output.split_once("PLAY RECAP").expect("a recap");
        let (_, rest) = recap.split_once("changed=").expect("the number of changed tasks");
        rest.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    }

    /// The output of a playbook that must fail.
    #[track_caller]
    pub(crate) fn expect_failure(&self) -> &str {
        assert!(!self.succeeded, "{}", self.output);
        &self.output
    }
}

/// The modules with examples; their tasks are written to `NAME.yml`, or to `NAME-1.yml` and so on after each `#`.
const MODULES: [&str; 6] = [
    "baremetal_node",
    "baremetal_node_info",
    "baremetal_port",
    "baremetal_port_info",
    "baremetal_node_action",
    "baremetal_deploy_template",
];

/// Changes to the examples: their text, its replacement, and the reason.
const CORRECTIONS: [(&str, &str, &str, &str); 4] = [
    ("baremetal_node", "pxe_ipmitool", "manual-management", "Ironic removed this driver in 2018"),
    (
        "baremetal_port",
        "    is_pxe_enabled: False\n",
        "    is_pxe_enabled: False\n    node: bm-0\n    address: fa:16:3e:aa:aa:ab\n",
        "the module requires both",
    ),
    ("baremetal_node_action", "    delegate_to: localhost\n", "", "a keyword of tasks, not of the module"),
    ("baremetal_node_action", "http://192.168.1.1:6385/", "@ENDPOINT@", "the address of volboot"),
];

/// The examples in a module's documentation, with the corrections.
fn read_examples(module: &str) -> String {
    let path = environment_path().join("ansible_collections/openstack/cloud/plugins/modules");
    let text = fs::read_to_string(path.join(format!("{module}.py"))).expect("the module is installed");
    let (_, rest) = text.split_once("EXAMPLES = r'''\n").expect("the module has examples");
    let mut examples = rest.split_once("'''").expect("the end of the examples").0.to_owned();
    for (_, from, to, reason) in CORRECTIONS.iter().filter(|correction| correction.0 == module) {
        assert!(examples.contains(from), "{module}: {from} is no longer in its examples ({reason})");
        examples = examples.replace(from, to);
    }
    examples
}

#[test]
fn documented_examples_of_the_collection_work() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let endpoint = format!("http://{}", daemon.api);
    let cloud = json!({ "auth_type": "none", "auth": { "endpoint": endpoint } });
    // The names in the examples.
    let node = ControlNode::new(&json!({ "clouds": { "devstack": cloud, "openstack": cloud } }).to_string());
    for module in MODULES {
        let examples = read_examples(module).replace("@ENDPOINT@", &endpoint);
        let parts: Vec<_> = examples.split("\n# ").collect();
        if let [only] = *parts {
            node.write(&format!("{module}.yml"), only);
        }
        for (number, part) in parts.iter().enumerate() {
            node.write(&format!("{module}-{}.yml", number + 1), &format!("# {part}"));
        }
    }
    let playbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/ansible/examples.yml");
    let mut command = node.ansible_playbook();
    let (name, value) = ControlNode::sdk_for_collection();
    command.env(name, value).arg(playbook);
    command.args(["-e", &format!("endpoint={endpoint} examples={}", node.path().display())]);
    Play::run(&mut command).changes();
}
