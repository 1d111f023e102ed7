//! The files in `packaging/up`, which report that an operating system is up, repeat the report until it is acknowledged.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
/// Fails twice, as with status 503, and logs each call.
const CURL: &str = "#!/bin/sh\necho \"$*\" >> \"$CALLS\"\n[ $(wc -l < \"$CALLS\") -ge 3 ]\n";
/// The address of the network card. The first call fails, as without a default route.
const CAT: &str =
    "#!/bin/sh\n[ -e \"$CALLS.cat\" ] || { : > \"$CALLS.cat\"; exit 1; }\necho 52:54:00:00:00:01\n";

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/up").join(name)).expect("text")
}

/// Runs the script with commands that need no network; returns the calls of curl.
fn run(script: &str) -> Vec<String> {
    let directory = tempfile::tempdir().expect("creates a directory");
    for (name, text) in [("curl", CURL), ("cat", CAT), ("sleep", "#!/bin/sh\n")] {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("sets the mode");
    }
    let calls = directory.path().join("calls");
    let status = Command::new("/bin/sh")
        .args(["-euc", script])
        .env("PATH", format!("{}:/usr/bin:/bin", directory.path().display()))
        .env("CALLS", &calls)
        .env("VOLBOOT", "http://10.0.0.1:8080")
        .status()
        .expect("runs");
    assert!(status.success(), "{status}");
    // The script of cloud-init goes on in the background.
    let deadline = Instant::now() + LIMIT;
    loop {
        let lines: Vec<_> =
            fs::read_to_string(&calls).unwrap_or_default().lines().map(ToOwned::to_owned).collect();
        if lines.len() >= 3 {
            return lines;
        }
        assert!(Instant::now() < deadline, "{lines:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn expect_calls(calls: &[String]) {
    let url = "http://10.0.0.1:8080/boot/52:54:00:00:00:01/event?step=up";
    assert_eq!(calls, vec![format!("-fsS --max-time 10 {url}"); 3]);
}

#[test]
fn systemd_unit_reports_until_acknowledged() {
    let unit = read("volboot-up.service");
    let (_, command) = unit.split_once("ExecStart=/bin/sh -euc '").expect("has a command");
    let (command, _) = command.split_once("'\n").expect("the command has an end");
    expect_calls(&run(&command.replace("\\\n", "").replace("$$", "$")));
    assert!(unit.contains("\nType=simple\n"), "the start must not wait for the acknowledgement");
}

#[test]
fn cloud_init_script_reports_until_acknowledged() {
    let config = read("cloud-config.yaml");
    let (_, content) = config.split_once("content: |\n").expect("has a script");
    let script: Vec<_> = content.lines().map(str::trim_start).collect();
    expect_calls(&run(&script.join("\n")));
}
