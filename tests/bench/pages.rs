//! Response time of the web pages with ten thousand machines: `cargo bench --bench pages`.
//!
//! One client sends sequential requests over one connection. A median of 50 ms or more fails the benchmark.

#[path = "../suite/daemon.rs"]
#[allow(dead_code, reason = "the tests use more of it than this benchmark")]
mod daemon;
#[allow(dead_code, reason = "other benchmarks use more of it")]
mod history;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use daemon::Daemon;

/// Machines in the history.
const MACHINES: u32 = 10_000;
/// Requests per page.
const SAMPLES: usize = 100;
/// Limit of the median response time.
const LIMIT: Duration = Duration::from_millis(50);

fn main() {
    let site = daemon::site("");
    history::fill(&site.path().join("history.redb"), MACHINES, 1);
    let volboot = Daemon::start(site.path());
    let mut stream = TcpStream::connect(volboot.api).expect("connect succeeds");
    stream.set_nodelay(true).expect("socket option is supported");
    stream.set_read_timeout(Some(daemon::LIMIT)).expect("socket option is supported");
    println!("pages with {MACHINES} machines:");
    let mut slow = Vec::new();
    for (name, path) in [
        ("first page, all machines", "/ui/"),
        ("last page, all machines", "/ui/?page=100"),
        ("filter: stopped", "/ui/?state=stopped"),
        ("search: name", "/ui/?q=web-4711"),
        ("search: verdict", "/ui/?q=maintenance+is+set"),
        ("search: no match", "/ui/?q=nothing+of+the+kind"),
        ("machine", "/ui/machines/52:54:00:00:12:67"),
        ("appliance", "/ui/appliance"),
    ] {
        let mut times: Vec<_> = (0..SAMPLES).map(|_| measure_request(&mut stream, path)).collect();
        times.sort();
        let percentile = |percent: usize| times[(times.len() - 1) * percent / 100];
        println!("{name:>26} p50 {:6.2} ms, p99 {:6.2} ms", millis(percentile(50)), millis(percentile(99)));
        if percentile(50) >= LIMIT {
            slow.push(name);
        }
    }
    assert!(slow.is_empty(), "slower than {LIMIT:?}: {slow:?}");
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Measures one request with the headers of a browser.
fn measure_request(stream: &mut TcpStream, path: &str) -> Duration {
    let start = Instant::now();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0\r\nAccept-Language: en\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("write succeeds");
    let (mut response, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let read = stream.read(&mut buffer).expect("read succeeds");
        assert!(read > 0, "{path}: closed after {} bytes", response.len());
        response.extend_from_slice(&buffer[..read]);
        let Some(head) = response.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&response[..head]).to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{path}: {text}");
        let length =
            text.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("Content-Length");
        if response.len() == head + 4 + length.parse::<usize>().expect("a number") {
            return start.elapsed();
        }
    }
}
