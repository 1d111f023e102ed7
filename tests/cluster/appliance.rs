//! [`Appliance`]: a real `volboot serve` with directories of its own; [`Site`]: several of them on one etcd and one
//! Cinder.
//!
//! Each instance reaches etcd, Cinder and its peers through proxies of its own, so that a test can cut off one instance.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use volboot::model::{Attachment, AttachmentState, Mac};
use volboot::store::{Attachments, EtcdStore, Store};

use crate::cinder_proxy::CinderProxy;
use crate::daemon::{Daemon, volboot};
use crate::etcd::Etcd;
use crate::fake_cinder::FakeCinder;
use crate::machine::Machine;
use crate::proxy::Proxy;
use crate::{SESSION, open};

/// The time limit of each step, even on a busy host.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// How an instance differs from the others.
pub(crate) struct ApplianceOptions {
    /// The members of etcd that it knows.
    pub(crate) members: Vec<usize>,
    /// Concurrent resolutions of all instances together.
    pub(crate) resolutions: u32,
    /// The time to live of its session.
    pub(crate) session: Duration,
    /// The time from the stop signal to the end.
    pub(crate) drain_delay: Duration,
    /// Environment variables of the process.
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl Default for ApplianceOptions {
    fn default() -> Self {
        Self {
            members: vec![0, 1, 2],
            resolutions: 32,
            session: SESSION,
            drain_delay: Duration::ZERO,
            variables: Vec::new(),
        }
    }
}

impl ApplianceOptions {
    /// This time from the stop signal to the end.
    pub(crate) fn with_drain_delay(drain_delay: Duration) -> Self {
        Self { drain_delay, ..Self::default() }
    }
}

/// An instance.
pub(crate) struct Appliance {
    pub(crate) name: String,
    directory: PathBuf,
    options: ApplianceOptions,
    /// `None` after [`Appliance::kill`].
    daemon: Option<Daemon>,
    pub(crate) etcd: Proxy,
    pub(crate) cinder: CinderProxy,
    /// The other instances' way to this one.
    pub(crate) peers: Proxy,
    listeners: Listeners,
}

#[derive(Debug, Clone, Copy)]
struct Listeners {
    http: SocketAddr,
    tftp: SocketAddr,
    api: SocketAddr,
}

/// Instances on one etcd, with one Cinder.
pub(crate) struct Site {
    pub(crate) etcd: Etcd,
    pub(crate) cinder: FakeCinder,
    /// The test's own handle of the records.
    pub(crate) store: Arc<EtcdStore>,
    /// The number of enrolled machines.
    machines: u32,
}

/// An enrolled machine.
pub(crate) struct Enrolled {
    /// Counts the machines of the site.
    #[allow(dead_code, reason = "for benchmarks")]
    pub(crate) number: u32,
    pub(crate) node: String,
    pub(crate) volume: String,
    pub(crate) machine: Machine,
    pub(crate) mac: String,
}

impl Site {
    /// A site without instances.
    pub(crate) async fn open(etcd: Etcd) -> Self {
        Self::with_cinder(etcd, FakeCinder::start()).await
    }

    /// Like [`open`](Self::open), with another Cinder.
    pub(crate) async fn with_cinder(etcd: Etcd, cinder: FakeCinder) -> Self {
        volboot::tls::install_provider();
        let store = open(etcd.config("/volboot/"), &etcd.directory("test")).await;
        Self { etcd, cinder, store, machines: 0 }
    }

    /// Starts an instance, and waits until it is ready.
    pub(crate) async fn start(&self, name: &str) -> Appliance {
        self.start_with(name, ApplianceOptions::default()).await
    }

