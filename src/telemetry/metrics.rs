//! [`Metrics`]: every number that Prometheus may ask for, by name, unit and meaning.
//!
//! The only place where metrics have names. Label sets are closed: a label's value is a word out of the code, never
//! one out of a request, so the number of series does not grow with the machines. What is counted where it happens
//! is told by the methods; what is only known when somebody asks is a [`Reading`], taken for every scrape.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Bounds for what takes from a few microseconds (a boot request) up to half a minute (Cinder at its worst), in
/// seconds.
const BOUNDS: [f64; 14] =
    [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// The same for transfers, which take as long as the network lets them.
const TRANSFER_BOUNDS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// What is counted. Cheap to clone: every clone counts in the same place.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Series>);

#[derive(Debug)]
struct Series {
    registry: Registry,
    transfers: Family<Outcome, Counter>,
    transfer_time: Histogram,
    transfer_bytes: Counter,
    retransmissions: Counter,
    transfers_untold: Gauge,
    transfers_unheard: Gauge,
    requests: Family<Outcome, Counter>,
    request_time: Histogram,
    resolutions: Family<Source, Histogram>,
    reports: Family<Report, Counter>,
    cinder_calls: Family<Call, Counter>,
    cinder_time: Family<Kind, Histogram>,
    store_up: Gauge,
    store_time: Gauge<f64, std::sync::atomic::AtomicU64>,
    file_bytes: Family<File, Gauge>,
    queue: Gauge,
    lost: Gauge,
    commits: Counter,
    machines: Family<State, Gauge>,
    streams: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Report {
    step: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct File {
    file: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

/// What is measured when somebody asks.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// How long the store took to answer; `None` if it did not.
    pub store: Option<Duration>,
    /// Bytes of the store's file.
    pub store_bytes: u64,
    /// Bytes of the history's file.
    pub history_bytes: u64,
    /// Events that wait to be written into the history.
    pub queue: usize,
    /// Events that are in no history, since the start.
    pub lost: u64,
    /// Transfers that ended and that nobody was told of, since the start.
    pub transfers_untold: u64,
    /// TFTP requests that nobody took in time, since the start.
    pub transfers_unheard: u64,
    /// Machines by the state that their last verdict puts them into.
    pub machines: Vec<(&'static str, usize)>,
    /// Programs and people that follow events.
    pub streams: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let histogram = || Histogram::new(BOUNDS);
        let mut series = Series {
            registry: Registry::with_prefix("volboot"),
            transfers: Family::default(),
            transfer_time: Histogram::new(TRANSFER_BOUNDS),
            transfer_bytes: Counter::default(),
            retransmissions: Counter::default(),
            transfers_untold: Gauge::default(),
            transfers_unheard: Gauge::default(),
            requests: Family::default(),
            request_time: histogram(),
            resolutions: Family::new_with_constructor(histogram),
            reports: Family::default(),
            cinder_calls: Family::default(),
            cinder_time: Family::new_with_constructor(histogram),
            store_up: Gauge::default(),
            store_time: Gauge::default(),
            file_bytes: Family::default(),
            queue: Gauge::default(),
            lost: Gauge::default(),
            commits: Counter::default(),
            machines: Family::default(),
            streams: Gauge::default(),
        };
        series.register();
        Self(Arc::new(series))
    }

    /// A TFTP request has ended.
    pub fn transfer(&self, outcome: &'static str, bytes: u64, again: u64, took: Duration) {
        self.0.transfers.get_or_create(&Outcome { outcome }).inc();
        self.0.retransmissions.inc_by(again);
        if outcome == "complete" {
            self.0.transfer_bytes.inc_by(bytes);
            self.0.transfer_time.observe(took.as_secs_f64());
        }
    }

    /// A machine that asked for its script was answered.
    pub fn boot_request(&self, outcome: &'static str, took: Duration) {
        self.0.requests.get_or_create(&Outcome { outcome }).inc();
        self.0.request_time.observe(took.as_secs_f64());
    }

    /// It was found out where a volume is, or that it cannot be (`failed`).
    pub fn resolution(&self, source: &'static str, took: Duration) {
        self.0.resolutions.get_or_create(&Source { source }).observe(took.as_secs_f64());
    }

    /// A machine has reported a step.
    pub fn report(&self, step: &'static str) {
        self.0.reports.get_or_create(&Report { step }).inc();
    }

    /// Cinder was called. `kind` and `result` are words out of the code, never out of an answer.
    pub fn cinder_call(&self, kind: &'static str, result: &'static str, took: Duration) {
        self.0.cinder_calls.get_or_create(&Call { kind, result }).inc();
        self.0.cinder_time.get_or_create(&Kind { kind }).observe(took.as_secs_f64());
    }

    /// The history was written.
    pub fn history_commit(&self) {
        self.0.commits.inc();
    }

    /// All of it, as Prometheus reads it (OpenMetrics 1.0).
    pub fn text(&self, now: &Reading) -> String {
        let series = &self.0;
        series.store_up.set(i64::from(now.store.is_some()));
        series.store_time.set(now.store.unwrap_or_default().as_secs_f64());
        let files = [("store", now.store_bytes), ("history", now.history_bytes)];
        for (file, bytes) in files {
            series.file_bytes.get_or_create(&File { file }).set(gauge(bytes));
        }
        series.queue.set(gauge(now.queue as u64));
        series.lost.set(gauge(now.lost));
        series.transfers_untold.set(gauge(now.transfers_untold));
        series.transfers_unheard.set(gauge(now.transfers_unheard));
        for (state, count) in &now.machines {
            series.machines.get_or_create(&State { state }).set(gauge(*count as u64));
        }
        series.streams.set(gauge(now.streams as u64));
        let mut out = String::new();
        // Writing into a text cannot fail.
        let _ = text::encode(&mut out, &series.registry);
        out
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Series {
    /// The names. Prometheus itself adds the unit, and `_total` to counters.
    fn register(&mut self) {
        let registry = &mut self.registry;
        let version = Family::<Version, Gauge>::default();
        version.get_or_create(&Version { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build", "The version that runs", version);

        let tftp = registry.sub_registry_with_prefix("tftp");
        tftp.register("transfers", "TFTP requests that have ended, by outcome", self.transfers.clone());
        tftp.register_with_unit(
            "transfer",
            "How long whole transfers took",
            Unit::Seconds,
            self.transfer_time.clone(),
        );
        tftp.register_with_unit("sent", "Files sent whole", Unit::Bytes, self.transfer_bytes.clone());
        let again = self.retransmissions.clone();
        tftp.register("retransmissions", "Packets sent more than once", again);
        let untold = self.transfers_untold.clone();
        tftp.register("untold", "Transfers that are in no history: too many ended at once", untold);
        let unheard = self.transfers_unheard.clone();
        tftp.register("unheard", "Requests that no worker took in time", unheard);

        let boot = registry.sub_registry_with_prefix("boot");
        let requests = self.requests.clone();
        boot.register("requests", "Machines that asked for their script, by what they got", requests);
        let time = self.request_time.clone();
        boot.register_with_unit("request", "How long the answer took", Unit::Seconds, time);
        let resolutions = self.resolutions.clone();
        boot.register_with_unit(
            "resolution",
            "How long it took to find out where a volume is, by who knew it",
            Unit::Seconds,
            resolutions,
        );
        boot.register("reports", "Steps that machines reported", self.reports.clone());

        let cinder = registry.sub_registry_with_prefix("cinder");
        cinder.register("calls", "Calls of Cinder, by kind and result", self.cinder_calls.clone());
        let time = self.cinder_time.clone();
        cinder.register_with_unit("call", "How long calls of Cinder took", Unit::Seconds, time);

        let store = registry.sub_registry_with_prefix("store");
        store.register("up", "Whether the store answers", self.store_up.clone());
        let time = self.store_time.clone();
        store.register_with_unit("read", "How long the store took to answer just now", Unit::Seconds, time);
        registry.register_with_unit("file", "Size of a file", Unit::Bytes, self.file_bytes.clone());

        let history = registry.sub_registry_with_prefix("history");
        history.register("queue", "Events that wait to be written", self.queue.clone());
        history.register("lost", "Events that are in no history: too many came at once", self.lost.clone());
        history.register("commits", "Times the history was written", self.commits.clone());
        registry.register("machines", "Machines, by the state of their last boot", self.machines.clone());
        registry.register("streams", "Programs that follow events", self.streams.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_counted_is_told() {
        let metrics = Metrics::new();
        let took = Duration::from_millis(3);
        metrics.transfer("complete", 1000, 2, took);
        metrics.transfer("probe", 1000, 0, took);
        metrics.boot_request("boot", took);
        metrics.resolution("cinder", took);
        metrics.report("hooked");
        metrics.clone().cinder_call("export", "ok", took);
        metrics.history_commit();
        let text = metrics.text(&Reading {
            store: Some(Duration::from_micros(250)),
            lost: 7,
            machines: vec![("booted", 4)],
            ..Reading::default()
        });
        for line in [
            "volboot_tftp_transfers_total{outcome=\"complete\"} 1",
            "volboot_tftp_sent_bytes_total 1000",
            "volboot_tftp_retransmissions_total 2",
            "volboot_tftp_transfer_seconds_count 1",
            "volboot_boot_requests_total{outcome=\"boot\"} 1",
            "volboot_boot_request_seconds_bucket{le=\"0.005\"} 1",
            "volboot_boot_resolution_seconds_count{source=\"cinder\"} 1",
            "volboot_boot_reports_total{step=\"hooked\"} 1",
            "volboot_cinder_calls_total{kind=\"export\",result=\"ok\"} 1",
            "volboot_cinder_call_seconds_count{kind=\"export\"} 1",
            "volboot_store_up 1",
            "volboot_store_read_seconds 0.00025",
            "volboot_history_commits_total 1",
            "volboot_history_lost 7",
            "volboot_machines{state=\"booted\"} 4",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
