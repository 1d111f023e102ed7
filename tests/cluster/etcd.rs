//! [`Etcd`]: three real members, each in a network namespace of its own, joined by a bridge.
//!
//! Traps:
//! * `unshare` moves the calling thread only, so the runtime of a test starts on the thread that entered the namespace.
//! * A member's namespace must outlive the member, which the tests kill: a sleeping process holds it.
//! * A killed test runs no destructor. The kernel kills each process when the thread that started it ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;
use volboot::config::EtcdConfig;

use crate::processes::{ip, output, pid, run, start};

/// How long a member may take to serve.
const STARTED: Duration = Duration::from_secs(40);
const MEMBERS: usize = 3;

/// Options of a cluster.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// Further arguments of each member.
    pub(crate) arguments: Vec<String>,
    /// A folder with `ca.pem`, `server.pem` and `server.key`. With `client.pem` and `client.key`, clients need certificates.
    pub(crate) tls: Option<PathBuf>,
}

/// A cluster of etcd, and the network of its test.
pub(crate) struct Etcd {
    directory: TempDir,
    options: Options,
    namespaces: Vec<Child>,
    members: Vec<Option<Child>>,
}

impl Etcd {
    /// Moves this thread into a namespace of its own, and starts the members there.
    pub(crate) fn start(options: Options) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("root creates a network namespace");
        ip(&["link", "set", "lo", "up"]);
        ip(&["link", "add", "br0", "type", "bridge"]);
        ip(&["address", "add", "10.97.0.1/24", "dev", "br0"]);
        ip(&["link", "set", "br0", "up"]);
        // Members sync their files; a disk shared with other tests would delay them.
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let mut etcd = Self { directory, options, namespaces: Vec::new(), members: Vec::new() };
        for member in 0..MEMBERS {
            let holder = start(Command::new("unshare").args(["--net", "sleep", "infinity"]), Stdio::null());
            etcd.namespaces.push(holder);
            etcd.members.push(None);
            etcd.plug(member);
        }
        (0..MEMBERS).for_each(|member| etcd.start_member(member));
        (0..MEMBERS).for_each(|member| etcd.wait_for_member(member));
        etcd
    }

    /// Replaces a member, which is lost for good, by a new one with another address; returns its number.
    pub(crate) fn replace(&mut self, lost: usize) -> usize {
        self.kill(lost);
        let listed = self.ctl(&["member", "list"]);
        let name = format!(" m{lost},");
        let line = listed.lines().find(|line| line.contains(&name)).expect("the member is listed");
        let id = line.split(',').next().expect("an id").to_owned();
        let rest: Vec<_> =
            (0..MEMBERS).filter(|member| *member != lost).map(|rest| self.endpoint(rest)).collect();
        self.change_members(&rest.join(","), &["member", "remove", &id], "not found");
        let new = self.members.len();
        let holder = start(Command::new("unshare").args(["--net", "sleep", "infinity"]), Stdio::null());
        self.namespaces.push(holder);
        self.members.push(None);
        self.plug(new);
        let (name, url) = (format!("m{new}"), format!("--peer-urls={}", peer_url(new)));
        self.change_members(&rest.join(","), &["member", "add", &name, &url], "already exists");
        let present = (0..=new).filter(|member| *member != lost);
        let cluster = present.map(|member| format!("m{member}={}", peer_url(member)));
        self.start_member_of(new, &cluster.collect::<Vec<_>>().join(","), "existing");
        self.wait_for_member(new);
        new
    }

    /// Changes the members. etcd refuses it during an election, and until the members have been connected for a while.
    /// `applied`: the error after an attempt whose answer was lost.
    fn change_members(&self, endpoints: &str, arguments: &[&str], applied: &str) {
        let deadline = Instant::now() + STARTED;
        while let Err(error) = self.try_ctl_at(endpoints, arguments) {
            if error.contains(applied) {
                return;
            }
            assert!(Instant::now() < deadline, "{error}");
        }
    }

    /// A configuration with all members.
    pub(crate) fn config(&self, prefix: &str) -> EtcdConfig {
        let client = self.options.tls.as_deref().and_then(client_certificate);
        EtcdConfig {
            endpoints: (0..MEMBERS).map(|member| self.endpoint(member)).collect(),
            prefix: prefix.to_owned(),
            username: None,
            password_file: None,
            cacert: self.options.tls.as_ref().map(|folder| folder.join("ca.pem")),
            certificate: client.clone().map(|(certificate, _)| certificate),
            key: client.map(|(_, key)| key),
            allow_insecure: true,
        }
    }

    pub(crate) fn endpoint(&self, member: usize) -> String {
        let scheme = if self.options.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:2379", address(member))
    }

    /// The address at which a member serves clients.
    pub(crate) fn client_address(member: usize) -> std::net::SocketAddr {
        format!("{}:2379", address(member)).parse().expect("an address")
    }

    /// Runs `etcdctl` against all members; returns its output.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        self.try_ctl(arguments).unwrap_or_else(|error| panic!("etcdctl {arguments:?}: {error}"))
    }

    pub(crate) fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let endpoints: Vec<String> = (0..MEMBERS).map(|member| self.endpoint(member)).collect();
        self.try_ctl_at(&endpoints.join(","), arguments)
    }

    fn try_ctl_at(&self, endpoints: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(endpoints).args(arguments);
        if let Some(folder) = &self.options.tls {
            command.arg("--cacert").arg(folder.join("ca.pem"));
            if let Some((certificate, key)) = client_certificate(folder) {
                command.arg("--cert").arg(certificate).arg("--key").arg(key);
            }
        }
        let output = command.output().expect("etcdctl (package etcd-client) runs");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// The member that leads.
    pub(crate) fn leader(&self) -> usize {
        let deadline = Instant::now() + STARTED;
        loop {
            let leads = |member: &usize| {
                let endpoint = self.endpoint(*member);
                let status = self.try_ctl_at(&endpoint, &["endpoint", "status", "--command-timeout=1s"]);
                // The fifth field of the plain output.
                status.is_ok_and(|line| line.split(", ").nth(4) == Some("true"))
            };
            if let Some(leader) = (0..MEMBERS).find(leads) {
                return leader;
            }
            assert!(Instant::now() < deadline, "no member leads");
        }
    }

    /// Sends a signal to a member.
    pub(crate) fn signal(&self, member: usize, signal: Signal) {
        let child = self.members[member].as_ref().expect("the member runs");
        kill(pid(child), signal).expect("the member runs");
    }

    /// The id of a member's process.
    pub(crate) fn process_id(&self, member: usize) -> u32 {
        self.members[member].as_ref().expect("the member runs").id()
    }

    /// Kills a member without its end.
    pub(crate) fn kill(&mut self, member: usize) {
        let mut child = self.members[member].take().expect("the member runs");
        child.kill().expect("the member runs");
        child.wait().expect("the member ends");
    }

    /// Starts a killed member again, with its data.
    pub(crate) fn restart(&mut self, member: usize) {
        self.start_member(member);
        self.wait_for_member(member);
    }

    /// Starts a killed member without waiting: a member alone has no quorum.
    pub(crate) fn restart_without_wait(&mut self, member: usize) {
        self.start_member(member);
    }

    /// Runs `etcdctl` within the network of a member, from where a cut-off test is not cut off.
    pub(crate) fn ctl_inside(&self, arguments: &[&str]) -> String {
        let holder = self.namespaces[0].id().to_string();
        let mut command = Command::new("nsenter");
        command.env("ETCDCTL_API", "3").args(["--target", &holder, "--net", "etcdctl", "--endpoints"]);
        output(command.arg(self.endpoint(0)).args(arguments))
    }

    /// Writes until etcd has no space left, beside the records.
    pub(crate) fn fill(&self) {
        let value = "x".repeat(100 * 1024);
        for _ in 0..500 {
            if let Err(error) = self.try_ctl(&["put", "filling", &value]) {
                assert!(error.contains("database space exceeded"), "{error}");
                return;
            }
        }
        panic!("the quota is not reached");
    }

    /// Compacts everything before the present revision.
    pub(crate) fn compact_inside(&self) {
        let json = self.ctl_inside(&["get", "none", "--write-out=json"]);
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        self.ctl_inside(&["compact", &json["header"]["revision"].to_string()]);
    }

    /// Saves a snapshot of one member.
    pub(crate) fn snapshot(&self, path: &Path) {
        let path = path.to_str().expect("UTF-8");
        self.try_ctl_at(&self.endpoint(0), &["snapshot", "save", path]).expect("saves");
    }

    /// Runs `etcdctl` with a line on its standard input.
    pub(crate) fn ctl_with_input(&self, arguments: &[&str], line: &str) {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoint(0)]).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("etcdctl runs");
        let mut input = child.stdin.take().expect("piped");
        std::io::Write::write_all(&mut input, format!("{line}\n").as_bytes()).expect("etcdctl reads");
        drop(input);
        assert!(child.wait().expect("etcdctl ends").success());
    }

    /// Deletes all data and starts the members from a snapshot, as an operator restores one.
    pub(crate) fn restore(&mut self, snapshot: &Path) {
        (0..MEMBERS).for_each(|member| self.kill(member));
        for member in 0..MEMBERS {
            let data = self.data(member);
            std::fs::remove_dir_all(&data).expect("removes the data");
            let peer = peer_url(member);
            let name = format!("m{member}");
            self.ctl(&[
                "snapshot",
                "restore",
                snapshot.to_str().expect("UTF-8"),
                "--name",
                &name,
                "--data-dir",
                data.to_str().expect("UTF-8"),
                "--initial-cluster",
                &initial_cluster(),
                "--initial-advertise-peer-urls",
                &peer,
            ]);
        }
        (0..MEMBERS).for_each(|member| self.start_member(member));
        (0..MEMBERS).for_each(|member| self.wait_for_member(member));
    }

    /// Cuts a member off the other members; the test still reaches it.
    pub(crate) fn isolate(&self, member: usize) {
        for other in (0..MEMBERS).filter(|other| *other != member) {
            self.ip_in(member, &["route", "add", "blackhole", &format!("{}/32", address(other))]);
        }
    }

    /// Ends [`Etcd::isolate`].
    pub(crate) fn rejoin(&self, member: usize) {
        for other in (0..MEMBERS).filter(|other| *other != member) {
            self.ip_in(member, &["route", "delete", "blackhole", &format!("{}/32", address(other))]);
        }
    }

    /// Cuts the test off all members, which still reach one another.
    pub(crate) fn cut_off(&self) {
        (0..MEMBERS).for_each(|member| self.ip_in(member, &["route", "add", "blackhole", "10.97.0.1/32"]));
    }

    /// Ends [`Etcd::cut_off`].
    pub(crate) fn reconnect(&self) {
        (0..MEMBERS).for_each(|member| self.ip_in(member, &["route", "delete", "blackhole", "10.97.0.1/32"]));
    }

    /// A new directory.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(&path).expect("creates a directory");
        path
    }

    fn data(&self, member: usize) -> PathBuf {
        self.directory.path().join(format!("m{member}"))
    }

    fn plug(&self, member: usize) {
        let (end, holder) = (format!("m{member}"), self.namespaces[member].id().to_string());
        // The holder has its namespace once `unshare` has run.
        let deadline = Instant::now() + STARTED;
        let own = std::fs::read_link("/proc/thread-self/ns/net").expect("a namespace");
        while std::fs::read_link(format!("/proc/{holder}/ns/net")).is_ok_and(|other| other == own) {
            assert!(Instant::now() < deadline, "no namespace for a member");
            std::thread::yield_now();
        }
        ip(&["link", "add", &end, "type", "veth", "peer", "name", "eth0", "netns", &holder]);
        ip(&["link", "set", &end, "master", "br0", "up"]);
        self.ip_in(member, &["link", "set", "lo", "up"]);
        self.ip_in(member, &["address", "add", &format!("{}/24", address(member)), "dev", "eth0"]);
        self.ip_in(member, &["link", "set", "eth0", "up"]);
    }

    fn ip_in(&self, member: usize, arguments: &[&str]) {
        let holder = self.namespaces[member].id().to_string();
        run(Command::new("nsenter").args(["--target", &holder, "--net", "ip"]).args(arguments));
    }

    fn start_member(&mut self, member: usize) {
        self.start_member_of(member, &initial_cluster(), "new");
    }

    fn start_member_of(&mut self, member: usize, cluster: &str, state: &str) {
        let (client, peer) = (self.endpoint(member), peer_url(member));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join(format!("m{member}.log")))
            .expect("a log file");
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.namespaces[member].id().to_string(), "--net", "etcd"]);
        command.args(["--name", &format!("m{member}"), "--data-dir"]).arg(self.data(member));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", cluster, "--initial-cluster-state", state]);
        command.args(["--logger", "zap", "--log-level", "warn"]).args(&self.options.arguments);
        if let Some(folder) = &self.options.tls {
            command.arg("--cert-file").arg(folder.join("server.pem"));
            command.arg("--key-file").arg(folder.join("server.key"));
            if client_certificate(folder).is_some() {
                command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(folder.join("ca.pem"));
            }
        }
        self.members[member] = Some(start(&mut command, log.into()));
    }

    fn wait_for_member(&self, member: usize) {
        let deadline = Instant::now() + STARTED;
        let endpoint = self.endpoint(member);
        let health = ["get", "health", "--command-timeout=2s"];
        while let Err(error) = self.try_ctl_at(&endpoint, &health) {
            // Authentication refuses the read, and only a member that serves does so.
            if error.contains("user name is empty") || error.contains("permission denied") {
                return;
            }
            assert!(Instant::now() < deadline, "{endpoint} does not serve: {error}");
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let members = self.members.iter_mut().filter_map(Option::as_mut);
        for child in members.chain(&mut self.namespaces) {
            // The process may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn address(member: usize) -> String {
    format!("10.97.0.{}", 11 + member)
}

fn peer_url(member: usize) -> String {
    format!("http://{}:2380", address(member))
}

/// The certificate and key of clients, if the folder has them.
fn client_certificate(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let certificate = folder.join("client.pem");
    certificate.exists().then(|| (certificate, folder.join("client.key")))
}

fn initial_cluster() -> String {
    let member = |member| format!("m{member}={}", peer_url(member));
    (0..MEMBERS).map(member).collect::<Vec<_>>().join(",")
}