    pub(crate) async fn start_with(&self, name: &str, options: ApplianceOptions) -> Appliance {
        let members: Vec<SocketAddr> =
            options.members.iter().map(|member| Etcd::client_address(*member)).collect();
        let (etcd, endpoints) = Proxy::start_for_all(&members).await;
        let cinder = CinderProxy::start(&self.cinder.url());
        let (peers, url) = Proxy::start(([127, 0, 0, 1], 9).into()).await;
        let directory = self.etcd.directory(name);
        let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"http://{address}\"")).collect();
        let config = format!(
            "[store]\nkind = \"etcd\"\npath = \"{path}\"\n[store.etcd]\nendpoints = [{endpoints}]\n\
             [cluster]\nname = \"{name}\"\nlisten = \"127.0.0.1:0\"\nurl = \"http://{url}\"\nsession = \"{session}s\"\n\
             drain_delay = \"{delay}ms\"\n\
             [tftp]\nlisten = \"127.0.0.1:0\"\nimages = [\"{images}\"]\n\
             [http]\nlisten = \"127.0.0.1:0\"\nrequests_per_second = 0\n[api]\nlisten = \"127.0.0.1:0\"\n\
             [boot]\nverify_mac = \"off\"\n\
             [cinder]\nauth_type = \"none\"\nendpoint_override = \"{cinder}\"\nproject_id = \"{project}\"\n\
             resolutions = {resolutions}\n",
            path = directory.join("volboot.redb").display(),
            endpoints = endpoints.join(", "),
            session = options.session.as_secs(),
            resolutions = options.resolutions,
            delay = options.drain_delay.as_millis().max(1),
            images = self.etcd.directory("images").display(),
            cinder = cinder.endpoint,
            project = crate::fake_cinder::PROJECT,
        );
        std::fs::write(directory.join("volboot.toml"), config).expect("writes the configuration");
        let unset = SocketAddr::from(([127, 0, 0, 1], 9));
        let listeners = Listeners { http: unset, tftp: unset, api: unset };
        let name = name.to_owned();
        let mut appliance =
            Appliance { name, directory, options, daemon: None, etcd, cinder, peers, listeners };
        appliance.restart();
        appliance
    }

    /// Enrolls a machine with a volume through an instance.
    pub(crate) async fn enroll(&mut self, at: &Appliance) -> Enrolled {
        self.enroll_with(at, false).await
    }

    pub(crate) async fn enroll_with(&mut self, at: &Appliance, multiattach: bool) -> Enrolled {
        let volume = Uuid::new_v4().to_string();
        self.cinder.add_volume(&volume, |added| added.multiattach = multiattach);
        self.enroll_volume(at, &volume).await
    }

    /// Enrolls a machine with an existing volume.
    pub(crate) async fn enroll_volume(&mut self, at: &Appliance, volume: &str) -> Enrolled {
        self.machines += 1;
        let number = self.machines;
        let [_, a, b, c] = number.to_be_bytes();
        let mac = Mac::new([0x52, 0x54, 0, a, b, c]);
        let name = format!("web-{number}");
        let body = json!({
            "name": name, "mac": mac.to_string(), "iqn": format!("iqn.2017-08.org.openstack.{name}"), "volume": volume,
        });
        let (status, response) = at.call("POST", "/v1/enrollments", &body).await;
        assert_eq!(status, 201, "{response}");
        let node = response["node"]["uuid"].as_str().expect("a UUID").to_owned();
        let mac = mac.to_string();
        Enrolled { number, node, volume: volume.to_owned(), machine: Machine::new(&mac), mac }
    }

    pub(crate) fn records(&self) -> Attachments {
        Attachments::new(Arc::clone(&self.store) as Arc<dyn Store>)
    }

    /// The attachments' records of a volume.
    pub(crate) async fn records_of(&self, volume: &str) -> Vec<Attachment> {
        let deadline = Instant::now() + LONG;
        loop {
            match self.records().list_by_volume(volume).await {
                Ok(records) => return records,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Checks that Cinder has exactly one complete attachment for each record of the volume, and no other, and that no
    /// work is left.
    pub(crate) async fn expect_consistent(
        &self,
        volume: &str,
        nodes: usize,
        within: Duration,
        context: &str,
    ) {
        let deadline = Instant::now() + within;
        loop {
            let records = self.records_of(volume).await;
            let attachments = self.cinder.attachments(volume);
            let mut recorded: Vec<_> =
                records.iter().map(|record| record.cinder_id.clone().unwrap_or_default()).collect();
            let mut present: Vec<_> = attachments.iter().map(|(id, _)| id.clone()).collect();
            recorded.sort();
            present.sort();
            let is_complete =
                records.iter().all(is_settled) && attachments.iter().all(|(_, status)| *status == "attached");
            if recorded == present && present.len() == nodes && is_complete {
                return;
            }
            assert!(Instant::now() < deadline, "{context}: {records:?}, but Cinder has {attachments:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn is_settled(record: &Attachment) -> bool {
    record.state == AttachmentState::Attached && !record.pending_export && !record.superseded_export
}

impl Appliance {
    /// The boot listener.
    pub(crate) fn http(&self) -> SocketAddr {
        self.listeners.http
    }

    pub(crate) fn tftp(&self) -> SocketAddr {
        self.listeners.tftp
    }

    pub(crate) fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("the instance runs")
    }

    pub(crate) fn pid(&self) -> Pid {
        let daemon = self.daemon.as_ref().expect("the instance runs");
        Pid::from_raw(daemon.pid().try_into().expect("a process id"))
    }

    /// Starts the process, and waits until it is ready.
    pub(crate) fn restart(&mut self) {
        let variables = self.options.variables.clone();
        let daemon = Daemon::start_with(&self.directory, |command| {
            command.envs(variables);
        });
        self.peers.set_upstream(daemon.cluster.expect("a cluster listener"));
        self.listeners = Listeners { http: daemon.http, tftp: daemon.tftp, api: daemon.api };
        self.daemon = Some(daemon);
    }

    /// Kills the process without its end.
    pub(crate) fn kill(&mut self) {
        self.daemon.take().expect("the instance runs").kill();
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the instance runs");
    }

    /// Calls the API; returns the status and the body.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let client = reqwest::Client::builder().no_proxy().timeout(LONG).build().expect("a client");
        let mut request = client.request(method, format!("http://{}{path}", self.listeners.api));
        request = request.header("x-openstack-ironic-api-version", "1.52");
        if !body.is_null() {
            request = request.json(body);
        }
        let response = request.send().await.expect("the API responds");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a text");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, &Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// `/readyz`: whether the instance is ready, and the body.
    pub(crate) async fn readiness(&self) -> (bool, Value) {
        let (status, body) = self.call("GET", "/readyz", &Value::Null).await;
        assert!([200, 503].contains(&status), "{status}: {body}");
        assert_eq!(body["ready"], status == 200, "{body}");
        (status == 200, body)
    }

    /// Waits until the instance is ready, or is not.
    pub(crate) async fn wait_for_readiness(&self, is_ready: bool) -> Value {
        let deadline = Instant::now() + LONG;
        loop {
            let (ready, body) = self.readiness().await;
            if ready == is_ready {
                return body;
            }
            assert!(Instant::now() < deadline, "{}: {body}", self.name);
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The timeline of a machine: each step's instance and text.
    pub(crate) async fn timeline(&self, mac: &str) -> Vec<(String, String)> {
        let (status, body) = self.call("GET", &format!("/v1/machines/{mac}"), &Value::Null).await;
        if status == 404 {
            return Vec::new();
        }
        assert_eq!(status, 200, "{body}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let steps = body["timeline"].as_array().expect("a timeline");
        steps.iter().map(|step| (text(&step["instance"]), text(&step["text"]))).collect()
    }

    /// Runs a command of volboot against this instance; returns its output.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let mut command: Command = volboot(arguments);
        let output = command.env("VOLBOOT_API", format!("http://{}", self.listeners.api)).output();
        let output = output.expect("the command runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
