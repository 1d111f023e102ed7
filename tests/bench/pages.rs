//! How long the pages take with ten thousand machines: `cargo bench --bench pages`.
//!
//! One client on one connection, requests one after the other. Fails where the page's answer takes 50 ms or more.

#[path = "../suite/daemon.rs"]
#[allow(dead_code, reason = "the bench starts it and asks; the tests do more")]
mod daemon;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use volboot::model::Mac;
use volboot::telemetry::{Answered, Event, Metrics, What};
use volboot::timeline::Timeline;

use daemon::Daemon;

/// Machines that are known.
const MANY: u32 = 10_000;
/// Requests of one kind.
const SAMPLES: usize = 100;
/// What a page may take.
const LIMIT: Duration = Duration::from_millis(50);
/// More events at once would not find room in the timeline's queue.
const AT_ONCE: u32 = 1000;

fn main() {
    let site = daemon::site("");
    fill(&site.path().join("history.redb"));
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

/// Ten thousand machines, each with a journey behind it.
fn fill(path: &Path) {
    let timeline = Timeline::open(Some(path), Metrics::new());
    let began = Timestamp::now() - SignedDuration::from_hours(1);
    for n in 0..MANY {
        let [_, a, b, c] = n.to_be_bytes();
        let mac = Mac::new([0x52, 0x54, 0, a, b, c]);
        let address = Some([10, a, b, c].into());
        let at = |millis: i64| began + SignedDuration::from_millis(i64::from(n) * 100 + millis);
        let tell = |at: Timestamp, what: What| timeline.tell(Event::new(at, Some(mac), address, what));
        tell(at(0), What::Gathered);
        let (outcome, reason) = match n % 10 {
            0 => ("refuse", Some(format!("node web-{n} is in maintenance: fan 3 is broken"))),
            1 => ("unknown", Some(format!("no node has a port with the address {mac}"))),
            _ => ("boot", None),
        };
        tell(at(50), answered(n, outcome, reason));
        match n % 10 {
            0 | 1 => {}
            2 => tell(at(80), reported("hook-0", Some("0x410d613b"))),
            _ => tell(at(80), reported("hooked", None)),
        }
        while n % AT_ONCE == AT_ONCE - 1 && timeline.queue() > 0 {
            std::thread::yield_now();
        }
    }
    timeline.close_blocking();
    assert_eq!((timeline.len(), timeline.lost()), (MANY as usize, 0));
}

fn answered(n: u32, outcome: &'static str, reason: Option<String>) -> What {
    let known = outcome != "unknown";
    What::Answered(Box::new(Answered {
        attempt: 1,
        tries: 10,
        macs: Vec::new(),
        platform: Some("efi".into()),
        arch: Some("x86_64".into()),
        uuid: None,
        node: known.then(|| Uuid::from_u128(n.into())),
        name: known.then(|| format!("web-{n}")),
        journey: Some(format!("{n:016x}")),
        resolved: Vec::new(),
        hooks: vec![format!("volume-{n}")],
        outcome: outcome.into(),
        reason,
        micros: 200,
    }))
}

fn reported(step: &'static str, rc: Option<&str>) -> What {
    What::Reported { step: Some(step.into()), rc: rc.map(str::to_owned), attempt: 1 }
}
