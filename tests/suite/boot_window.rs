//! `[boot] window`: a node with a BMC gets its script only for the boot that volboot began.

use std::time::{Duration, Instant};

use crate::daemon::{Daemon, LIMIT};
use crate::fake_bmc::{BmcCall, BmcTrouble};
use crate::switched::{Switched, command, send};

const ENDED: &str = "the machine has booted since volboot switched it on";
const NOT_OPENED: &str = "volboot has not switched the machine on; `volboot power reboot` opens a new one";

impl Switched {
    /// The script for a try of a boot session; without a session if `journey` is empty.
    fn ask(&self, journey: &str, attempt: u32) -> String {
        let session = if journey.is_empty() { String::new() } else { format!("journey={journey}&") };
        self.request(&format!("/boot/52-54-00-00-00-01?{session}try={attempt}"))
    }

    #[track_caller]
    fn check_booted(&self, journey: &str, attempt: u32) {
        let script = self.ask(journey, attempt);
        assert!(script.contains("sanhook"), "{journey}: {script}");
    }

    #[track_caller]
    fn check_refused(&self, journey: &str, cause: &str) {
        let script = self.ask(journey, 1);
        assert!(!script.contains("sanhook"), "{journey}: {script}");
        let line = format!("node web-1: outside of the boot window ([boot] window): {cause}");
        assert!(script.contains(&line), "{journey}: {script}");
    }

    /// Reports a step, and waits until a boot session is refused: the report is noted after its response.
    #[track_caller]
    fn report_and_wait_for_end(&self, step: &str, journey: &str) {
        self.request(&format!("/boot/52-54-00-00-00-01/event?step={step}"));
        let deadline = Instant::now() + LIMIT;
        while !self.ask(journey, 2).contains(ENDED) {
            assert!(Instant::now() < deadline, "the window stays open");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn switch(&self, verb: &str) {
        let (code, text) = self.run(&["power", verb, "web-1"]);
        assert_eq!(code, Some(0), "{text}");
    }
}

#[test]
fn only_the_boot_that_volboot_began_gets_its_script() {
    const OTHER: &str = "another boot session has begun since volboot switched the machine on";
    let mut site = Switched::start("[boot]\nwindow = \"15m\"");
    site.check_refused("a1", NOT_OPENED);
    // A node without a BMC has no window.
    let api = format!("http://{}", site.daemon.api);
    let enroll =
        ["enroll", "web-2", "--mac", "52:54:00:00:00:02", "--iqn", "iqn.2017-08.org.openstack.web-2"];
    let volume = ["--target", "iscsi:192.0.2.2::3260:1:iqn.2010-10.org.example:other"];
    let enrolled = command(&api, &[&enroll[..], &volume[..]].concat()).output().expect("the command runs");
    assert!(enrolled.status.success(), "{enrolled:?}");
    assert!(site.request("/boot/52-54-00-00-00-02?journey=b1&try=1").contains("sanhook"));

    site.switch("on");
    site.check_refused("", "the request belongs to no boot session");
    site.check_booted("a1", 1);
    site.check_booted("a1", 2);
    site.check_refused("a2", OTHER);
    let metrics = send(site.daemon.api, "GET", "/metrics", "");
    for reason in ["not_opened", "no_session", "other_session"] {
        let line = format!("volboot_boot_window_refusals_total{{reason=\"{reason}\"}} 1\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    // The store holds the window over a restart.
    site.daemon.kill();
    site.daemon = Daemon::start(site.site.path());
    site.check_refused("a2", OTHER);
    site.check_booted("a1", 3);

    site.report_and_wait_for_end("hooked", "a2");
    // The volume did not start, and the machine asks again.
    site.check_booted("a1", 4);
    // A reboot by the operating system is outside, and so is a command that switches nothing.
    site.check_refused("a3", ENDED);
    site.switch("on");
    site.check_refused("a3", ENDED);
    site.switch("reboot");
    site.check_booted("a3", 1);
    site.report_and_wait_for_end("up", "a3");
    site.check_refused("a4", ENDED);
    site.switch("off");
    site.check_refused("a5", NOT_OPENED);
}

#[test]
fn with_window_reboot_a_machine_that_was_up_boots_once_more() {
    let site = Switched::start("[boot]\nwindow = \"15m\"\nwindow_reboot = true");
    site.switch("on");
    site.check_booted("a1", 1);
    site.report_and_wait_for_end("up", "a1");
    site.check_booted("a2", 1);
    site.check_booted("a2", 2);
    site.check_refused("a3", "another boot session has begun");
}

#[test]
fn a_refused_power_on_opens_no_window() {
    let site = Switched::start("[boot]\nwindow = \"15m\"");
    let refuse = |verb: &str| {
        site.bmc.fail(BmcCall::Reset, 1, BmcTrouble::Status(400, "Base.1.8.ActionNotSupported"));
        let (code, text) = site.run(&["power", verb, "web-1"]);
        assert!(code != Some(0) && text.contains("400"), "{code:?} {text}");
    };
    refuse("on");
    site.check_refused("a1", NOT_OPENED);
    site.switch("on");
    site.check_booted("a1", 1);
    site.report_and_wait_for_end("up", "a1");
    refuse("reboot");
    site.check_refused("a2", ENDED);
    // The next one opens it.
    site.switch("reboot");
    site.check_booted("a2", 1);
}

#[test]
fn with_a_window_no_fallback_comes_into_force() {
    const OBSTACLE: &str = "It cannot come into force: with [boot] window, a machine gets no script";
    let target = ["--target", "iscsi:192.0.2.2::3260:1:iqn.2010-10.org.example:spare"];
    for (sections, is_limited) in [
        ("", false),
        ("[boot]\nwindow = \"15m\"", true),
        ("[boot]\nwindow = \"15m\"\nwindow_reboot = true", true),
    ] {
        let site = Switched::start(sections);
        let (code, text) = site.run(&[&["fallback", "web-1"], &target[..]].concat());
        assert_eq!((code, text.contains(OBSTACLE)), (Some(0), is_limited), "{sections}: {text}");
    }
}
