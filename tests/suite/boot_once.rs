//! One-time boots by the real server: the command line, the API, scripts of machines, and kills at any moment.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::daemon::{Daemon, LIMIT, site, volboot};

const MACHINE: &str = "/boot/52-54-00-00-00-01";
const ROOT: &str = "iqn.2010-10.org.example:root";
const RESCUE: &str = "iqn.2010-10.org.example:rescue";
const RESCUE_URI: &str = "iscsi:192.0.2.9::3260:1:iqn.2010-10.org.example:rescue";
const SECRET: &str = "a-long-secret-42";

/// Sends a request; the response has its head. `None` if the connection breaks.
fn try_send(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nX-OpenStack-Ironic-API-Version: 1.52\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    Some(response).filter(|response| !response.is_empty())
}

/// A server with the node web-1, which boots from an external target.
struct Site {
    daemon: Daemon,
    directory: TempDir,
}

impl Site {
    fn start() -> Self {
        let directory = site("");
        let daemon = Daemon::start(directory.path());
        let site = Self { daemon, directory };
        for (name, mac) in [("web-1", "52:54:00:00:00:01"), ("web-2", "52:54:00:00:00:02")] {
            let (iqn, target) = (format!("iqn.2017-08.org.openstack.{name}"), own_volume(name));
            let uri = format!("iscsi:192.0.2.2::3260:1:{target}");
            let enroll = ["enroll", name, "--mac", mac, "--iqn", &iqn, "--target", &uri];
            assert!(site.command(&enroll).output().expect("the command runs").status.success());
        }
        site
    }

    fn restart(&mut self) {
        self.daemon = Daemon::start(self.directory.path());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = volboot(arguments);
        command.env_remove("VOLBOOT_USER").env("VOLBOOT_API", format!("http://{}", self.daemon.api));
        command
    }

    /// Runs a command. Returns whether it succeeded, and its output.
    fn run(&self, arguments: &[&str]) -> (bool, String) {
        self.run_with(arguments, |_| ())
    }

    fn run_with(&self, arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> (bool, String) {
        let mut command = self.command(arguments);
        prepare(&mut command);
        let output = command.output().expect("it runs");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        (output.status.success(), text)
    }

    /// Calls the API. Returns the status and the body.
    fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let response = try_send(self.daemon.api, method, path, &body.to_string()).expect("a response");
        let status = response.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let (_, body) = response.split_once("\r\n\r\n").expect("a body");
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    fn boot_once(&self) -> Value {
        self.call("GET", "/v1/nodes/web-1/boot-once", &Value::Null).1["boot_once"].clone()
    }

    /// The script for a try of a journey.
    fn script(&self, journey: &str, attempt: u32) -> String {
        try_send(self.daemon.http, "GET", &script_path(journey, attempt), "").expect("a response")
    }

    /// The machine has hooked its volumes, so the next journey is not delayed as a boot loop.
    fn report_hooked(&self) {
        let path = format!("{MACHINE}/event?step=hooked&try=1");
        try_send(self.daemon.http, "GET", &path, "").expect("a response");
    }
}

fn own_volume(node: &str) -> String {
    if node == "web-1" { ROOT.to_owned() } else { format!("iqn.2010-10.org.example:{node}") }
}

fn script_path(journey: &str, attempt: u32) -> String {
    format!("{MACHINE}?macs=52-54-00-00-00-01&platform=efi&journey={journey}&try={attempt}")
}

#[test]
fn command_line_sets_shows_and_cancels() {
    let site = Site::start();
    let shown = |text: &str| format!("node web-1: {text}");
    assert_eq!(site.run(&["boot-once", "web-1"]), (true, shown("no one-time boot\n")));
    let set = ["boot-once", "web-1", "--target", RESCUE_URI, "--with-volumes", "--ttl", "20m"];
    let (done, text) = site.run(&set);
    let expected = shown(&format!(
        "one-time boot from target {RESCUE}, with the node's own volumes: at the next boot, until 2"
    ));
    assert!(done && text.starts_with(&expected), "{text}");
    let once = site.boot_once();
    let seconds =
        |key: &str| once[key].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok()).expect("a time");
    assert_eq!(seconds("expires_at").duration_since(seconds("created_at")).as_secs(), 20 * 60);
    for (arguments, source) in [
        (["--local"].as_slice(), "the local disk"),
        (&["--shell"], "the iPXE shell"),
        (&["--url", "http://192.0.2.1/rescue.ipxe"], "http://192.0.2.1/rescue.ipxe"),
    ] {
        let (done, text) = site.run(&[&["boot-once", "web-1"], arguments].concat());
        assert!(
            done && text.starts_with(&shown(&format!("one-time boot from {source}: at the next boot"))),
            "{text}"
        );
    }
    assert_eq!(site.run(&["boot-once", "web-1", "--cancel"]), (true, shown("no one-time boot\n")));
    for (arguments, reason) in [
        (["boot-once", "web-1", "--ttl", "1h"].as_slice(), "name a source"),
        (&["boot-once", "web-1", "--volume", "disk-1"], "Expected UUID for volume: disk-1"),
        (
            &["boot-once", "web-1", "--volume", "0b1d4a52-6d5f-4d21-9a7e-0e8a4d0a6a11"],
            "no Cinder is configured",
        ),
        (&["boot-once", "web-1", "--target", "disk-1"], "target: expected iscsi:SERVER"),
        (&["boot-once", "web-1", "--url", "rescue.ipxe"], "url: expected an http, https or tftp URL"),
        (&["boot-once", "web-1", "--local", "--with-volumes"], "with_volumes and shared require a volume"),
        (&["boot-once", "web-1", "--local", "--ttl", "40d"], "expected a duration"),
        (&["boot-once", "web-1", "--local", "--ttl", "961h"], "ttl must be between 1 s and 30 days"),
        (&["boot-once", "web-3", "--local"], "web-3"),
    ] {
        let (done, text) = site.run(arguments);
        assert!(!done && text.contains(reason), "{arguments:?}: {text}");
    }
}

