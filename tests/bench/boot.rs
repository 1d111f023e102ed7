//! Benchmark of boot requests and of the start-up time: `cargo bench --bench boot`.
//!
//! For stores of several sizes, each with a full history, it measures:
//! * the answer from the store (identify, read, decide, render);
//! * the record of its event in the timeline;
//! * a whole request over HTTP on loopback;
//! * the time from start to ready, after a graceful shutdown and after `kill -9`;
//! * the memory in use afterwards.

#![allow(clippy::cast_precision_loss)] // for display only

#[path = "../suite/daemon.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod daemon;
mod history;
mod nodes;
mod requests;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::Daemon;
use jiff::Timestamp;
use requests::{format_micros, measure_requests, median, percentiles, sample};
use volboot::attach::{Attach, Policy};
use volboot::boot::Boot;
use volboot::config::Config;
use volboot::model::{BootOutcome, BootRequest};
use volboot::script;
use volboot::store::{Attachments, Inventory, RedbStore, Store};
use volboot::telemetry::{Event, Metrics};
use volboot::timeline::Timeline;

/// Starts per measurement; the result is their median.
const STARTS: usize = 5;
/// Boot sessions in each machine's history. With ten thousand machines, the history is at its limit.
const JOURNEYS: u32 = 14;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    println!(
        "{:>6} {:>14} {:>14} {:>15} {:>8} {:>11} {:>8} {:>9} {:>8}",
        "nodes",
        "answer p50/p99",
        "event p50/p99",
        "request p50/p99",
        "start",
        "after kill",
        "store",
        "history",
        "memory"
    );
    for nodes in [10, 1000, 10_000] {
        let site = daemon::site("");
        let store = site.path().join("store.redb");
        let history_path = site.path().join("history.redb");
        runtime.block_on(nodes::fill(&store, nodes));
        history::fill(&history_path, nodes, JOURNEYS);
        let (answers, events) = runtime.block_on(measure_answers(&store, &history_path, nodes));
        let after_stop = (0..STARTS).map(|_| measure_start(site.path(), Daemon::stop));
        let after_stop = median(after_stop.collect());
        let after_kill = (0..=STARTS).map(|_| measure_start(site.path(), Daemon::kill));
        // The first one follows a graceful shutdown.
        let after_kill = median(after_kill.skip(1).collect());
        let daemon = Daemon::start(site.path());
        let requests = measure_requests(daemon.http, nodes);
        let megabytes = |path: &Path| {
            let bytes = std::fs::metadata(path).expect("the file exists").len();
            format!("{:.1} MB", bytes as f64 / 1e6)
        };
        println!(
            "{nodes:>6} {:>14} {:>14} {:>15} {:>5.1} ms {:>8.1} ms {:>8} {:>9} {:>8}",
            format_micros(answers),
            format_nanos(events),
            format_micros(requests),
            after_stop.as_secs_f64() * 1e3,
            after_kill.as_secs_f64() * 1e3,
            megabytes(&store),
            megabytes(&history_path),
            daemon.memory("VmRSS:"),
        );
    }
}

/// Measures the answers, and the record of their events.
async fn measure_answers(path: &Path, history_path: &Path, nodes: u32) -> (Vec<Duration>, Vec<Duration>) {
    let timeline = Timeline::open_blocking(Some(history_path), Metrics::new());
    let store: Arc<dyn Store> = loop {
        // The store of `fill` may still hold the file lock for a moment.
        if let Ok(store) = RedbStore::open(path) {
            break Arc::new(store);
        }
    };
    let config = Config::default();
    let policy = Policy { resolutions: 1, ..Policy::default() };
    let attach = Attach::new(Attachments::new(Arc::clone(&store)), None, policy);
    let inventory = Inventory::new(Arc::clone(&store));
    let boot = Boot::new(inventory, attach, timeline.loop_detector(), config.enabled_storage_interfaces);
    let (mut answer_times, mut event_times) = (Vec::new(), Vec::new());
    for n in sample(nodes) {
        let request = BootRequest::new(history::mac(n));
        let started_at = Instant::now();
        let decision = boot.answer(&request).await;
        let script =
            script::build_script(&decision.answer, &request, config.boot).expect("the script is built");
        answer_times.push(started_at.elapsed());
        assert!(script.into_text().contains("sanboot"));
        let what = history::boot_request(n, BootOutcome::Boot, None);
        let event = Event::new(Timestamp::now(), Some(history::mac(n)), None, what);
        let started_at = Instant::now();
        timeline.record(event);
        event_times.push(started_at.elapsed());
    }
    store.close().await.expect("the store closes");
    timeline.close_blocking();
    assert_eq!(timeline.dropped_events(), 0, "the timeline dropped events");
    (answer_times, event_times)
}

/// Starts and ends volboot; returns the start-up time.
fn measure_start(site: &Path, end: impl FnOnce(&mut Daemon)) -> Duration {
    let mut daemon = Daemon::start(site);
    end(&mut daemon);
    daemon.startup_time
}

fn format_nanos(times: Vec<Duration>) -> String {
    let (p50, p99) = percentiles(times);
    format!("{}/{} ns", p50.as_nanos(), p99.as_nanos())
}
