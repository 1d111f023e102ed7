//! `volboot boot`, `power` and `roll` against a real server and a scripted BMC: each end has its exit code.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::{Daemon, LIMIT};
use crate::fake_bmc::{BmcCall, BmcTrouble};
use crate::switched::{Switched, command, send};

#[test]
fn each_end_of_a_boot_has_its_exit_code() {
    let site = Switched::start("");
    let machine = |journey: &str| format!("/boot/52-54-00-00-00-01?journey={journey}&try=1");
    // A time-out: the machine is on, and nothing arrives.
    let (code, text) = site.run(&["boot", "web-1", "--timeout", "10s"]);
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("boot device set to pxe for the next boot\npower on; the machine boots\n"),
        "{text}"
    );
    assert!(
        text.contains("node web-1: time-out; the machine was switched on, and no request has arrived"),
        "{text}"
    );
    // Up.
    site.bmc.script(|bmc| bmc.is_on = false);
    let (code, text) = site.boot(&["boot", "web-1", "--json"], || {
        assert!(site.request(&machine("a1")).contains("sanhook"));
        site.request("/boot/52-54-00-00-00-01/event?step=up");
    });
    assert_eq!(code, Some(0), "{text}");
    let steps: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().expect("a step")).collect();
    assert_eq!(
        (names[0], names[1], *names.last().expect("a step")),
        ("boot_device", "power", "verdict"),
        "{text}"
    );
    assert!(names.contains(&"event"), "{text}");
    // Stopped.
    site.bmc.script(|bmc| bmc.is_on = false);
    let (code, text) = site.boot(&["boot", "web-1"], || {
        let deadline = Instant::now() + LIMIT;
        // While the node is reserved for the change, maintenance is refused.
        while !send(site.daemon.api, "PUT", "/v1/nodes/web-1/maintenance", "{}").starts_with("HTTP/1.0 202") {
            assert!(Instant::now() < deadline, "the node stays reserved");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(site.request(&machine("a2")).contains("maintenance"));
    });
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("maintenance"), "{text}");
    // The BMC fails.
    site.bmc.script(|bmc| bmc.sessions.clear());
    for call in [BmcCall::Login, BmcCall::Read] {
        site.bmc.fail(call, 9, BmcTrouble::Status(401, "Base.1.8.NoValidSession"));
    }
    let (code, text) = site.run(&["roll", "web-1", "web-2", "--at-once", "1"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("web-1: node web-1: Redfish exception occurred. Error: BMC"), "{text}");
    assert!(text.contains("1 of 2 nodes failed, 0 are up, 1 were left as they are"), "{text}");
    let (code, text) = site.run(&["power", "on", "web-1"]);
    assert_eq!(code, Some(7), "{text}");
    assert!(text.contains("refused the login of user root: 401"), "{text}");
    // A node without a port.
    site.bmc.script(|bmc| bmc.faults.clear());
    let ports = site.read("/v1/nodes/web-1/ports");
    let port = format!("/v1/ports/{}", ports["ports"][0]["uuid"].as_str().expect("a UUID"));
    let disable = serde_json::json!([{"op": "replace", "path": "/pxe_enabled", "value": false}]);
    site.call("PATCH", &port, &disable);
    let (code, text) = site.run(&["boot", "web-1"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("node web-1: no port is enabled for booting"), "{text}");
    // The command line and the server.
    assert_eq!(site.run(&["boot", "web-9"]).0, Some(2));
    assert_eq!(site.run(&["boot"]).0, Some(2));
    let nowhere = command("http://127.0.0.1:1", &["boot", "web-1"]).output().expect("it runs");
    assert_eq!(nowhere.status.code(), Some(5));
}

/// A server that is killed during a change shows the change as failed at its next start.
#[test]
fn an_interrupted_change_is_failed_at_the_next_start() {
    let mut site = Switched::start("");
    site.bmc.fail(BmcCall::Reset, 1, BmcTrouble::Hang);
    site.call("PUT", "/v1/nodes/web-1/states/power", &serde_json::json!({"target": "power on"}));
    site.daemon.kill();
    let daemon = Daemon::start(site.site.path());
    let node =
        send(daemon.api, "GET", "/v1/nodes/web-1?fields=reservation,target_power_state,last_error", "");
    assert!(node.contains("\"reservation\":null") && node.contains("\"target_power_state\":null"), "{node}");
    assert!(node.contains("The power change was not completed: volboot was restarted meanwhile"), "{node}");
}

const IGNORED: &str = "the firmware did not boot from the network: the boot override was ignored";

#[test]
fn a_boot_ends_where_the_firmware_ignores_the_boot_override() {
    let mut site = Switched::start("[power]\nfirst_request_timeout = \"8s\"");
    let (code, text) = site.run(&["boot", "web-1"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("node web-1: stopped: {IGNORED}; no request in ")), "{text}");
    assert!(text.contains("put the network first in the boot order"), "{text}");
    let history = site.read("/v1/nodes/web-1/boot-history");
    let last = history["timeline"].as_array().expect("a list").last().expect("an entry").clone();
    assert_eq!((&last["kind"], &last["mac"]), (&"no_network_boot".into(), &"52:54:00:00:00:01".into()));
    let metrics = send(site.daemon.api, "GET", "/metrics", "");
    assert!(metrics.contains("volboot_boot_missing_network_boots_total 1\n"), "{metrics}");
    // A boot that is late is a boot.
    assert!(site.request("/boot/52-54-00-00-00-01?journey=a1&try=1").contains("sanhook"));
    // A restart does not lose the wait.
    site.bmc.script(|bmc| bmc.is_on = false);
    assert_eq!(site.run(&["boot", "web-1", "--no-wait"]).0, Some(0));
    let deadline = Instant::now() + LIMIT;
    while !site.bmc.is_on() {
        assert!(Instant::now() < deadline, "the machine stays off");
        std::thread::sleep(Duration::from_millis(20));
    }
    site.daemon.kill();
    site.daemon = Daemon::start(site.site.path());
    loop {
        let verdict = site.read("/v1/nodes/web-1/boot-history")["verdict"]["text"].to_string();
        if verdict.contains(IGNORED) {
            break;
        }
        assert!(Instant::now() < deadline, "{verdict}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_boot_ends_where_the_machine_goes_off_by_itself() {
    let site = Switched::start("[power]\nsync_power_state_interval = \"1s\"");
    let (code, text) = site.boot(&["boot", "web-1"], || {
        site.wait_until_on();
        assert!(site.request("/boot/52-54-00-00-00-01?journey=a1&try=1").contains("sanhook"));
        site.bmc.script(|bmc| bmc.is_on = false);
    });
    assert_eq!(code, Some(7), "{text}");
    assert!(text.contains("node web-1: the BMC shows that the machine went off during its boot"), "{text}");
    // Right after the power-on.
    site.bmc.script(|bmc| bmc.dies = true);
    let (code, text) = site.run(&["boot", "web-1"]);
    assert_eq!(code, Some(7), "{text}");
    assert!(text.contains("switched the machine on, and it went off again by itself"), "{text}");
}
