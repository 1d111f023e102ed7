//! How long the pages take with ten thousand machines: `cargo bench --bench pages`.
//!
//! One client on one connection, requests one after the other. Fails where the page's answer takes 50 ms or more.

#[path = "../suite/daemon.rs"]
#[allow(dead_code, reason = "the bench starts it and asks; the tests do more")]
mod daemon;
#[allow(dead_code, reason = "another bench tells events by itself")]
mod history;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use daemon::Daemon;

/// Machines that are known.
const MANY: u32 = 10_000;
/// Requests of one kind.
const SAMPLES: usize = 100;
/// What a page may take.
const LIMIT: Duration = Duration::from_millis(50);

fn main() {
    let site = daemon::site("");
    history::fill(&site.path().join("history.redb"), MANY, 1);
    let volboot = Daemon::start(site.path());
    let mut stream = TcpStream::connect(volboot.api).expect("connects");
    stream.set_nodelay(true).expect("is set");
    stream.set_read_timeout(Some(daemon::LIMIT)).expect("is set");
    println!("pages with {MANY} machines:");
    let mut slow = Vec::new();
    for (name, path) in [
        ("the first page of all", "/ui/"),
        ("the last page of all", "/ui/?page=100"),
        ("those that were stopped", "/ui/?state=stopped"),
        ("by a name", "/ui/?q=web-4711"),
        ("by what happened", "/ui/?q=in+maintenance"),
        ("by what nobody has", "/ui/?q=nothing+of+the+kind"),
        ("one machine", "/ui/machines/52:54:00:00:12:67"),
        ("the appliance", "/ui/appliance"),
    ] {
        let mut times: Vec<_> = (0..SAMPLES).map(|_| timed(&mut stream, path)).collect();
        times.sort();
        let at = |share: usize| times[(times.len() - 1) * share / 100];
        println!("{name:>26} p50 {:6.2} ms, p99 {:6.2} ms", millis(at(50)), millis(at(99)));
        if at(50) >= LIMIT {
            slow.push(name);
        }
    }
    assert!(slow.is_empty(), "slower than {LIMIT:?}: {slow:?}");
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// How long a page takes, as a browser asks for it.
fn timed(stream: &mut TcpStream, path: &str) -> Duration {
    let began = Instant::now();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0\r\nAccept-Language: en\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("is sent");
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let read = stream.read(&mut buffer).expect("is answered");
        assert!(read > 0, "{path}: closed after {} bytes", answer.len());
        answer.extend_from_slice(&buffer[..read]);
        let Some(head) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{path}: {text}");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        if answer.len() == head + 4 + length.parse::<usize>().expect("a number") {
            return began.elapsed();
        }
    }
}
