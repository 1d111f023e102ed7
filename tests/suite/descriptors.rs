//! Few file descriptors: the daemon says what to set, and serves within its limit.

use std::collections::HashSet;
use std::fs::DirEntry;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

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
        let response = get(address, "/healthz");
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

/// Sends a request, and reads the whole response.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("sets the time-out");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("sends");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("responds");
    response
}

/// The number of a process's descriptors, if no lower number is free.
fn count_descriptors_without_gap(pid: u32) -> Option<u64> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the directory exists");
    let number = |entry: DirEntry| entry.file_name().to_str().and_then(|name| name.parse().ok());
    let open: HashSet<u64> = entries.flatten().filter_map(number).collect();
    let count = open.len() as u64;
    (0..count).all(|number| open.contains(&number)).then_some(count)
}

/// Sends a request over a connection that stays open, and reads the body of the response.
fn get_again(stream: &mut BufReader<TcpStream>, path: &str) -> String {
    write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sends");
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a line");
        match line.trim().to_ascii_lowercase().strip_prefix("content-length:") {
            Some(value) => length = value.trim().parse().expect("a number"),
            None if line.trim().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    String::from_utf8(body).expect("text")
}

#[test]
fn without_descriptors_no_more_idle_connections_give_way_than_needed() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let pid = Pid::from_raw(daemon.pid().try_into().expect("a process id"));
    let connect = |address| {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(LIMIT)).expect("sets the time-out");
        stream
    };
    let mut metrics = BufReader::new(connect(daemon.api));
    let mut count = |name: &str| {
        let name = format!("{name}{{listener=\"http\"}} ");
        let text = get_again(&mut metrics, "/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(&name)).expect("a metric");
        value.parse::<usize>().expect("a number")
    };
    let mut idle: Vec<_> = (0..200).map(|_| connect(daemon.http)).collect();
    let end = Instant::now() + LIMIT;
    // No connection closes before the limit is set: idle ones fill the gaps.
    let limit = loop {
        assert!(Instant::now() < end, "the descriptors have a gap");
        if count("volboot_connections") == idle.len() {
            match count_descriptors_without_gap(daemon.pid()) {
                Some(limit) => break limit,
                None => idle.push(connect(daemon.http)),
            }
        }
    };
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let set_limit =
        |current| prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).expect("sets the limit");
    set_limit(Some(limit));
    let response = get(daemon.http, "/healthz");
    set_limit(maximum);
    assert!(response.starts_with("HTTP/1.0 200 "), "{response}");
    // accept(2) takes a descriptor before it looks for a connection: a second one gives way for the next.
    let displaced = count("volboot_connections_displaced");
    assert!((1..=2).contains(&displaced), "{displaced} closed for one connection");
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