#[test]
fn secret_is_shown_nowhere_but_in_the_script() {
    let mut site = Site::start();
    let set = ["boot-once", "web-1", "--target", RESCUE_URI, "--chap-user", "ann"];
    let (done, text) = site.run(&set);
    assert!(!done && text.contains("VOLBOOT_CHAP_PASSWORD is not set"), "{text}");
    let (done, text) = site.run_with(&[&set[..], &["--json"]].concat(), |command| {
        command.env("VOLBOOT_CHAP_PASSWORD", SECRET);
    });
    assert!(done && text.contains("******") && !text.contains(SECRET), "{text}");
    let hex = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
    let (_, preview) = site.call("GET", "/v1/nodes/web-1/boot-preview", &Value::Null);
    let page = try_send(site.daemon.api, "GET", "/ui/machines/52:54:00:00:00:01", "").expect("a page");
    for text in [preview.to_string(), page, site.boot_once().to_string()] {
        assert!(text.contains(RESCUE), "{text}");
        assert!(!text.contains(SECRET) && !text.contains(&hex), "{text}");
    }
    let script = site.script("a", 1);
    assert!(script.contains(&format!("set password:hex {hex}\n")), "{script}");
    loop {
        let line = site.daemon.next_line();
        assert!(!line.to_string().contains(SECRET) && !line.to_string().contains(&hex), "{line}");
        if line["message"] == "boot request" {
            break;
        }
    }
}

#[test]
fn machine_gets_it_at_every_try_of_one_journey_and_the_timeline_says_so() {
    let site = Site::start();
    assert!(site.run(&["boot-once", "web-1", "--target", RESCUE_URI, "--with-volumes"]).0);
    assert!(try_send(site.daemon.http, "HEAD", &script_path("a", 1), "").is_some());
    assert_eq!(site.boot_once()["state"], "armed");
    // The first answer is lost; at the second try a hook fails.
    for attempt in [1, 2, 3] {
        let script = site.script("a", attempt);
        let says = format!(
            "echo volboot: one-time boot from target {RESCUE}; the next boot is the node's own again\n"
        );
        assert!(script.contains(&says), "{script}");
        let rescue =
            script.find(&format!("sanhook --drive 0x80 iscsi:192.0.2.9::3260:1:{RESCUE}")).expect("0x80");
        let own = script.find(&format!("sanhook --drive 0x81 iscsi:192.0.2.2::3260:1:{ROOT}")).expect("0x81");
        assert!(rescue < own && script.contains("sanboot --drive 0x80"), "{script}");
    }
    let once = site.boot_once();
    assert_eq!((&once["state"], &once["journey"]), (&json!("consumed"), &json!("a")));
    site.report_hooked();
    let (done, history) = site.run(&["show", "web-1"]);
    assert!(
        done && history.contains(&format!("boot script sent for a one-time boot from target {RESCUE}")),
        "{history}"
    );
    assert!(
        history.contains(&format!("one-time boot from target {RESCUE}: volume hooked after")),
        "{history}"
    );
    let script = site.script("b", 1);
    assert!(script.contains(ROOT) && !script.contains(RESCUE) && !script.contains("one-time"), "{script}");
    wait_until_ended(&site);
}

