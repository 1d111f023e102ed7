//! Few file descriptors: the daemon says what to set, and serves within its limit.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::daemon::{Daemon, LIMIT, site};

/// `volboot serve` with `ulimit` applied first.
fn serve_with_limit(limit: &str, site: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-ec", &format!("ulimit {limit}; exec \"$0\" serve --config \"$1\"")]);
    command.args([Path::new(env!("CARGO_BIN_EXE_volboot")), &site.join("volboot.toml")]);
    command.env_remove("VOLBOOT_LOG");
    command
}

#[test]
fn the_soft_limit_is_raised() {
    let site = site("");
    let daemon =
        Daemon::start_with(site.path(), |command| *command = serve_with_limit("-Sn 100", site.path()));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).expect("the file exists");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("the limit");
    let [soft, hard] = [3, 4].map(|column| line.split_whitespace().nth(column));
    assert_eq!(soft, hard, "{line}");
}

#[test]
fn idle_connections_give_way_within_a_low_limit() {
    let site = site("");
    let mut warning = None;
    let mut daemon =
        Daemon::start_with(site.path(), |command| *command = serve_with_limit("-n 300", site.path()));
    // Clients on this host have no limit of their own.
    let _idle: Vec<_> = (0..400).map(|_| TcpStream::connect(daemon.http).expect("connects")).collect();
    for address in [daemon.http, daemon.api] {
        let mut stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(LIMIT)).expect("sets the time-out");
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").expect("sends");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("responds");
        assert!(response.starts_with("HTTP/1.0 200 "), "{response}");
    }
    daemon.terminate();
    while warning.is_none() {
        let line = daemon.next_line();
        assert_ne!(line["message"], "cannot accept connections", "{line}");
        warning = line["message"]
            .as_str()
            .filter(|text| text.starts_with("idle connection closed"))
            .map(str::to_owned);
    }
}

#[test]
fn a_limit_that_suffices_lowers_nothing() {
    // More than half of the descriptors are for transfers. The missing certificate ends the start after the listeners.
    let site = site("");
    let path = site.path().join("volboot.toml");
    let config = std::fs::read_to_string(&path).expect("the file exists");
    let config = config.replace("images = []", "images = []\ntransfers = 5000")
        + "certificate = \"/missing\"\nkey = \"/missing\"\n";
    std::fs::write(&path, config).expect("the file is written");
    let output = serve_with_limit("-n 8192", site.path()).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("/missing") && !text.contains("descriptors"), "{text}");
}

#[test]
fn a_limit_that_is_too_low_is_an_error() {
    let site = site("");
    let output = serve_with_limit("-n 100", site.path()).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("the limit of open files is 100") && text.contains("LimitNOFILE=8192"), "{text}");
    assert!(!text.contains("\"ready\""), "{text}");
}
