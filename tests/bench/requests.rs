//! Boot requests over HTTP on one connection, and the percentiles of their times.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::{daemon, history};

/// Requests per measurement.
const SAMPLES: u32 = 5000;

/// Numbers below `nodes`, in an order that defeats caches.
pub(crate) fn sample(nodes: u32) -> impl Iterator<Item = u32> {
    (0..SAMPLES).map(move |n| n.wrapping_mul(2_654_435_761) % nodes)
}

/// Measures boot requests, one after another.
pub(crate) fn measure_requests(address: SocketAddr, nodes: u32) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).expect("the connection opens");
    stream.set_nodelay(true).expect("the option is set");
    stream.set_read_timeout(Some(daemon::LIMIT)).expect("the option is set");
    let mut buffer = vec![0; 16 << 10];
    let mut times = Vec::new();
    for n in sample(nodes) {
        let request = format!("GET /boot/{} HTTP/1.1\r\nHost: x\r\n\r\n", history::mac(n).to_hyphenated());
        let started_at = Instant::now();
        stream.write_all(request.as_bytes()).expect("the bytes are sent");
        let mut length = 0;
        // Every boot script ends with this line, and fits into the buffer.
        while !buffer[..length].ends_with(b"exit 1\n") {
            let size = stream.read(&mut buffer[length..]).expect("the response arrives");
            assert!(size > 0, "closed after {length} bytes");
            length += size;
        }
        times.push(started_at.elapsed());
    }
    times
}

pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

pub(crate) fn format_micros(times: Vec<Duration>) -> String {
    let (p50, p99) = percentiles(times);
    format!("{}/{} µs", p50.as_micros(), p99.as_micros())
}

/// The 50th and 99th percentile.
pub(crate) fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    let percentile = |share: usize| times[(times.len() - 1) * share / 100];
    (percentile(50), percentile(99))
}
