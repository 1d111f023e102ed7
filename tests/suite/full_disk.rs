//! A full and a read-only disk under the real binary: changes are refused with the reason, machines boot, and volboot
//! recovers by itself. Needs root, for a small file system in a mount namespace.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::daemon::{Daemon, LIMIT, site, volboot};

const MAC: &str = "52:54:00:00:00:01";

/// A site on a disk of its own, of 8 MiB; unmounted on drop.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts the disk in a mount namespace of this thread. `None` without root, except in CI: a test that checks
    /// nothing must not pass there.
    fn mount() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || unshare(CloneFlags::CLONE_NEWNS).is_err() {
            let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
            assert!(!is_ci, "needs root, for a mount namespace: see `make test`");
            eprintln!("skipped: needs root, for a mount namespace");
            return None;
        }
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).expect("the mounts are private");
        let directory = site("");
        let config = fs::read(directory.path().join("volboot.toml")).expect("is readable");
        mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("size=8m"))
            .expect("is mounted");
        fs::write(directory.path().join("volboot.toml"), config).expect("is written");
        Some(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn filler(&self) -> std::path::PathBuf {
        self.path().join("filler")
    }

    /// Fills the disk to the last byte.
    fn fill(&self) {
        let mut filler = fs::File::options().create(true).append(true).open(self.filler()).expect("opens");
        while filler.write(&[0; 4096]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.filler()).expect("is removed");
    }

    fn remount(&self, flags: MsFlags) {
        let none = None::<&str>;
        mount(none, self.path(), none, MsFlags::MS_REMOUNT | flags, none).expect("is mounted again");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The namespace ends with the thread.
        let _ = umount(self.path());
    }
}

fn client() -> Client {
    volboot::tls::install_provider();
    Client::builder().timeout(LIMIT).build().expect("a client")
}

fn versioned(request: RequestBuilder) -> RequestBuilder {
    request.header("X-OpenStack-Ironic-API-Version", "1.33")
}

/// Creates a node with this much data; returns the status and the body.
async fn create_node(daemon: &Daemon, name: &str, size: usize) -> (StatusCode, String) {
    let node = json!({"driver": "fake-hardware", "name": name, "extra": {"data": "x".repeat(size)}});
    let request = client().post(format!("http://{}/v1/nodes", daemon.api)).json(&node);
    let response = versioned(request).send().await.expect("answers");
    (response.status(), response.text().await.expect("text"))
}

async fn get(url: String) -> String {
    versioned(client().get(url)).send().await.expect("answers").text().await.expect("text")
}

async fn read_store_status(daemon: &Daemon) -> String {
    let body = get(format!("http://{}/readyz", daemon.api)).await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["ready"], true, "{body}");
    body["store"].as_str().expect("text").to_owned()
}

/// Creates nodes of growing size until one is refused; returns the number of the acknowledged ones and the refusal.
async fn create_until_refused(daemon: &Daemon) -> (usize, String) {
    for number in 0..500 {
        match create_node(daemon, &format!("big-{number}"), 30_000).await {
            (StatusCode::CREATED, _) => {}
            (StatusCode::SERVICE_UNAVAILABLE, body) => return (number, body),
            other => panic!("{other:?}"),
        }
    }
    panic!("the disk never fills up");
}