/// The end of a one-time boot follows the response.
fn wait_until_ended(site: &Site) {
    let deadline = std::time::Instant::now() + LIMIT;
    while !site.boot_once().is_null() {
        assert!(std::time::Instant::now() < deadline, "the one-time boot does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn volume_of_another_node_is_refused_unless_it_is_shared() {
    let site = Site::start();
    let other = format!("iscsi:192.0.2.2::3260:1:{}", own_volume("web-2"));
    let set = ["boot-once", "web-1", "--target", &other];
    let (done, text) = site.run(&set);
    assert!(
        !done && text.contains("the volume is the boot volume of node web-2; share it (--shared)"),
        "{text}"
    );
    assert!(site.boot_once().is_null());
    assert!(site.run(&[&set[..], &["--shared"]].concat()).0);
    assert!(site.run(&["boot-once", "web-1", "--target", RESCUE_URI]).0);
    let body = json!({"target": RESCUE_URI});
    let (status, fault) = site.call("PUT", "/v1/nodes/web-2/boot-once", &body);
    assert!(status == 409 && fault.to_string().contains("node web-1 boots once from the volume"), "{fault}");
    let body = json!({"target": RESCUE_URI, "shared": true});
    assert_eq!(site.call("PUT", "/v1/nodes/web-2/boot-once", &body).0, 200);
    for body in [
        json!({"url": "http://192.0.2.1/x", "local": true}),
        json!({}),
        json!({"disk": 1}),
        json!({"local": true, "ttl": -1}),
    ] {
        assert_eq!(site.call("PUT", "/v1/nodes/web-1/boot-once", &body).0, 400, "{body}");
    }
}

#[test]
fn boot_device_disk_for_one_boot_is_the_local_disk_once() {
    const DEVICE: &str = "/v1/nodes/web-1/management/boot_device";
    let site = Site::start();
    let set = |device: &str, persistent: bool| {
        let body = json!({"boot_device": device, "persistent": persistent});
        assert_eq!(site.call("PUT", DEVICE, &body).0, 204);
        site.call("GET", DEVICE, &Value::Null).1
    };
    let network = json!({"boot_device": "pxe", "persistent": true});
    assert_eq!(set("disk", true), network, "for all boots, the firmware's boot order counts");
    assert_eq!(set("disk", false), json!({"boot_device": "disk", "persistent": false}));
    assert_eq!(set("pxe", true), network);
    assert!(site.boot_once().is_null());
    set("disk", false);
    let script = site.script("a", 1);
    assert!(script.contains("one-time boot from the local disk") && script.ends_with("exit 1\n"), "{script}");
    assert!(site.script("a", 2).contains("one-time boot from the local disk"));
    assert!(site.script("b", 1).contains(ROOT));
}

#[test]
fn url_and_shell_are_scripts_of_their_own() {
    let site = Site::start();
    assert!(site.run(&["boot-once", "web-1", "--url", "http://192.0.2.1/rescue.ipxe?a=1&b=2"]).0);
    let script = site.script("a", 1);
    assert!(
        script.contains("chain --autofree http://192.0.2.1/rescue.ipxe?a=1&b=2 || set rc ${errno}\n"),
        "{script}"
    );
    let (_, history) = site.run(&["show", "web-1"]);
    assert!(
        history.contains("sent to a URL: node web-1: one-time boot from http://192.0.2.1/rescue.ipxe"),
        "{history}"
    );
    assert!(site.run(&["boot-once", "web-1", "--shell"]).0);
    let script = site.script("b", 1);
    assert!(script.contains("\nshell ||\n"), "{script}");
}

/// How often the server is killed; `VOLBOOT_BOOT_ONCE_KILLS=1000` is the long form.
fn kills() -> u32 {
    std::env::var("VOLBOOT_BOOT_ONCE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

#[test]
fn one_journey_gets_it_and_no_second_one_whenever_the_server_is_killed() {
    let mut site = Site::start();
    let mut lost = 0;
    for round in 0..kills() {
        let [first, second, third] = ["a", "b", "c"].map(|name| format!("{name}{round}"));
        let body = json!({"target": RESCUE_URI});
        assert_eq!(site.call("PUT", "/v1/nodes/web-1/boot-once", &body).0, 200);
        // The moment of the kill moves through the request, from round to round.
        let address = site.daemon.http;
        // Every other round, the script of the second journey is killed, which ends the one-time boot.
        let killed = if round % 2 == 0 { &first } else { &second };
        if killed == &second {
            assert!(site.script(&first, 1).contains(RESCUE));
            site.report_hooked();
        }
        let path = script_path(killed, 1);
        let request = std::thread::spawn(move || try_send(address, "GET", &path, ""));
        std::thread::sleep(Duration::from_micros(u64::from(round * 137 % 6000)));
        site.daemon.kill();
        let answer = request.join().expect("runs");
        lost += u32::from(answer.is_none());
        if let Some(script) = answer.filter(|script| script.contains("sanboot")) {
            assert_eq!(script.contains(RESCUE), killed == &first, "round {round}: {script}");
        }
        site.restart();
        if killed == &first {
            let script = site.script(&first, 2);
            assert!(script.contains(RESCUE), "round {round}: {script}");
            site.report_hooked();
        }
        for journey in [&second, &third] {
            let script = site.script(journey, 2);
            assert!(script.contains(ROOT) && !script.contains(RESCUE), "round {round}: {script}");
            site.report_hooked();
        }
        wait_until_ended(&site);
        let script = site.script(&first, 3);
        assert!(script.contains(ROOT) && !script.contains(RESCUE), "round {round}: {script}");
        site.report_hooked();
    }
    eprintln!("{} kills, {lost} lost answers", kills());
}