/// Repeats a change until it is accepted.
async fn wait_until_writable(daemon: &Daemon, name: &str) {
    let deadline = Instant::now() + LIMIT;
    loop {
        match create_node(daemon, name, 1).await {
            (StatusCode::CREATED, _) => return,
            (status, body) => assert!(Instant::now() < deadline, "{status}: {body}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

async fn count_nodes(daemon: &Daemon) -> usize {
    let body = get(format!("http://{}/v1/nodes?limit=1000", daemon.api)).await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    body["nodes"].as_array().expect("a list").len()
}

/// Checks that machines and operators get answers, and that every surface shows the read-only store.
async fn check_read_only(daemon: &Daemon, reason: &str) {
    let script = get(format!("http://{}/boot/{MAC}?macs={MAC}", daemon.http)).await;
    assert!(script.starts_with("#!ipxe") && script.contains("no node has a port"), "{script}");
    let gather = get(format!("http://{}/boot.ipxe", daemon.http)).await;
    assert!(gather.starts_with("#!ipxe"), "{gather}");
    assert_eq!(read_store_status(daemon).await, "read-only");
    let metrics = get(format!("http://{}/metrics", daemon.api)).await;
    for line in ["volboot_store_writable 0", "volboot_store_up 1"] {
        assert!(metrics.lines().any(|other| other == line), "{line} is not in\n{metrics}");
    }
    let appliance = get(format!("http://{}/v1/appliance", daemon.api)).await;
    let appliance: Value = serde_json::from_str(&appliance).expect("JSON");
    let text = appliance["store"]["read_only"].as_str().expect("a reason");
    assert!(text.starts_with("cannot write ") && text.ends_with(reason), "{text}");
    let page = get(format!("http://{}/ui/appliance", daemon.api)).await;
    assert!(page.contains("read-only") && page.contains(reason), "{page}");
    let output = volboot(&["status", "--api", &format!("http://{}", daemon.api)]).output().expect("runs");
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("read-only: cannot write"), "{output}");
}

#[tokio::test]
async fn a_full_disk_refuses_changes_and_machines_boot() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut daemon = Daemon::start(disk.path());
    let reason = "No space left on device (os error 28)";
    assert_eq!(create_node(&daemon, "first", 1).await.0, StatusCode::CREATED);
    disk.fill();
    let (created, refusal) = create_until_refused(&daemon).await;
    assert!(
        refusal.contains("The store is read-only: cannot write ") && refusal.contains(reason),
        "{refusal}"
    );
    daemon.wait_for_log(
        "store is read-only: changes are refused, machines boot; retrying until the disk accepts writes",
    );
    check_read_only(&daemon, reason).await;
    assert_eq!(count_nodes(&daemon).await, created + 1);

    // A kill and a start on the full disk.
    daemon.kill();
    drop(daemon);
    disk.fill();
    let mut daemon = Daemon::start(disk.path());
    check_read_only(&daemon, reason).await;
    assert_eq!(count_nodes(&daemon).await, created + 1);
    assert_eq!(create_node(&daemon, "late", 1).await.0, StatusCode::SERVICE_UNAVAILABLE);

    disk.free();
    wait_until_writable(&daemon, "later").await;
    daemon.wait_for_log("store accepts changes again");
    assert_eq!(read_store_status(&daemon).await, "ok");
    assert_eq!(count_nodes(&daemon).await, created + 2);
    daemon.stop();
}

#[tokio::test]
async fn a_read_only_disk_is_served_and_a_new_store_on_it_is_refused() {
    let Some(disk) = SmallDisk::mount() else { return };
    disk.remount(MsFlags::MS_RDONLY);
    let config = disk.path().join("volboot.toml");
    let output = volboot(&["serve", "--config", config.to_str().expect("text")]).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("Read-only file system (os error 30)") && !text.contains("damaged"), "{text}");
    disk.remount(MsFlags::empty());
    let mut daemon = Daemon::start(disk.path());
    assert_eq!(create_node(&daemon, "first", 1).await.0, StatusCode::CREATED);
    daemon.stop();

    disk.remount(MsFlags::MS_RDONLY);
    let mut daemon = Daemon::start(disk.path());
    check_read_only(&daemon, "Read-only file system (os error 30)").await;
    assert_eq!(count_nodes(&daemon).await, 1);
    disk.remount(MsFlags::empty());
    wait_until_writable(&daemon, "second").await;
    assert_eq!(count_nodes(&daemon).await, 2);
    daemon.stop();
}
